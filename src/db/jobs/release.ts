/**
 * Moves jobs on, from any replica. Each call locks one job, skipping one that another replica holds; everything it does is
 * one transaction, so that a job needs no lease: a replica that dies leaves nothing half done. domain/commands/job.ts has the rules.
 */
import type { AuditWhat } from '../../domain/audit.ts'
import { type JobReason, MAX_COMPARED, PACE } from '../../domain/commands/job.ts'
import { writeAudit } from '../audit.ts'
import { HAS_PUSH_ID } from '../devices/push-id.ts'
import type { Database, Queryable } from '../postgres/pool.ts'
import { COUNTED, isOpen, isRestored, OLDEST_RUNNING, SUMS, uncounted } from './rows.ts'

export interface UnsettledJob {
  readonly jobNo: string
  /** Scheduled, running or paused. */
  readonly isOpen: boolean
  /** It has members to release as time passes. */
  readonly isReleasing: boolean
  /** There is something to do for it. */
  readonly isDue: boolean
}

/** A member whose command was made, or ended, by the service. */
export interface MemberChange {
  readonly requestId: string
  readonly deviceId: string
  readonly alias: string
  readonly isCancelled: boolean
}

export interface JobChange {
  readonly state: 'running' | 'paused' | 'done'
  readonly reason: JobReason | null
  readonly devices: number
  readonly completed: number
  readonly failed: number
  readonly expired: number
  readonly cancelled: number
}

export interface Advanced {
  readonly jobId: string
  readonly action: string
  readonly admin: string
  /** Cancelled at once if their device was deleted while they waited. */
  readonly released: readonly MemberChange[]
  /** Open commands of an aborted job. */
  readonly cancelled: readonly MemberChange[]
  readonly change: JobChange | undefined
  /** Another call has more to do at once. */
  readonly hasMore: boolean
}

export interface JobQueue {
  /** At most MAX_UNSETTLED_JOBS (create.ts): open ones, and aborted ones that still have open commands. */
  unsettled(): Promise<readonly UnsettledJob[]>
  /** undefined: another replica holds the job, or nothing is left to do. */
  advance(jobNo: string): Promise<Advanced | undefined>
}

/** Commands that one transaction makes or cancels. */
const BATCH = 500
/** Changes that one transaction adds to the counts. */
const FOLD_BATCH = 10_000
/** Between two marks of the present rate. */
const MARK_S = 30

/** Of a row of commands, as its index has it. */
const STATUS = /* sql */ `job_member_status(state, push_state, delivered_at is not null, outcome)`
const IS_OPEN = /* sql */ isOpen(STATUS)

const OPEN = /* sql */ `(queued + sent + delivered + push_failed)`
const ENDED = /* sql */ `(completed + failed + expired + cancelled + lost)`
const FAILED = /* sql */ `(failed + expired)`
const ENDED_ANEW = /* sql */ `(${ENDED} - ended_before)`

/** Members that the bucket holds at `at`. */
const allowanceAt = (at: string) => {
  const rate = /* sql */ `(per_minute / ${PACE.windowS + PACE.burstS}::float8)`
  return /* sql */ `least(greatest(1, ${rate} * ${PACE.burstS}),
    allowance + ${rate} * greatest(0, date_part('epoch', ${at} - filled_at)))`
}

const UNSETTLED = /* sql */ `
  select job_no::text as "jobNo", ended_at is null as "isOpen",
    state = 'running' and released < devices as "isReleasing",
    is_cancelling or (state = 'scheduled' and not_before <= now())
      or (state = 'running' and released < devices and (
        per_minute is null or filled_at > clock_timestamp() or ${allowanceAt('clock_timestamp()')} >= 1))
      or (state <> 'scheduled' and (released = devices or ended_at is not null) and ${OPEN} = 0)
      or ${isRestored('j')} or (select true from ${uncounted('j')} c limit 1) is not null as "isDue"
  from jobs j where not is_settled order by job_no`

const LOCK = /* sql */ `
  select job_id as "jobId", action as "action", admin as "admin", is_cancelling as "isCancelling"
  from jobs where job_no = $1 and not is_settled for no key update skip locked`

/**
 * A mark that is old enough becomes the older one; so does one of the future, after a step back of the database's clock.
 * A transaction that began later may have set the mark.
 */
const IS_MARK_DUE = /* sql */ `
  next_mark_at not between now() - interval '${MARK_S} s' and now() + interval '${MARK_S} s'`
const mark = (column: string, value: string) => /* sql */ `
  mark_${column} = case when ${IS_MARK_DUE} then next_mark_${column} else mark_${column} end,
  next_mark_${column} = case when ${IS_MARK_DUE} then ${value} else next_mark_${column} end`

/** After a step back the bucket fills from now on, not from when the clock is there again. */
const FOLD = /* sql */ `
  with gone as (
    delete from job_changes where ctid = any (array(
      select c.ctid from jobs j cross join lateral ${uncounted('j')} c where j.job_no = $1 limit ${FOLD_BATCH}))
    returning was, became),
  sums as (select count(*)::int as folded, ${SUMS} from gone)
  update jobs j set ${COUNTED.map((status) => `${status} = j.${status} + s.${status}`).join(', ')},
    ${mark('at', 'now()')}, ${mark('released', 'released')},
    ${mark('ended', '(j.completed + j.failed + j.expired + j.cancelled)')},
    filled_at = least(j.filled_at, clock_timestamp()),
    uncounted_from = case when s.folded < ${FOLD_BATCH} then ${OLDEST_RUNNING} else uncounted_from end
  from sums s where j.job_no = $1
  returning s.folded as "folded"`

/** The state that a job enters without an admin; null: it stays. */
const NEXT = /* sql */ `
  case when state = 'scheduled' and not_before <= now() then 'running'
    when state = 'running' and released < devices and ${ENDED_ANEW} >= min_results
      and (${FAILED} - failed_before) * 100::bigint >= max_failed_pct * ${ENDED_ANEW}::bigint then 'paused'
    when state in ('running', 'paused') and released = devices and ${OPEN} = 0 then 'done' end`

const CHANGE = /* sql */ `
  update jobs j set state = ${NEXT}, reason = case ${NEXT} when 'paused' then 'threshold' end,
    changed_at = now(), changed_by = null, filled_at = clock_timestamp(),
    ended_at = case ${NEXT} when 'done' then now() end, is_settled = ${NEXT} = 'done'
  where job_no = $1 and state in ('scheduled', 'running', 'paused') and ${NEXT} is not null
  returning state as "state", reason as "reason", devices as "devices", completed as "completed", failed as "failed",
    expired as "expired", cancelled + lost as "cancelled"`

/** An aborted job whose commands have ended. */
const SETTLE = /* sql */ `
  update jobs set is_settled = true
  where job_no = $1 and state = 'aborted' and not is_cancelling and ${OPEN} = 0`

const NOTE_FAILURE = /* sql */ `
  update jobs set failure_message = f.message, failure_count = f.count
  from (
    select message, count(*)::int as count from (
      select coalesce(nullif(result_message, ''), outcome) as message from commands
      where job_no = $1
        and ${STATUS} = 'failed'
      order by job_n limit ${MAX_COMPARED}) failed
    group by message order by count(*) desc, message limit 1) f
  where job_no = $1 and state = 'done'`

/**
 * Releases the next members, in order. The device rows are locked as for a single command: a push token that is new now
 * finds its command, or is seen by it. A member whose device was deleted becomes a cancelled command; one whose device's
 * row is gone, or whose id a command has, is counted as `lost`.
 */
const RELEASE = /* sql */ `
  with job as materialized (
    select j.*, b.at, b.held, least(j.devices - j.released, ${BATCH}, floor(b.held))::int as size
    from jobs j
    cross join lateral (select clock_timestamp() as at) t
    cross join lateral (select t.at,
      case when j.per_minute is null then ${BATCH} else ${allowanceAt('t.at')} end as held) b
    where j.job_no = $1 and j.state = 'running'),
  member as materialized (
    select m.n, m.device_id from job_members m
    where m.job_no = $1 and m.n > (select released from job) and m.n <= (select released + size from job)),
  device as materialized (
    select d.device_id, d.alias, d.deleted_at is not null as is_deleted,
      case when not $2::bool then 'off' when not ${HAS_PUSH_ID} or d.fcm_token_died_at is not null then 'no_token'
        else 'waiting' end as push_state
    from devices d where d.device_id = any (array(select device_id from member))
    order by d.device_id for share),
  made as (
    insert into commands (request_id, device_id, action, params, request_hash, admin, expires_at, push_state,
      next_attempt_at, state, ended_at, job_no, job_n)
    select j.job_id || '.' || m.n, m.device_id, j.action, j.params, j.content_hash, j.admin,
      now() + make_interval(secs => j.ttl_s), d.push_state,
      case when d.push_state = 'waiting' and not d.is_deleted then now() end,
      case when d.is_deleted then 'cancelled' else 'open' end, case when d.is_deleted then now() end, j.job_no, m.n
    from job j cross join member m join device d using (device_id)
    order by m.n
    on conflict (request_id) do nothing
    returning request_id, device_id, job_n, admin, state),
  told as (
    insert into command_events (request_id, stage, code, detail, instance)
    select request_id, stage, code, detail, $3 from (
      select request_id, job_n, 1 as nth, 'accepted' as stage, null as code,
        jsonb_build_object('admin', admin, 'job_id', (select job_id from job)) as detail from made
      union all
      select request_id, job_n, 2, 'cancelled', 'device_deleted', null from made where state = 'cancelled') step
    order by job_n, nth),
  passed as (
    update jobs j set released = j.released + b.size, filled_at = b.at,
      lost = j.lost + b.size - (select count(*) from made)::int,
      allowance = case when j.per_minute is null then j.allowance else b.held - b.size end
    from job b where j.job_no = b.job_no and b.size > 0)
  select m.request_id as "requestId", m.device_id as "deviceId", d.alias as "alias",
    m.state = 'cancelled' as "isCancelled"
  from made m join device d using (device_id) order by m.job_n`

const CANCEL = /* sql */ `
  with ended as (
    update commands set state = 'cancelled', ended_at = now(), next_attempt_at = null
    where request_id in (
      select request_id from commands
      where request_id = any (array(
        select request_id from commands
        where job_no = $1 and ${IS_OPEN} and expires_at > now()
        limit ${BATCH}))
      and state = 'open' order by request_id for update)
    returning request_id, device_id),
  told as (
    insert into command_events (request_id, stage, code, detail, instance)
    select request_id, 'cancelled', 'job_aborted',
      jsonb_build_object('admin', (select changed_by from jobs where job_no = $1)), $2 from ended)
  select e.request_id as "requestId", e.device_id as "deviceId", d.alias as "alias", true as "isCancelled"
  from ended e join devices d using (device_id)`

/** Another look: a batch is short, too, where commands ended meanwhile. The sweep ends those that have expired. */
const ALL_CANCELLED = /* sql */ `
  update jobs set is_cancelling = false
  where job_no = $1 and not exists (
    select from commands
    where job_no = $1 and ${IS_OPEN} and expires_at > now())`

/** `instance`: this replica, for timelines. */
export function jobQueue(
  database: Database,
  { instance, isPushOn }: { readonly instance: string; readonly isPushOn: boolean },
): JobQueue {
  return {
    async unsettled() {
      const query = { name: 'jobs.unsettled', text: UNSETTLED }
      return (await database.query<UnsettledJob>(query)).rows
    },
    advance: (jobNo) => database.transaction((tx) => advance(tx, jobNo)),
  }

  async function advance(tx: Queryable, jobNo: string): Promise<Advanced | undefined> {
    const run = async <Row extends object>(name: string, text: string, ...more: unknown[]) =>
      tx.query<Row>({ name: `jobs.${name}`, text, values: [jobNo, ...more] })
    interface Locked {
      readonly jobId: string
      readonly action: string
      readonly admin: string
      readonly isCancelling: boolean
    }
    const { rows } = await run<Locked>('lock', LOCK)
    const [job] = rows
    if (job === undefined) return undefined
    const { isCancelling, ...about } = job
    const folded = (await run<{ folded: number }>('fold', FOLD)).rows[0]?.folded ?? 0
    const nothing = { ...about, released: [], cancelled: [], change: undefined, hasMore: true }
    if (folded === FOLD_BATCH) return nothing
    if (isCancelling) {
      const cancelled = (await run<MemberChange>('cancel', CANCEL, instance)).rows
      if (cancelled.length < BATCH) await run('all_cancelled', ALL_CANCELLED)
      return { ...nothing, cancelled }
    }
    const change = (await run<JobChange>('change', CHANGE)).rows[0]
    if (change !== undefined) {
      if (change.state === 'done') await run('note_failure', NOTE_FAILURE)
      await auditChange(tx, about.jobId, change)
      return { ...nothing, change, hasMore: change.state === 'running' }
    }
    await run('settle', SETTLE)
    const released = (await run<MemberChange>('release', RELEASE, isPushOn, instance)).rows
    return { ...nothing, released, hasMore: released.length === BATCH }
  }
}

const WHAT: Readonly<Record<JobChange['state'], AuditWhat>> = {
  running: 'job.start',
  paused: 'job.pause',
  done: 'job.done',
}

/** By the service itself. */
function auditChange(tx: Queryable, jobId: string, change: JobChange): Promise<void> {
  const { state, ...detail } = change
  const by = { admin: null, requestId: jobId, ip: null }
  return writeAudit(tx, { ...by, what: WHAT[state], subject: jobId, detail: { ...detail } })
}
