/**
 * The endpoints as data. Start here.
 *
 * A device enrolls with an enrollment token and then authenticates with its device token. A command is stored, pushed
 * through FCM and handed over in the response to a heartbeat; a result ends it. A job is one command for every device of a
 * selection. A build is an APK with its bytes.
 * routes/endpoints.ts gives each row its code; openapi.json and SECURITY.md describe the same rows.
 */
import { PAGE_QUERY } from '../http/page.ts'
import { NO_NAMES, type RouteShape } from '../http/route.ts'
import { JOB_ROUTES } from './jobs/table.ts'

const JSON_BYTES = 16 * 1024
/** Body of a heartbeat, of a result. */
const REPORT_BYTES = 64 * 1024

const SEND_COMMAND = {
  method: 'POST',
  guard: 'admin',
  scopes: ['command'],
  takes: {
    query: ['wait_ms', 'wait_for'],
    fields: ['device_id', 'alias', 'action', 'params', 'request_id', 'ttl_s'],
  },
  body: JSON_BYTES,
} as const

/** In the order of the series of /metrics. */
export const ROUTES = {
  // devices
  register: {
    method: 'POST',
    path: '/v1/register',
    guard: 'enrollment-token',
    body: JSON_BYTES,
  },
  heartbeat: {
    method: 'POST',
    path: '/v1/heartbeat',
    guard: 'device-token',
    body: REPORT_BYTES,
  },
  actionResult: {
    method: 'POST',
    path: '/v1/action-result',
    guard: 'device',
    body: REPORT_BYTES,
  },
  deviceAck: {
    method: 'POST',
    path: '/v1/devices/{device_id}/ack',
    guard: 'device',
    body: REPORT_BYTES,
  },
  /** Agents with an empty id request /v1/devices//ack, which the router reads as this path. */
  ack: {
    method: 'POST',
    path: '/v1/devices/ack',
    guard: 'device',
    body: REPORT_BYTES,
  },
  pushToken: {
    method: 'POST',
    path: '/v1/devices/fcm-token',
    guard: 'device',
    body: JSON_BYTES,
  },
  /** The same operation. */
  pushId: {
    method: 'POST',
    path: '/v1/devices/push-id',
    guard: 'device',
    body: JSON_BYTES,
  },
  downloadLatest: {
    method: 'GET',
    path: '/v1/apk/download-latest',
    guard: 'downloader',
    body: 0,
  },
  downloadOffered: {
    method: 'GET',
    path: '/v1/apk/builds/{build_id}',
    guard: 'device',
    body: 0,
  },

  // admins
  createTokens: {
    method: 'POST',
    path: '/v1/enroll-tokens',
    guard: 'admin',
    scopes: ['enroll'],
    takes: { query: [], fields: ['aliases', 'expires_in_sec', 'uses_allowed', 'note', 'labels'] },
    body: JSON_BYTES,
  },
  listTokens: {
    method: 'GET',
    path: '/v1/enroll-tokens',
    guard: 'admin',
    scopes: ['enroll', 'read'],
    takes: { query: ['status', 'alias', ...PAGE_QUERY], fields: [] },
    body: 0,
  },
  revokeToken: {
    method: 'DELETE',
    path: '/v1/enroll-tokens/{token_id}',
    guard: 'admin',
    scopes: ['enroll'],
    takes: NO_NAMES,
    body: 0,
  },
  sendCommand: { path: '/admin/command', ...SEND_COMMAND },
  /** The same beside the other routes of commands. */
  createCommand: { path: '/admin/commands', ...SEND_COMMAND },
  listCommands: {
    method: 'GET',
    path: '/admin/commands',
    guard: 'admin',
    scopes: ['command', 'read'],
    takes: {
      query: ['device_id', 'alias', 'status', 'outcome', 'action', ...PAGE_QUERY],
      fields: [],
    },
    body: 0,
  },
  readCommand: {
    method: 'GET',
    path: '/admin/commands/{request_id}',
    guard: 'admin',
    scopes: ['command', 'read'],
    takes: { query: ['wait_ms', 'wait_for'], fields: [] },
    body: 0,
  },
  cancelCommand: {
    method: 'DELETE',
    path: '/admin/commands/{request_id}',
    guard: 'admin',
    scopes: ['command'],
    takes: NO_NAMES,
    body: 0,
  },
  ...JOB_ROUTES,
  listDevices: {
    method: 'GET',
    path: '/admin/devices',
    guard: 'admin',
    scopes: ['read'],
    takes: { query: ['alias', 'offline_for_s', 'where', 'order', ...PAGE_QUERY], fields: [] },
    body: 0,
  },
  readDevice: {
    method: 'GET',
    path: '/admin/devices/{device_id}',
    guard: 'admin',
    scopes: ['read'],
    takes: NO_NAMES,
    body: 0,
  },
  readHistory: {
    method: 'GET',
    path: '/admin/devices/{device_id}/heartbeats',
    guard: 'admin',
    scopes: ['read'],
    takes: { query: ['since', 'until', 'step_s', ...PAGE_QUERY], fields: [] },
    body: 0,
  },
  readFleet: {
    method: 'GET',
    path: '/admin/fleet',
    guard: 'admin',
    scopes: ['read'],
    takes: { query: ['where'], fields: [] },
    body: 0,
  },
  changeDevice: {
    method: 'PATCH',
    path: '/admin/devices/{device_id}',
    guard: 'admin',
    scopes: ['command'],
    takes: { query: [], fields: ['labels'] },
    body: JSON_BYTES,
  },
  labelSelection: {
    method: 'POST',
    path: '/admin/devices/labels',
    guard: 'admin',
    scopes: ['command'],
    takes: { query: [], fields: ['where', 'labels', 'expect_devices', 'dry_run'] },
    body: JSON_BYTES,
  },
  deleteDevice: {
    method: 'DELETE',
    path: '/admin/devices/{device_id}',
    guard: 'admin',
    scopes: ['admin'],
    takes: { query: ['erase'], fields: [] },
    body: 0,
  },
  uploadBuild: {
    method: 'PUT',
    path: '/admin/apk/builds/{build_id}',
    guard: 'admin',
    scopes: ['apk'],
    takes: {
      query: [
        'version_code',
        'version_name',
        'build_type',
        'git_sha',
        'ci_run_id',
        'signer_fingerprint',
        'accept_signer',
        'release',
      ],
      fields: [],
    },
    body: 'stream',
  },
  listBuilds: {
    method: 'GET',
    path: '/admin/apk/builds',
    guard: 'admin',
    scopes: ['apk', 'read'],
    takes: { query: ['build_type', ...PAGE_QUERY], fields: [] },
    body: 0,
  },
  downloadBuild: {
    method: 'GET',
    path: '/admin/apk/builds/{build_id}/download',
    guard: 'admin',
    scopes: ['apk', 'read'],
    takes: NO_NAMES,
    body: 0,
  },
  releaseBuild: {
    method: 'POST',
    path: '/admin/apk/builds/{build_id}/release',
    guard: 'admin',
    scopes: ['apk'],
    takes: NO_NAMES,
    body: 0,
  },
  withdrawBuild: {
    method: 'DELETE',
    path: '/admin/apk/builds/{build_id}',
    guard: 'admin',
    scopes: ['apk'],
    takes: NO_NAMES,
    body: 0,
  },
  listAudit: {
    method: 'GET',
    path: '/admin/audit',
    guard: 'admin',
    scopes: ['admin', 'read'],
    takes: {
      query: ['since', 'until', 'admin', 'what', 'subject', 'alias', ...PAGE_QUERY],
      fields: [],
    },
    body: 0,
  },

  /** By `Accept: text/event-stream` as a stream. */
  readEvents: {
    method: 'GET',
    path: '/admin/events',
    guard: 'admin',
    scopes: ['read'],
    takes: { query: ['after', 'types', 'wait_ms', 'limit'], fields: [] },
    body: 0,
  },

  // operations
  /** For admins only: an anonymous flood of requests for so long a response would fill the kernel's buffers. */
  openApi: {
    method: 'GET',
    path: '/openapi.json',
    guard: 'admin',
    scopes: ['command', 'enroll', 'apk', 'metrics', 'read'],
    takes: NO_NAMES,
    body: 0,
  },
  healthz: { method: 'GET', path: '/healthz', guard: 'open', body: 0, isProbe: true },
  readyz: { method: 'GET', path: '/readyz', guard: 'open', body: 0, isProbe: true },
  /** Served only with METRICS_ENABLED. */
  metrics: {
    method: 'GET',
    path: '/metrics',
    guard: 'admin',
    scopes: ['metrics'],
    takes: 'anything', // scrapers add parameters of their own; none of them selects anything
    body: 0,
  },
} as const satisfies Readonly<Record<string, RouteShape>>

export const ROUTE_LIST: readonly RouteShape[] = Object.values(ROUTES)
