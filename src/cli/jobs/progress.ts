/** How far a job is, in one line. */
import type { JobInList } from '../api/openapi.ts'
import { duration } from '../terminal/ago.ts'
import { bar } from '../terminal/bar.ts'

type Counts = JobInList['counts']

/** Members that have no command to wait for any more. */
export function endedOf({ completed, failed, expired, cancelled }: Counts): number {
  return completed + failed + expired + cancelled
}

/** Members whose command is out and has not ended. */
export function openOf({ queued, sent, delivered, push_failed }: Counts): number {
  return queued + sent + delivered + push_failed
}

/** `running`, or `paused (threshold)`. */
export function stateOf({ state, reason }: JobInList): string {
  return reason === null ? state : `${state} (${reason})`
}

/** `completed 30, failed 2, waiting 300`: what is not zero, the ends first. */
export function countsText(counts: Counts): string {
  const { waiting, queued, sent, delivered, push_failed, ...ends } = counts
  const inOrder = { ...ends, push_failed, delivered, sent, queued, waiting }
  const parts = Object.entries(inOrder).filter(([, count]) => count > 0)
  return parts.map(([status, count]) => `${status} ${count}`).join(', ')
}

/** `[########............] 42 % 174 of 412 ended, 3 failed, 60/min, all out in 4 min`. */
export function progressOf(job: JobInList): string {
  const { counts, devices, state, rate, eta_s } = job
  const ended = endedOf(counts)
  const bad = counts.failed + counts.expired
  const isReleasing = state === 'running' && counts.waiting > 0
  return [
    `${bar(devices === 0 ? 1 : ended / devices)} ${ended} of ${devices} ended`,
    bad > 0 ? `${bad} failed` : '',
    state === 'running' ? '' : stateOf(job),
    isReleasing && rate.released_per_min > 0 ? `${rate.released_per_min}/min` : '',
    isReleasing && eta_s !== null && eta_s > 0 ? `all out in ${duration(eta_s * 1_000)}` : '',
  ]
    .filter((part) => part !== '')
    .join(', ')
}
