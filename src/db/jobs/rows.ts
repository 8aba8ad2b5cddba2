/** A row of `jobs` for admins. Its counts are the row's plus what job_changes holds: one statement, one consistent picture. */
import { OPEN_STATUSES } from '../../domain/commands/command.ts'
import {
  type JobCounts,
  type JobReason,
  type JobState,
  MEMBER_STATUSES,
  type MemberStatus,
} from '../../domain/commands/job.ts'
import { timeText } from '../list-page.ts'

export interface JobRow {
  readonly jobNo: string
  readonly jobId: string
  readonly action: string
  readonly params: Readonly<Record<string, string>>
  /** As it was written. */
  readonly where: string
  readonly ttlS: number
  readonly perMinute: number | null
  readonly maxFailedPct: number | null
  readonly minResults: number
  readonly notBefore: Date | null
  readonly notBeforeText: string | null
  readonly note: string | null
  readonly admin: string
  readonly requestHash: Buffer
  readonly state: JobState
  readonly reason: JobReason | null
  readonly changedBy: string | null
  /** Sort key of lists, too. */
  readonly createdAtText: string
  /** Of its state. */
  readonly changedAtText: string
  readonly endedAtText: string | null
  readonly isCancelling: boolean
  readonly devices: number
  readonly released: number
  readonly counts: JobCounts
  /** Ended and failed before the last resume. */
  readonly endedBefore: number
  readonly failedBefore: number
  /** Over the last half a minute to a minute, per minute; 0 once it has ended. */
  readonly releasedPerMin: number
  readonly endedPerMin: number
  readonly failureMessage: string | null
  readonly failureCount: number | null
  readonly now: Date
}

/** Statuses with a column in `jobs`. */
export const COUNTED: readonly MemberStatus[] = MEMBER_STATUSES.filter(
  (status) => status !== 'waiting',
)

/** Columns that sum up rows of job_changes, one for each counted status. */
export const SUMS = COUNTED.map(
  (status) => /* sql */ `
    (count(*) filter (where became = '${status}') - count(*) filter (where was = '${status}'))::int as ${status}`,
).join(',')

/** Of a status as job_member_status gives it: the member's command has not ended. */
export const isOpen = (status: string) =>
  /* sql */ `${status} = any (array['${OPEN_STATUSES.join("', '")}'])`

/** The oldest transaction that has not ended: a statement sees every change of older ones. */
export const OLDEST_RUNNING = /* sql */ `pg_snapshot_xmin(pg_current_snapshot())`
/** A restore from a dump starts the numbers of transactions again: then every change may be uncounted. */
export const isRestored = (job: string) => /* sql */ `${job}.uncounted_from > ${OLDEST_RUNNING}`
/**
 * Rows of job_changes that `job` does not count yet. Not those before them: a held snapshot (a running pg_dump) keeps what
 * was counted. In this order only the index (sql/0028) saves a sort, even where the planner expects few rows.
 */
export const uncounted = (job: string) => /* sql */ `(
  select c.ctid, c.was, c.became from job_changes c
  where c.job_no = ${job}.job_no and c.xact >= case when ${isRestored(job)} then '0' else ${job}.uncounted_from end
  order by c.job_no, c.xact)`

/** What job_changes holds. */
const more = (status: string) => /* sql */ `coalesce(c.${status}, 0)`

/** Members that wait. An aborted job has none: they were cancelled by its abortion. */
const WAITING = /* sql */ `case when j.state = 'aborted' then 0 else j.devices - j.released end`
const CANCELLED = /* sql */ `
  j.cancelled + ${more('cancelled')} + j.lost + case when j.state = 'aborted' then j.devices - j.released else 0 end`

const COUNTS = MEMBER_STATUSES.map((status) => {
  if (status === 'waiting') return `'waiting', ${WAITING}`
  return `'${status}', ${status === 'cancelled' ? CANCELLED : `j.${status} + ${more(status)}`}`
}).join(', ')

/** Since the job's older mark, per minute; 0 once it has ended. */
const perMinute = (now: string, then: string) => /* sql */ `
  case when j.ended_at is not null then 0
    else round(60 * (${now} - ${then}) / greatest(1, date_part('epoch', now() - j.mark_at)))::int end`
const ENDED = ['completed', 'failed', 'expired', 'cancelled']
  .map((status) => /* sql */ `j.${status} + ${more(status)}`)
  .join(' + ')

/**
 * Every column of a JobRow; append `where`. Reads job_changes only for jobs that are not settled and for which `ofJob`, if
 * given, holds as well; otherwise whatever the page shows.
 */
export const selectJob = (ofJob = 'true') => /* sql */ `
  with c as materialized (
    select j.job_no, ${SUMS} from jobs j cross join lateral ${uncounted('j')} c
    where not j.is_settled and ${ofJob} group by j.job_no)
  select j.job_no::text as "jobNo", j.job_id as "jobId", j.action as "action", j.params as "params",
    j.selection as "where", j.ttl_s as "ttlS", j.per_minute as "perMinute", j.max_failed_pct as "maxFailedPct",
    j.min_results as "minResults", j.not_before as "notBefore", ${timeText('j.not_before')} as "notBeforeText", j.note as "note", j.admin as "admin",
    j.request_hash as "requestHash", j.state as "state", j.reason as "reason", j.changed_by as "changedBy",
    ${timeText('j.created_at')} as "createdAtText", ${timeText('j.changed_at')} as "changedAtText",
    ${timeText('j.ended_at')} as "endedAtText", j.is_cancelling as "isCancelling", j.devices as "devices", j.released as "released",
    json_build_object(${COUNTS}) as "counts", j.ended_before as "endedBefore", j.failed_before as "failedBefore",
    ${perMinute('j.released', 'j.mark_released')} as "releasedPerMin",
    ${perMinute(ENDED, 'j.mark_ended')} as "endedPerMin",
    j.failure_message as "failureMessage", j.failure_count as "failureCount", now() as "now"
  from jobs j left join lateral (select * from c where c.job_no = j.job_no limit 1) c on true`
