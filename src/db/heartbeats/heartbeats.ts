/**
 * The hot path: one statement for a whole group of heartbeats. It authenticates by token hash, locks, deduplicates,
 * stores, updates the last status and answers each row, autocommit: answered means durable. What few heartbeats need
 * (a token's first use, a new push token, commands in the mailbox) it only points out; routes/devices/heartbeat.ts does it
 * before it answers.
 */
import { AppError } from '../../domain/errors.ts'
import { type Heartbeat, STATUS_FIELDS, STATUS_NAMES } from '../../domain/heartbeat.ts'
import { timeText } from '../audit.ts'
import {
  BinaryArrays,
  ELEMENT_TYPES,
  type ElementType,
  type ElementValues,
} from '../postgres/binary-arrays.ts'
import type { Queryable } from '../postgres/pool.ts'
import { sqlstate } from '../postgres/sqlstate.ts'

export interface HeartbeatItem {
  readonly tokenHash: Buffer
  readonly heartbeat: Heartbeat
  readonly requestId: string
}

/** Times of the database, as text. */
export interface PushTokenOffer {
  /** By the phone's clock, as far as it is known. */
  readonly clockAt: string
  /** The time of the token that this one replaces even if it is older; empty: it must not be newer. */
  readonly replacesAt: string
}

export interface StoredHeartbeat {
  readonly kind: 'stored'
  readonly deviceId: string
  readonly alias: string
  readonly isDeduped: boolean
  /** The body's time was ahead, or not within the last 24 h: the receive time counts instead. */
  readonly isClockIgnored: boolean
  /** Its push token is another one than the device's, and may replace it. */
  readonly pushTokenOffer: PushTokenOffer | null
  /** Its push token is another one than the device's, and older: it was not taken. */
  readonly isPushTokenOlder: boolean
  /** Commands are due for hand-over. */
  readonly hasMail: boolean
}

export type HeartbeatResult =
  | StoredHeartbeat
  /** The token is none that was used before and is alive: nothing was stored. */
  | { readonly kind: 'unrecognized' }

/** How soon a command is handed over again (http-api.md, heartbeat). */
export const HAND_OVER_AGAIN_S = 30

/** Parts the words of the answer (ASCII's unit separator): an alias that an operator wrote by hand may hold spaces. */
const SEPARATOR = '\x1f'

const CLOCK_IGNORED = 1
const DEDUPED = 2
const NEW_PUSH_TOKEN = 4
const MAIL = 8
const OLDER_PUSH_TOKEN = 16

/** One array of values, a value for each item of the group. */
interface Parameter {
  readonly column: string
  readonly type: keyof ElementValues
  readonly encode: (arrays: BinaryArrays, items: readonly HeartbeatItem[]) => Buffer
}

function parameter<T extends keyof ElementValues>(
  column: string,
  type: T,
  read: (item: HeartbeatItem) => ElementValues[T] | null,
): Parameter {
  const elements: ElementType<ElementValues[T]> = ELEMENT_TYPES[type]
  return { column, type, encode: (arrays, items) => arrays.encode(elements, items, read) }
}

const STATUS_PARAMETERS = STATUS_NAMES.map((name) => {
  const { column, type } = STATUS_FIELDS[name]
  return parameter(column, type, ({ heartbeat }) => heartbeat[name])
})
const STATUS_COLUMNS = STATUS_PARAMETERS.map(({ column }) => column)

/** $1 and up; DEDUP_S and APART_S follow. */
const PARAMETERS: readonly Parameter[] = [
  parameter('token_hash', 'bytea', (item) => item.tokenHash),
  parameter('reported_at', 'timestamptz', (item) => item.heartbeat.reportedAt),
  ...STATUS_PARAMETERS,
  parameter('fcm_token', 'text', (item) => item.heartbeat.fcmToken),
  parameter('request_id', 'text', (item) => item.requestId),
]
const DEDUP_S = `$${PARAMETERS.length + 1}`
const APART_S = `$${PARAMETERS.length + 2}`

const HISTORY_COLUMNS = [
  ...['bucket', 'device_id', 'seq', 'received_at', 'reported_at'],
  ...STATUS_COLUMNS,
  'request_id',
].join(', ')
/** An older heartbeat leaves these columns as they are. */
const NEWEST_COUNTS = [
  'effective_at',
  'clock_ahead_at',
  'clock_at',
  ...STATUS_COLUMNS,
  'request_id',
]
  .map((name) => `${name} = case when is_newest then l.${name} else s.${name} end`)
  .join(',\n    ')

/** A phone's clock that is so little ahead is not wrong. */
const SAME_CLOCK = /* sql */ `interval '5 s'`

/** `clock_at`, by our clock since then; messages of a phone take as long as SAME_CLOCK, more or less. */
const CLOCK_NOW = /* sql */ `greatest(s.clock_at, s.clock_at + (now() - s.last_seen_at) - ${SAME_CLOCK})`

/** Heartbeats of the moment are this far apart, or half their interval where that is less. */
const USUALLY_APART_S = 20

/** Whether the phone's uptime grew by as much as that: null where it is not known. */
const uptimeGrewBy = (interval: string) => /* sql */ `
  abs(date_part('epoch', ${interval}) - (i.uptime_s - s.uptime_s)) <= 5`
/**
 * The phone's clock was set back, so that an older time is no older heartbeat. Those of a queue come milliseconds to
 * seconds apart, those of the moment by their interval. Of these, its uptime grew as our clock did; or the one before
 * looked older too, this one is not older than that, and its uptime does not say that the clock is the same as before.
 */
const IS_SET_BACK = /* sql */ `s.last_seen_at <= now() - make_interval(secs => ${APART_S}) and (
  ${uptimeGrewBy('now() - s.last_seen_at')}
  or i.reported_at >= s.doubted_at
    and (${uptimeGrewBy('i.reported_at - coalesce(s.clock_ahead_at, s.effective_at)')}) is not true)`

/**
 * Traps, each measured: sibling CTEs share one snapshot, so all flows by RETURNING and by `live`; rows are locked
 * first, in the order of device_id, and what a lock waited for is judged anew on the locked row, which holds the live
 * token. No device is twice in a group (lib/group-commit.ts): an update would take one of its rows at random.
 * An older heartbeat (`effective_at`) leaves the description as it is. Times of one phone are compared with each other,
 * never with ours: `clock_at` is what its clock showed last, and `fcm_token_at` is in its time too. Where its clock is
 * ahead, `effective_at` is the receive time, and the time it reported orders its heartbeats. One that tells no time, or
 * none that can be used, is never older.
 */
export const STORE_GROUP_NAME = 'heartbeats.store_group'
const STORE_GROUP = /* sql */ `
with live as materialized (
  select i.*, s.device_id, d.alias, now() as received_at, c.is_clock_good, c.clock_ahead_at, t.effective_at,
    o.is_newer or o.is_set_back as is_newest,
    case when not (o.is_newer and o.is_newer_than_token) then i.reported_at when not k.has_clock then s.doubted_at end
      as doubted_at,
    o.has_other_token,
    o.has_other_token and (o.is_newer and o.is_newer_than_token or d.fcm_token_died_at is not null or o.is_set_back)
      as has_new_push_token,
    case when not (k.has_clock and o.is_newer and o.is_newer_than_token) then d.fcm_token_at end as replaces_at,
    case when k.has_clock then t.effective_at when i.reported_at is null then ${CLOCK_NOW} else s.clock_at end as clock_at,
    case when ${DEDUP_S}::int = 0 then now()
      else date_bin(make_interval(secs => ${DEDUP_S}::int), now(), timestamptz '2000-01-01 00:00:00Z') end as bucket,
    case when ${DEDUP_S}::int = 0 then (random() * 2147483647)::int else 0 end as seq
  from unnest(${PARAMETERS.map(({ type }, at) => `$${at + 1}::${type}[]`).join(', ')})
    with ordinality as i(${PARAMETERS.map(({ column }) => column).join(', ')}, ord)
  join device_status s using (token_hash)
  join devices d on d.device_id = s.device_id and d.enrollment_no = s.enrollment_no and d.deleted_at is null
  cross join lateral (select
    coalesce(i.reported_at between now() - interval '24 h' and now() + ${SAME_CLOCK}, false) as is_clock_good,
    case when i.reported_at > now() + ${SAME_CLOCK} then i.reported_at end as clock_ahead_at) c
  cross join lateral (select c.is_clock_good or c.clock_ahead_at is not null as has_clock) k
  cross join lateral (select case when c.is_clock_good then i.reported_at else now() end as effective_at) t
  cross join lateral (select
    coalesce(case when not k.has_clock then true
      when c.clock_ahead_at is null then t.effective_at >= coalesce(s.clock_at, s.effective_at)
      else c.clock_ahead_at >= s.clock_ahead_at end, true) as is_newer,
    coalesce(not k.has_clock or t.effective_at >= d.fcm_token_at, true) as is_newer_than_token,
    coalesce(${IS_SET_BACK}, false) as is_set_back,
    coalesce(i.fcm_token <> coalesce(d.fcm_token, ''), false) as has_other_token) o
  order by s.device_id for no key update of s),
history as (
  insert into heartbeats (${HISTORY_COLUMNS})
  select ${HISTORY_COLUMNS}
  from live on conflict do nothing returning device_id),
seen as (
  update device_status s set last_seen_at = greatest(s.last_seen_at, l.received_at),
    doubted_at = l.doubted_at,
    ${NEWEST_COUNTS}
  from live l where s.device_id = l.device_id)
select string_agg(concat_ws('${SEPARATOR}', l.ord, l.device_id, l.alias,
  case when l.is_clock_good or l.reported_at is null then 0 else ${CLOCK_IGNORED} end
  + case when l.device_id in (select device_id from history) then 0 else ${DEDUPED} end
  + case when l.has_new_push_token then ${NEW_PUSH_TOKEN} when l.has_other_token then ${OLDER_PUSH_TOKEN} else 0 end
  + case when exists (
      select from commands k where k.device_id = l.device_id and k.state = 'open' and k.expires_at > now()
        and (k.delivered_at is null or k.delivered_at <= now() - interval '${HAND_OVER_AGAIN_S} s'))
    then ${MAIL} else 0 end,
  case when l.has_new_push_token then ${timeText('coalesce(l.clock_at, l.effective_at)')} end,
  case when l.has_new_push_token then coalesce(${timeText('l.replaces_at')}, '') end), '${SEPARATOR}') as "answers"
from live l`

/** Items whose device_status row somebody else holds; waits for none. */
const HELD_BY_OTHERS = /* sql */ `
with mine as materialized (
  select i.ord, s.device_id from unnest($1::bytea[]) with ordinality as i(token_hash, ord)
  join device_status s using (token_hash)),
free as materialized (
  select s.device_id from device_status s where s.device_id = any (array(select device_id from mine))
  for no key update skip locked)
select ord::int as "ord" from mine where device_id not in (select device_id from free)`

/**
 * Stores one group, no device twice in it; answers in the order of the items. A group that waited too long for a row
 * fails with `overloaded`, to be split; of its halves, those with a locked device fail at once: it waits only once.
 * `dedupWindowS` 0 stores every heartbeat; `intervalS` is how often a phone sends one.
 */
export function storeHeartbeats(
  database: Queryable,
  dedupWindowS: number,
  intervalS: number,
): (items: readonly HeartbeatItem[]) => Promise<readonly HeartbeatResult[]> {
  const locked = new WeakMap<HeartbeatItem, AppError>()
  const arrays = new BinaryArrays()
  const apartS = Math.min(USUALLY_APART_S, intervalS / 2)

  return async (items) => {
    const known = items.map((item) => locked.get(item)).find((error) => error !== undefined)
    if (known !== undefined) throw known
    try {
      return await storeGroup(items)
    } catch (error) {
      if (!(error instanceof AppError) || sqlstate(error.cause) !== '55P03') throw error
      const { cause } = error
      const refusal = new AppError('overloaded', 'This device is busy. Try again.', { cause })
      const held = await heldByOthers(items)
      for (const item of held) locked.set(item, refusal)
      if (held.length > 0) throw refusal
      // The row is free again; or it is another lock, and the group fails as one.
      return storeGroup(items)
    }
  }

  async function heldByOthers(items: readonly HeartbeatItem[]): Promise<readonly HeartbeatItem[]> {
    const { rows } = await database.query<{ ord: number }>({
      name: 'heartbeats.held_by_others',
      text: HELD_BY_OTHERS,
      values: [items.map((item) => item.tokenHash)],
    })
    const held = new Set(rows.map(({ ord }) => ord))
    return items.filter((_, index) => held.has(index + 1))
  }

  async function storeGroup(items: readonly HeartbeatItem[]): Promise<readonly HeartbeatResult[]> {
    const { rows } = await database.query<{ answers: string | null }>({
      name: STORE_GROUP_NAME,
      text: STORE_GROUP,
      values: [...PARAMETERS.map(({ encode }) => encode(arrays, items)), dedupWindowS, apartS],
    })
    return parseResults(rows[0]?.answers ?? '', items.length)
  }
}

/** `ord device_id alias flags`, and the two times of a new push token, for each row that was stored, in any order. */
function parseResults(text: string, count: number): readonly HeartbeatResult[] {
  const results = new Array<HeartbeatResult>(count).fill({ kind: 'unrecognized' })
  const words = text.split(SEPARATOR)
  for (let at = 0; at + 3 < words.length; ) {
    const flags = Number(words[at + 3])
    const hasNewPushToken = (flags & NEW_PUSH_TOKEN) !== 0
    results[Number(words[at]) - 1] = {
      kind: 'stored',
      deviceId: words[at + 1] ?? '',
      alias: words[at + 2] ?? '',
      isClockIgnored: (flags & CLOCK_IGNORED) !== 0,
      isDeduped: (flags & DEDUPED) !== 0,
      pushTokenOffer: hasNewPushToken
        ? { clockAt: words[at + 4] ?? '', replacesAt: words[at + 5] ?? '' }
        : null,
      isPushTokenOlder: (flags & OLDER_PUSH_TOKEN) !== 0,
      hasMail: (flags & MAIL) !== 0,
    }
    at += hasNewPushToken ? 6 : 4
  }
  return results
}
