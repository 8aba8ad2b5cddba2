/** The endpoints of jobs as data: rows of routes/table.ts. */
import { PAGE_QUERY } from '../../http/page.ts'
import { NO_NAMES } from '../../http/route.ts'

const JSON_BYTES = 16 * 1024

export const JOB_ROUTES = {
  createJob: {
    method: 'POST',
    path: '/admin/jobs',
    guard: 'admin',
    scopes: ['command'],
    takes: {
      query: [],
      fields: [
        'job_id',
        'where',
        'action',
        'params',
        'ttl_s',
        'per_minute',
        'max_failed_pct',
        'min_results',
        'not_before',
        'expect_devices',
        'dry_run',
        'note',
      ],
    },
    body: JSON_BYTES,
  },
  listJobs: {
    method: 'GET',
    path: '/admin/jobs',
    guard: 'admin',
    scopes: ['command', 'read'],
    takes: { query: ['state', ...PAGE_QUERY], fields: [] },
    body: 0,
  },
  readJob: {
    method: 'GET',
    path: '/admin/jobs/{job_id}',
    guard: 'admin',
    scopes: ['command', 'read'],
    takes: { query: ['wait_ms'], fields: [] },
    body: 0,
  },
  listMembers: {
    method: 'GET',
    path: '/admin/jobs/{job_id}/commands',
    guard: 'admin',
    scopes: ['command', 'read'],
    takes: { query: ['status', 'outcome', ...PAGE_QUERY], fields: [] },
    body: 0,
  },
  pauseJob: {
    method: 'POST',
    path: '/admin/jobs/{job_id}/pause',
    guard: 'admin',
    scopes: ['command'],
    takes: NO_NAMES,
    body: 0,
  },
  resumeJob: {
    method: 'POST',
    path: '/admin/jobs/{job_id}/resume',
    guard: 'admin',
    scopes: ['command'],
    takes: NO_NAMES,
    body: 0,
  },
  abortJob: {
    method: 'POST',
    path: '/admin/jobs/{job_id}/abort',
    guard: 'admin',
    scopes: ['command'],
    takes: { query: [], fields: ['cancel_open'] },
    body: JSON_BYTES,
  },
} as const
