/** GET /admin/jobs…: the progress of a job and why, lists; POST …/pause, …/resume, …/abort. */

import type { JobStore } from '../../db/jobs/jobs.ts'
import type { MemberRow } from '../../db/jobs/members.ts'
import type { JobRow } from '../../db/jobs/rows.ts'
import type { Outcome } from '../../domain/commands/command.ts'
import {
  JOB_ID,
  JOB_STATES,
  type JobControl,
  jobKey,
  MEMBER_STATUSES,
  type MemberStatus,
  NONE_OFFLINE,
  type OfflineMembers,
} from '../../domain/commands/job.ts'
import { AppError } from '../../domain/errors.ts'
import { asObject, booleanField, queryEnum, queryInt } from '../../http/fields.ts'
import { listReply, readPage } from '../../http/page.ts'
import { type BaseRequest, type Endpoint, json } from '../../http/route.ts'
import { readUntil } from '../../lib/notifier.ts'
import { readStatusAndOutcome } from '../commands/command-fields.ts'
import type { Jobs } from './feature.ts'
import { jobJson, memberJson } from './job-json.ts'

const WAIT_MS = { min: 0, max: 30_000 } as const
/** Number of a member, in a cursor. */
const MEMBER_N = /^[1-9][0-9]{0,6}$/

export function readJobEndpoint(deps: Jobs): Endpoint<'admin'> {
  return {
    async handle(request) {
      const jobId = jobIdOf(request)
      const job = await readUntil({
        read: async () => known(await deps.jobs.find(jobId)),
        isDone: ({ endedAtText }) => endedAtText !== null,
        waitMs: queryInt(request.query, 'wait_ms', WAIT_MS, 0),
        waitForChange: (timeoutMs) => deps.waitForChange(jobKey(jobId), timeoutMs, request.signal),
        tryAcquire: () => deps.tryAcquireWait(request.admin),
        signal: request.signal,
        nowMs: deps.nowMs,
      })
      return json(200, await story(deps.jobsForAdmins, job, deps))
    },
  }
}

export function listJobsEndpoint(deps: Jobs): Endpoint<'admin'> {
  return {
    async handle({ query }) {
      const page = readPage(query, 'jobs')
      const read = await deps.jobs.list(page, queryEnum(query, 'state', JOB_STATES) ?? null)
      const keyOf = (row: JobRow) => ({ at: row.createdAtText, id: row.jobId })
      return listReply(read, page, keyOf, (row) => jobJson(row, undefined))
    },
  }
}

export function listMembersEndpoint(deps: Jobs): Endpoint<'admin'> {
  return {
    async handle(request) {
      const { query } = request
      const page = readPage(query, 'commands', (id) => MEMBER_N.test(id))
      const filter = {
        limit: page.limit,
        afterN: Number(page.after?.id ?? 0),
        ...readStatusAndOutcome(query, MEMBER_STATUSES, statusesWith),
      }
      const job = known(await deps.jobs.find(jobIdOf(request)))
      const read = await deps.jobs.members(job, filter)
      const trouble = deps.senderTrouble()
      const keyOf = ({ n }: MemberRow) => ({ at: job.createdAtText, id: String(n) })
      return listReply(read, page, keyOf, (row) => memberJson(job, row, trouble))
    },
  }
}

/** Of members that have this outcome; one that came late leaves the status. */
function statusesWith(outcome: Outcome): readonly MemberStatus[] {
  return [outcome === 'success' ? 'completed' : 'failed', 'expired', 'cancelled']
}

export function controlJobEndpoint(deps: Jobs, control: JobControl): Endpoint<'admin'> {
  return {
    async handle(request) {
      const jobId = jobIdOf(request)
      const { context, admin, body } = request
      const fields = body === undefined ? {} : asObject(body)
      const cancelOpen = booleanField(fields, 'cancel_open') ?? true
      const by = { admin, requestId: context.requestId, ip: context.ip }
      const outcome = await deps.jobs.control(jobId, control, by, cancelOpen)
      if (outcome.kind === 'unknown') throw jobUnknown()
      if (outcome.kind === 'ended') {
        throw new AppError('job_ended', `This job is ${outcome.state} already.`)
      }
      const { job, isChanged } = outcome
      if (isChanged) {
        const { completed, failed, expired, cancelled } = job.counts
        const { action, devices, reason } = job
        request.log(
          {
            event: `job.${control}`,
            fields: { action, devices, completed, failed, expired, cancelled, reason, admin },
          },
          jobId,
        )
        deps.wakeReleases()
      }
      return json(200, await story(deps.jobs, job, deps))
    },
  }
}

async function story(jobs: Pick<JobStore, 'offline'>, job: JobRow, deps: Jobs) {
  return jobJson(job, await offlineMembers(jobs, job, deps))
}

/** Only one verdict needs them. */
export async function offlineMembers(
  jobs: Pick<JobStore, 'offline'>,
  job: JobRow,
  { offlineAfterS }: Pick<Jobs, 'offlineAfterS'>,
): Promise<OfflineMembers> {
  const { state, counts } = job
  if (state !== 'running' || counts.waiting > 0) return NONE_OFFLINE
  return jobs.offline(job, offlineAfterS)
}

function jobIdOf(request: BaseRequest): string {
  const jobId = request.params['job_id'] ?? ''
  if (!JOB_ID.test(jobId)) throw jobUnknown()
  return jobId
}

function known(job: JobRow | undefined): JobRow {
  if (job === undefined) throw jobUnknown()
  return job
}

function jobUnknown(): AppError {
  return new AppError('job_unknown', 'No job has this job_id.')
}
