/**
 * Jobs: one action for a selection of devices. A job is a row; its members are fixed when it is created. Each member waits
 * as a row of `job_members` until its release inserts its command, an ordinary one in every way, with the id `<job_id>.<n>`.
 *
 * States, and who may change them. Each change is one `update` whose `where` names the states that it starts from, on a
 * locked row, so that no other change can be written:
 *
 *   from                        to          when
 *   (none)                      scheduled   created with a `not_before` in the future
 *   (none)                      running     created without one
 *   scheduled                   running     `not_before` has come
 *   scheduled, running          paused      an admin pauses it (reason `admin`)
 *   running                     paused      a member waits and the threshold is reached (reason `threshold`)
 *   paused                      scheduled   an admin resumes it before its `not_before`
 *   paused                      running     an admin resumes it; the threshold starts a new count
 *   running, paused             done        every member has been released, and every command has ended
 *   scheduled, running, paused  aborted     an admin aborts it; members that wait are cancelled by that
 *
 * `done` and `aborted` are final. Pausing a paused job, resuming one that is not paused and aborting an aborted one change
 * nothing. Members are released only while the job is running. A member's status is `waiting`, then that of its command; a
 * command of an aborted job ends like any other, or is cancelled (`cancel_open`).
 *
 * The pace is a token bucket in the row (PACE). The threshold is compared before each release, on the locked row, with every
 * result that was durable by then. So any replica may release, and none has to agree with another.
 */

import { OPEN_STATUSES } from './command.ts'

/** Shorter than a command's id, which adds `.` and the member's number. */
export const JOB_ID = /^[A-Za-z0-9._:-]{1,120}$/

/** Key of a job among those who wait for changes: no command has a space in its id. */
export function jobKey(jobId: string): string {
  return `job ${jobId}`
}

export const JOB_STATES = ['scheduled', 'running', 'paused', 'done', 'aborted'] as const

export type JobState = (typeof JOB_STATES)[number]

export type JobReason = 'admin' | 'threshold'

/** What an admin may do with a job. */
export type JobControl = 'pause' | 'resume' | 'abort'

/** The states in which a control changes the job. */
export const CHANGES_FROM: Readonly<Record<JobControl, readonly JobState[]>> = {
  pause: ['scheduled', 'running'],
  resume: ['paused'],
  abort: ['scheduled', 'running', 'paused'],
}

/** What a control means for a job in this state. `unchanged`: it is what the admin wants already. */
export function effectOf(control: JobControl, state: JobState): 'changed' | 'unchanged' | 'ended' {
  if (CHANGES_FROM[control].includes(state)) return 'changed'
  if (state === 'done' || (state === 'aborted' && control !== 'abort')) return 'ended'
  return 'unchanged'
}

/** Statuses of members, as a job counts them. `completed` is success, `failed` any other outcome. */
export const MEMBER_STATUSES = [
  'waiting',
  ...OPEN_STATUSES,
  'completed',
  'failed',
  'expired',
  'cancelled',
] as const

export type MemberStatus = (typeof MEMBER_STATUSES)[number]

export type JobCounts = Readonly<Record<MemberStatus, number>>

/** Members whose command is out and has not ended. */
export function openOf({ queued, sent, delivered, push_failed: pushFailed }: JobCounts): number {
  return queued + sent + delivered + pushFailed
}

export function endedOf({ completed, failed, expired, cancelled }: JobCounts): number {
  return completed + failed + expired + cancelled
}

/**
 * At most `per_minute` members within any 60 s. The bucket holds what PACE.burstS seconds fill, at least one member. So a
 * late release does not catch up: no burst follows a pause, a restart or a stopped database. In 60 s the bucket fills with
 * `per_minute` less a full bucket.
 */
export const PACE = { burstS: 1, windowS: 60 } as const

/** Failures of a job that is done among which the commonest message is looked for, in the order of their release. */
export const MAX_COMPARED = 10_000

/** Members a second. */
function fillRate(perMinute: number): number {
  return perMinute / (PACE.windowS + PACE.burstS)
}

export interface JobFacts {
  readonly state: JobState
  readonly reason: JobReason | null
  /** The admin who paused or aborted it. */
  readonly changedBy: string | null
  readonly notBefore: Date | null
  readonly devices: number
  readonly counts: JobCounts
  readonly isCancelling: boolean
  readonly maxFailedPct: number | null
  readonly perMinute: number | null
  /** Of those that ended since the last resume. */
  readonly threshold: { readonly ended: number; readonly failed: number }
  /** Members released in a minute, lately. */
  readonly releasedPerMin: number
  /** The commonest message among the failures of a job that is done. */
  readonly failure: { readonly message: string; readonly count: number } | null
  /** The database's clock. */
  readonly now: Date
}

/** Open commands of a job whose device is offline, among the first `looked` of them. */
export interface OfflineMembers {
  readonly looked: number
  readonly offline: number
  /** When the one that is silent for longest was heard last; null: never, or none is offline. */
  readonly silentSince: Date | null
}

export const NONE_OFFLINE: OfflineMembers = { looked: 0, offline: 0, silentSince: null }

export type JobVerdictCode =
  | 'aborted'
  | 'paused_by_admin'
  | 'paused_by_threshold'
  | 'scheduled'
  | 'releasing'
  | 'waiting_for_devices'
  | 'waiting_for_results'
  | 'done'
  | 'done_with_failures'

export interface JobVerdict {
  readonly code: JobVerdictCode
  readonly detail: string
}

/** Seconds until the last member is released, as far as known; 0: none waits. */
export function etaS(job: JobFacts): number | null {
  const { waiting } = job.counts
  if (waiting === 0) return 0
  if (job.state === 'paused') return null
  const perS = job.perMinute === null ? job.releasedPerMin / 60 : fillRate(job.perMinute)
  if (perS === 0) return null
  const startsInS =
    job.state === 'scheduled' && job.notBefore !== null
      ? Math.max(0, (job.notBefore.getTime() - job.now.getTime()) / 1_000)
      : 0
  return Math.ceil(startsInS + waiting / perS)
}

/** Says why a job is where it is. The first rule that holds gives the code. */
export function jobVerdict(job: JobFacts, members: OfflineMembers): JobVerdict {
  const { counts, state } = job
  switch (state) {
    case 'aborted':
      return { code: 'aborted', detail: `${job.changedBy} aborted it.${rest(job)}` }
    case 'paused':
      return job.reason === 'threshold'
        ? { code: 'paused_by_threshold', detail: thresholdDetail(job) }
        : {
            code: 'paused_by_admin',
            detail: `${job.changedBy} paused it. Waiting: ${counts.waiting}.`,
          }
    case 'scheduled':
      return {
        code: 'scheduled',
        detail: `Nothing is released before ${job.notBefore?.toISOString()}.`,
      }
    case 'running':
      return runningVerdict(job, members)
    case 'done':
      return doneVerdict(job)
  }
}

function rest(job: JobFacts): string {
  const open = openOf(job.counts)
  if (open === 0) return ''
  return job.isCancelling
    ? ` Open commands being cancelled: ${open}.`
    : ` Commands that were out and go on: ${open}.`
}

/** Results that came since the pause count, too. */
function thresholdDetail({ threshold, maxFailedPct, counts }: JobFacts): string {
  const { failed, ended } = threshold
  return `At least ${maxFailedPct} % had failed; by now ${failed} of ${ended} that ended. Waiting: ${counts.waiting}.`
}

function runningVerdict(job: JobFacts, { looked, offline, silentSince }: OfflineMembers) {
  const { counts } = job
  if (counts.waiting > 0) {
    const eta = etaS(job)
    const until =
      eta === null ? '' : `, until about ${new Date(job.now.getTime() + eta * 1_000).toISOString()}`
    return { code: 'releasing', detail: `${counts.waiting} left to release${until}.` } as const
  }
  const open = openOf(job.counts)
  if (offline > 0) {
    const which = looked < open ? `Of the first ${looked} of ${open} open` : `Of ${open} open`
    const since = silentSince === null ? 'one was never heard of' : silentSince.toISOString()
    const detail = `${which}, ${offline} have devices that are offline, since ${since}.`
    return { code: 'waiting_for_devices', detail } as const
  }
  return { code: 'waiting_for_results', detail: `${open} have not reported yet.` } as const
}

function doneVerdict({ counts, devices, failure }: JobFacts): JobVerdict {
  const { failed, expired, cancelled } = counts
  if (failed + expired === 0) {
    const but = cancelled === 0 ? '' : `, ${cancelled} were cancelled`
    return { code: 'done', detail: `${counts.completed} of ${devices} completed${but}.` }
  }
  const summary = `${failed} of ${devices} failed, ${expired} expired, ${cancelled} were cancelled.`
  return { code: 'done_with_failures', detail: summary + commonestReason(failed, expired, failure) }
}

/** Of more failures than are compared, the message is taken to have the same share. */
function commonestReason(failed: number, expired: number, failure: JobFacts['failure']): string {
  const compared = Math.min(failed, MAX_COMPARED)
  if (failure !== null && failure.count * failed >= expired * compared) {
    const among = compared < failed ? ` of the first ${compared}` : ''
    return ` The commonest reason: "${failure.message}" (${failure.count}${among}).`
  }
  return expired > 0 ? ` The commonest reason: no result came in time (${expired}).` : ''
}
