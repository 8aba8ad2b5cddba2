/**
 * Deletes old rows. Every growing table has a row here; days of heartbeats are dropped whole
 * (heartbeats/partitions.ts), and a command's events go with it. Each statement deletes the oldest rows by an index
 * and skips rows that another replica is deleting.
 */
import { REPEATABLE_S } from './enrollment/batches.ts'
import type { Database } from './postgres/pool.ts'

const DAY_S = 86_400

/** Age in days, for signatures in seconds. */
export interface RetentionOptions {
  /** Since creation, for commands that have ended; since their end, for jobs. */
  readonly commandRetentionDays: number
  /** Since the entry. */
  readonly auditRetentionDays: number
  /** Since the download began. */
  readonly downloadRetentionDays: number
  /** Since the death of a device token or the expiry of an enrollment token. */
  readonly tokenRetentionDays: number
  /** Since deletion; the device stays while a command or a token of it does. */
  readonly deviceRetentionDays: number
  /** Since the event. */
  readonly eventsRetentionDays: number
  /** Since the signature was accepted. */
  readonly signatureS: number
}

export interface Pruned {
  readonly count: number
  /** Time (of an event: number) of the newest deleted row, where the next batch starts; null if there was none. */
  readonly last: string | null
}

/**
 * Deletes up to `limit` rows of one table, oldest first, none older than `from`: while a snapshot is held, every
 * batch would otherwise reread the rows that earlier ones deleted.
 */
export type Prune = (limit: number, from: string | null) => Promise<Pruned>

const FROM = /* sql */ `coalesce($3::timestamptz, '-infinity')`
const PRUNED = /* sql */ `select count(*)::int as "count", max(age)::text as "last" from gone`

/** $1: age in seconds, $2: limit, $3: start. `age` is the indexed column. The array prevents a join of whole tables. */
const oldest = (table: string, key: string, age: string, filter = '') => /* sql */ `
  with gone as (
    delete from ${table} where ${key} = any (array(
      select ${key} from ${table}
      where ${age} < now() - make_interval(secs => $1) and ${age} >= ${FROM} ${filter}
      order by ${age}, ${key} limit $2 for update skip locked))
    returning ${age} as age)
  ${PRUNED}`

/** `limit 1`: `not exists` would join and read both tables whole. */
const DEVICES = /* sql */ `
  with gone as materialized (
    select d.device_id, d.deleted_at as age from devices d
    where d.deleted_at < now() - make_interval(secs => $1) and d.deleted_at >= ${FROM}
      and (select c.device_id from commands c where c.device_id = d.device_id limit 1) is null
      and (select t.device_id from device_tokens t where t.device_id = d.device_id limit 1) is null
    order by d.deleted_at limit $2 for update skip locked),
  status as (
    delete from device_status s using gone where s.device_id = gone.device_id),
  deleted as (
    delete from devices d using gone where d.device_id = gone.device_id)
  ${PRUNED}`

/** Members of jobs that are old enough. Only this deletes them, so a row keeps its ctid. */
const JOB_MEMBERS = /* sql */ `
  with old as materialized (
    select j.job_no, m.ctid as member, j.ended_at as age
    from (
      select job_no, ended_at from jobs
      where ended_at < now() - make_interval(secs => $1) and ended_at >= ${FROM} and is_settled
      order by ended_at, job_no limit $2) j
    cross join lateral (select ctid from job_members where job_no = j.job_no order by n limit $2) m
    limit $2),
  deleted as (
    delete from job_members where ctid = any (array(select member from old)) returning job_no),
  gone as (
    select age from deleted join (select distinct job_no, age from old) o using (job_no))
  ${PRUNED}`

/** Jobs whose members are gone; their commands go by their own age. */
const JOBS = oldest(
  'jobs',
  'job_no',
  'ended_at',
  'and is_settled and (select m.n from job_members m where m.job_no = jobs.job_no limit 1) is null',
)

/**
 * By number, which is nearly the order of time; $3 is the last number deleted. The newest row stays (sql/0027). Events of a
 * time that the database's clock showed by mistake and has not reached go with the ones before them: they would stop those
 * behind them.
 */
const EVENTS = /* sql */ `
  with gone as (
    delete from fleet_events where event_id = any (array(
      select event_id from (
        select event_id, bool_and(at not between now() - make_interval(secs => $1) and now() + interval '1 day')
          over (order by event_id) as "isPast"
        from (
          select event_id, at from fleet_events
          where event_id > coalesce($3::bigint, 0) order by event_id limit $2) oldest) judged
      where "isPast" and event_id < (select max(event_id) from fleet_events)))
    returning event_id)
  select count(*)::int as "count", max(event_id)::text as "last" from gone`

export function prunes(database: Database, options: RetentionOptions): readonly Prune[] {
  const table: readonly (readonly [name: string, text: string, ageS: number])[] = [
    ['used_signatures', oldest('used_signatures', 'signature', 'used_at'), options.signatureS],
    [
      'commands',
      oldest('commands', 'request_id', 'created_at', `and state <> 'open'`),
      options.commandRetentionDays * DAY_S,
    ],
    ['job_members', JOB_MEMBERS, options.commandRetentionDays * DAY_S],
    ['jobs', JOBS, options.commandRetentionDays * DAY_S],
    ['audit_log', oldest('audit_log', 'audit_id', 'at'), options.auditRetentionDays * DAY_S],
    [
      'apk_downloads',
      oldest('apk_download_events', 'event_id', 'started_at'),
      options.downloadRetentionDays * DAY_S,
    ],
    [
      'device_tokens',
      oldest('device_tokens', 'token_hash', 'dead_at'),
      options.tokenRetentionDays * DAY_S,
    ],
    [
      'enrollment_tokens',
      oldest('enrollment_tokens', 'token_id', 'expires_at'),
      options.tokenRetentionDays * DAY_S,
    ],
    ['fleet_events', EVENTS, options.eventsRetentionDays * DAY_S],
    ['enrollment_batches', oldest('enrollment_batches', 'seed', 'created_at'), REPEATABLE_S],
    ['devices', DEVICES, options.deviceRetentionDays * DAY_S],
  ]
  return table.map(([name, text, ageS]) => async (limit, from) => {
    const query = { name: `${name}.prune`, text, values: [ageS, limit, from] }
    const { rows } = await database.query<Pruned>(query)
    return rows[0] ?? { count: 0, last: null }
  })
}
