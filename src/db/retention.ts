/**
 * What is forgotten, and after how long. Every table that grows with what is done has a row here; days of heartbeats are
 * dropped whole (heartbeats/partitions.ts), and a command takes its events with it. Each statement deletes the oldest rows by an
 * index and leaves what another replica is deleting.
 */
import { REPEATABLE_S } from './enrollment/batches.ts'
import type { Database } from './postgres/pool.ts'

const DAY_S = 86_400

/** Days, and for signatures seconds, after which each is deleted. */
export interface RetentionOptions {
  /** Since a command was made, once it has ended. */
  readonly commandDays: number
  /** Since the entry. */
  readonly auditDays: number
  /** Since the download began. */
  readonly downloadDays: number
  /** Since a device token died or an enrollment token expired. */
  readonly tokenDays: number
  /** Since the device was deleted; it stays while a command or a token of it is kept. */
  readonly deviceDays: number
  /** Since the signature was accepted. */
  readonly signatureS: number
}

export interface Pruned {
  readonly count: number
  /** The time of the youngest of them: the next batch begins there. Null where there was none. */
  readonly last: string | null
}

/**
 * Deletes at most `limit` rows of one table, the oldest first, none older than `from`: under a snapshot that is held, what
 * the batches before have deleted would be read again by each.
 */
export type Prune = (limit: number, from: string | null) => Promise<Pruned>

const FROM = /* sql */ `coalesce($3::timestamptz, '-infinity')`
const PRUNED = /* sql */ `select count(*)::int as "count", max(age)::text as "last" from gone`

/**
 * $1: age in seconds, $2: how many, $3: from when on. `age` is the column that has an index. An array: joined, a whole table
 * may be read.
 */
const oldest = (table: string, key: string, age: string, filter = '') => /* sql */ `
  with gone as (
    delete from ${table} where ${key} = any (array(
      select ${key} from ${table}
      where ${age} < now() - make_interval(secs => $1) and ${age} >= ${FROM} ${filter}
      order by ${age}, ${key} limit $2 for update skip locked))
    returning ${age} as age)
  ${PRUNED}`

/** `limit 1`: as `not exists` both would be joined, and read as a whole. */
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

export function prunes(database: Database, options: RetentionOptions): readonly Prune[] {
  const table: readonly (readonly [name: string, text: string, ageS: number])[] = [
    ['used_signatures', oldest('used_signatures', 'signature', 'used_at'), options.signatureS],
    [
      'commands',
      oldest('commands', 'request_id', 'created_at', `and state <> 'open'`),
      options.commandDays * DAY_S,
    ],
    ['audit_log', oldest('audit_log', 'audit_id', 'at'), options.auditDays * DAY_S],
    [
      'apk_downloads',
      oldest('apk_download_events', 'event_id', 'started_at'),
      options.downloadDays * DAY_S,
    ],
    ['device_tokens', oldest('device_tokens', 'token_hash', 'dead_at'), options.tokenDays * DAY_S],
    [
      'enrollment_tokens',
      oldest('enrollment_tokens', 'token_id', 'expires_at'),
      options.tokenDays * DAY_S,
    ],
    ['enrollment_batches', oldest('enrollment_batches', 'seed', 'created_at'), REPEATABLE_S],
    ['devices', DEVICES, options.deviceDays * DAY_S],
  ]
  return table.map(([name, text, ageS]) => async (limit, from) => {
    const query = { name: `${name}.prune`, text, values: [ageS, limit, from] }
    const { rows } = await database.query<Pruned>(query)
    return rows[0] ?? { count: 0, last: null }
  })
}
