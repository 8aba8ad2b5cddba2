/**
 * The hot path: one autocommit statement for a whole group of heartbeats. It authenticates by token hash, locks the rows,
 * deduplicates, stores, updates the last status and returns a result for each item: that heartbeat is durable. The rare
 * cases (first use of a token, new push identity, commands in the mailbox) are left to routes/devices/heartbeat.ts.
 */
import { pushIdText } from '../../domain/delivery/push-id.ts'
import { AppError } from '../../domain/errors.ts'
import { type Heartbeat, STATUS_FIELDS, STATUS_NAMES } from '../../domain/heartbeat.ts'
import { isToHandOver } from '../commands/mailbox.ts'
import { PUSH_ID } from '../devices/push-id.ts'
import { timeText } from '../list-page.ts'
import {
  BinaryArrays,
  ELEMENT_TYPES,
  type ElementType,
  type ElementValues,
} from '../postgres/binary-arrays.ts'
import type { Queryable } from '../postgres/pool.ts'
import { sqlstate } from '../postgres/sqlstate.ts'
import { appVersionsText, managedVersions } from './app-versions.ts'

export interface HeartbeatItem {
  readonly tokenHash: Buffer
  readonly heartbeat: Heartbeat
  readonly requestId: string
}

/** Times as the database's text. */
export interface PushIdOffer {
  /** By the phone's clock, if that is known. */
  readonly clockAt: string
  /** A current identity of exactly this time is replaced even if it is newer. Empty: only one that is not newer is replaced. */
  readonly replacesAt: string
}

export interface StoredHeartbeat {
  readonly kind: 'stored'
  readonly deviceId: string
  readonly alias: string
  readonly isDeduped: boolean
  /** The body's time was ahead, or older than 24 h: the receive time counts instead. */
  readonly isClockIgnored: boolean
  /** The push identity differs from the device's and may replace it. */
  readonly pushIdOffer: PushIdOffer | null
  /** The push identity differs from the device's but is older: it was not taken. */
  readonly isPushIdOlder: boolean
  /** Commands are due for delivery. */
  readonly hasMail: boolean
}

export type HeartbeatResult =
  | StoredHeartbeat
  /** No live device token that was used before: nothing was stored. */
  | { readonly kind: 'unrecognized' }

/** ASCII's unit separator: an alias that an operator wrote by hand may contain spaces. */
const SEPARATOR = '\x1f'

const CLOCK_IGNORED = 1
const DEDUPED = 2
const NEW_PUSH_ID = 4
const MAIL = 8
const OLDER_PUSH_ID = 16

/** An array with a value for each item of the group. */
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
  parameter('push_id', 'text', ({ heartbeat }) => heartbeat.pushId && pushIdText(heartbeat.pushId)),
  parameter('request_id', 'text', (item) => item.requestId),
  parameter('apps', 'text', ({ heartbeat }) => appVersionsText(heartbeat.appVersions)),
]
const DEDUP_S = `$${PARAMETERS.length + 1}`
const APART_S = `$${PARAMETERS.length + 2}`

const HISTORY_COLUMNS = [
  ...['bucket', 'device_id', 'seq', 'received_at', 'reported_at'],
  ...STATUS_COLUMNS,
  'request_id',
].join(', ')
/** An older heartbeat leaves these columns as they are. */
const SET_IF_NEWEST = [
  'effective_at',
  'clock_ahead_at',
  'clock_at',
  ...STATUS_COLUMNS,
  'request_id',
]
  .map((name) => `${name} = case when is_newest then l.${name} else s.${name} end`)
  .join(',\n    ')

/** A phone's clock may be ahead by this much. */
const SAME_CLOCK = /* sql */ `interval '5 s'`

/** `clock_at` plus the time since then by our clock, less SAME_CLOCK for differences in delay; never before `clock_at`. */
const CLOCK_NOW = /* sql */ `greatest(s.clock_at, s.clock_at + (now() - s.last_seen_at) - ${SAME_CLOCK})`

/** Two lags that differ by no more show the same clock. */
const LAGS_AGREE_S = 5

/** Seconds between two current (not queued) heartbeats, or half their interval if that is less. */
const USUALLY_APART_S = 20

/** Whether the phone's uptime grew by `interval`; null if unknown. */
const uptimeGrewBy = (interval: string) => /* sql */ `
  abs(date_part('epoch', ${interval}) - (i.uptime_s - s.uptime_s)) <= 5`
/**
 * Whether the phone's clock was set back, so that an older time does not mean an older heartbeat. Queued heartbeats arrive
 * milliseconds to seconds apart, current ones at their interval. It was set back if this heartbeat is a current one, and
 * (1) the uptime grew as our clock did; or (2) the previous heartbeat seemed older too, this one is not older than that, and
 * the uptime does not show that the clock is the same as before.
 */
const IS_SET_BACK = /* sql */ `s.last_seen_at <= now() - make_interval(secs => ${APART_S}) and (
  ${uptimeGrewBy('now() - s.last_seen_at')}
  or i.reported_at >= s.doubted_at
    and (${uptimeGrewBy('i.reported_at - coalesce(s.clock_ahead_at, s.effective_at)')}) is not true)`

/**
 * Traps, each measured:
 * - Sibling CTEs share one snapshot, so data flows only by RETURNING and through `live`.
 * - Rows are locked first, in the order of device_id. After a lock wait the conditions are checked again on the locked row,
 *   which holds the live token.
 * - No device is twice in a group (lib/group-commit.ts): an update would take one of its rows at random.
 * - An older heartbeat (`effective_at`) does not change the last status. Times of a phone are only compared with each other:
 *   `clock_at` is what its clock showed last, and `fcm_token_at` is by its clock too. If its clock is ahead, `effective_at`
 *   is the receive time, and the reported time orders its heartbeats. A heartbeat without a usable time is never older.
 * - `clock_offset_s` needs two heartbeats whose lags agree. One counts if (1) it came some time after the one before: those
 *   of one queue arrive together but were not made together; or (2) its lag is smaller: waiting in a queue only adds to a
 *   lag, so the one before was queued. The first heartbeat of each queue is, if a phone sends its queue once an hour.
 */
export const STORE_GROUP_NAME = 'heartbeats.store_group'
const STORE_GROUP = /* sql */ `
with live as materialized (
  select i.*, s.device_id, d.alias, now() as received_at, c.is_clock_good, c.clock_ahead_at, t.effective_at,
    o.is_newer or o.is_set_back as is_newest,
    case when not (o.is_newer and o.is_newer_than_id) then i.reported_at when not k.has_clock then s.doubted_at end
      as doubted_at,
    o.has_other_id,
    o.has_other_id and (o.is_newer and o.is_newer_than_id or d.fcm_token_died_at is not null or o.is_set_back)
      as has_new_push_id,
    case when not (k.has_clock and o.is_newer and o.is_newer_than_id) then d.fcm_token_at end as replaces_at,
    case when w.is_witness then w.lag_s else s.clock_lag_s end as clock_lag_s,
    case when not w.is_witness then s.clock_offset_s
      when abs(w.lag_s - s.clock_lag_s) <= ${LAGS_AGREE_S} then least(w.lag_s, s.clock_lag_s) end as clock_offset_s,
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
  cross join lateral (select date_part('epoch', now() - i.reported_at) as lag_s,
    coalesce(i.reported_at is not null and (s.last_seen_at <= now() - make_interval(secs => ${APART_S})
      or date_part('epoch', now() - i.reported_at) < s.clock_lag_s - ${LAGS_AGREE_S} or s.last_seen_at is null), false) as is_witness) w
  cross join lateral (select c.is_clock_good or c.clock_ahead_at is not null as has_clock) k
  cross join lateral (select case when c.is_clock_good then i.reported_at else now() end as effective_at) t
  cross join lateral (select
    coalesce(case when not k.has_clock then true
      when c.clock_ahead_at is null then t.effective_at >= coalesce(s.clock_at, s.effective_at)
      else c.clock_ahead_at >= s.clock_ahead_at end, true) as is_newer,
    coalesce(not k.has_clock or t.effective_at >= d.fcm_token_at, true) as is_newer_than_id,
    coalesce(${IS_SET_BACK}, false) as is_set_back,
    coalesce(i.push_id <> coalesce(${PUSH_ID}, ''), false) as has_other_id) o
  order by s.device_id for no key update of s),
history as (
  insert into heartbeats (${HISTORY_COLUMNS})
  select ${HISTORY_COLUMNS}
  from live on conflict do nothing returning device_id),
seen as (
  update device_status s set last_seen_at = greatest(s.last_seen_at, l.received_at),
    app_versions = case when l.is_newest and l.apps is not null then ${managedVersions('l.apps')} else s.app_versions end,
    offline_at = null, doubted_at = l.doubted_at, clock_lag_s = l.clock_lag_s, clock_offset_s = l.clock_offset_s,
    ${SET_IF_NEWEST}
  from live l where s.device_id = l.device_id)
select string_agg(concat_ws('${SEPARATOR}', l.ord, l.device_id, l.alias,
  case when l.is_clock_good or l.reported_at is null then 0 else ${CLOCK_IGNORED} end
  + case when l.device_id in (select device_id from history) then 0 else ${DEDUPED} end
  + case when l.has_new_push_id then ${NEW_PUSH_ID} when l.has_other_id then ${OLDER_PUSH_ID} else 0 end
  + case when exists (
      select from commands k where k.device_id = l.device_id and k.state = 'open' and k.expires_at > now()
        and ${isToHandOver('k.delivered_at')})
    then ${MAIL} else 0 end,
  case when l.has_new_push_id then ${timeText('coalesce(l.clock_at, l.effective_at)')} end,
  case when l.has_new_push_id then coalesce(${timeText('l.replaces_at')}, '') end), '${SEPARATOR}') as "answers"
from live l`

/** Items whose device_status row another session has locked; does not wait. */
const HELD_BY_OTHERS = /* sql */ `
with mine as materialized (
  select i.ord, s.device_id from unnest($1::bytea[]) with ordinality as i(token_hash, ord)
  join device_status s using (token_hash)),
free as materialized (
  select s.device_id from device_status s where s.device_id = any (array(select device_id from mine))
  for no key update skip locked)
select ord::int as "ord" from mine where device_id not in (select device_id from free)`

/**
 * Stores one group without a device twice in it; results are in the order of the items. A group that waited too long for a
 * row lock fails with `overloaded` and is split. Parts with a locked device then fail at once: only the first try waits.
 * `dedupWindowS` 0 stores every heartbeat; `intervalS` is the phones' interval.
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
      // The row is free again. If it was another lock, the whole group fails.
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

/** Each stored row, in any order: `ord device_id alias flags`, then the two times of a new push identity if there is one. */
function parseResults(text: string, count: number): readonly HeartbeatResult[] {
  const results = new Array<HeartbeatResult>(count).fill({ kind: 'unrecognized' })
  const words = text.split(SEPARATOR)
  for (let at = 0; at + 3 < words.length; ) {
    const flags = Number(words[at + 3])
    const hasNewPushId = (flags & NEW_PUSH_ID) !== 0
    results[Number(words[at]) - 1] = {
      kind: 'stored',
      deviceId: words[at + 1] ?? '',
      alias: words[at + 2] ?? '',
      isClockIgnored: (flags & CLOCK_IGNORED) !== 0,
      isDeduped: (flags & DEDUPED) !== 0,
      pushIdOffer: hasNewPushId
        ? { clockAt: words[at + 4] ?? '', replacesAt: words[at + 5] ?? '' }
        : null,
      isPushIdOlder: (flags & OLDER_PUSH_ID) !== 0,
      hasMail: (flags & MAIL) !== 0,
    }
    at += hasNewPushId ? 6 : 4
  }
  return results
}
