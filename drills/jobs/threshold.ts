/** A job of which three phones of ten fail: its threshold pauses it, twice, and an admin aborts it. */
import { setTimeout as wait } from 'node:timers/promises'
import type { Figure } from '../drill.ts'
import type { JobsAdmin, JobView } from './admin.ts'
import { FRAGILE } from './phones.ts'

export interface ThresholdOptions {
  readonly jobId: string
  /** Members in all; the job must be paused twice before each is released. */
  readonly devices: number
  readonly perMinute: number
  readonly ttlS: number
  /** How long the paused job is watched. */
  readonly watchedS: number
}

const MAX_FAILED_PCT = 5
const MIN_RESULTS = 20
/** Slow phones have reported enough before all are released: a release takes at least 15 s. */
const LEAST_RELEASE_MINUTES = 0.25
const POLL_MS = 50
const MOST_MS = 120_000

const endedOf = ({ counts }: JobView) =>
  (counts['completed'] ?? 0) + (counts['failed'] ?? 0) + (counts['expired'] ?? 0)

export async function runThreshold(
  admin: JobsAdmin,
  { jobId, devices, perMinute, ttlS, watchedS }: ThresholdOptions,
): Promise<readonly Figure[]> {
  const path = `/admin/jobs/${jobId}`
  await admin.change('/admin/jobs', {
    job_id: jobId,
    where: 'alias:J-*',
    action: 'ring',
    params: FRAGILE,
    ttl_s: ttlS,
    per_minute: Math.min(perMinute, devices / LEAST_RELEASE_MINUTES),
    max_failed_pct: MAX_FAILED_PCT,
    min_results: MIN_RESULTS,
  })
  const first = await until(admin, jobId, ({ state }) => state === 'paused')
  await wait(watchedS * 1_000)
  const later = await until(admin, jobId, () => true)
  const resumed = await admin.change(`${path}/resume`)
  const second = await until(admin, jobId, ({ state }) => state === 'paused')
  await admin.change(`${path}/abort`)
  await admin.change(`${path}/abort`)
  const last = await until(admin, jobId, ({ counts, devices }) => endedAll(counts, devices))
  const audited = (await admin.audited(jobId)).join(' ')
  const expected = 'job.create job.pause job.resume job.pause job.abort'
  return [
    {
      promise: `of 30 % failing phones, a threshold of ${MAX_FAILED_PCT} % pauses the job once ${MIN_RESULTS} have ended; nothing is released afterwards`,
      measured: `${first.reason}: paused by the time ${endedOf(first)} had ended, ${first.released} released; ${later.released} released and ${endedOf(later)} ended ${watchedS} s later`,
      isHeld:
        first.reason === 'threshold' &&
        endedOf(first) >= MIN_RESULTS &&
        later.released === first.released &&
        first.verdict.code === 'paused_by_threshold',
    },
    {
      promise: 'resume releases more and counts anew; abort cancels what is open',
      measured: `${resumed.state}, then ${second.state} (${second.reason}) after ${second.released - first.released} more and ${endedOf(second) - endedOf(later)} ends; ${last.state}: ${JSON.stringify(last.counts)}`,
      isHeld:
        resumed.state === 'running' &&
        second.reason === 'threshold' &&
        second.released > first.released &&
        endedOf(second) - endedOf(later) >= MIN_RESULTS &&
        last.state === 'aborted' &&
        (last.counts['cancelled'] ?? 0) > 0,
    },
    {
      promise: 'each transition is in the audit log once',
      measured: audited,
      isHeld: audited === expected,
    },
  ]
}

function endedAll(counts: JobView['counts'], devices: number): boolean {
  const ended = ['completed', 'failed', 'expired', 'cancelled']
  return ended.reduce((sum, status) => sum + (counts[status] ?? 0), 0) === devices
}

/** The first read for which it holds. */
async function until(
  admin: JobsAdmin,
  jobId: string,
  holds: (view: JobView) => boolean,
): Promise<JobView> {
  const endsAtMs = performance.now() + MOST_MS
  for (;;) {
    const view = await admin.read(jobId)
    if (view !== undefined && holds(view)) return view
    if (performance.now() > endsAtMs) throw new Error(`${jobId} stays ${JSON.stringify(view)}`)
    await wait(POLL_MS)
  }
}
