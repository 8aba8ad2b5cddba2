/**
 * The hot path: one statement for a whole group of heartbeats. It authenticates by token hash, locks,
 * deduplicates, stores, updates the last status, takes a new push token (which makes open commands due for
 * push), marks a token's first use, hands over open commands and answers each row. Autocommit: answered means durable.
 */
import { AppError } from '../core/errors.ts'
import type { Heartbeat } from '../core/heartbeat.ts'
import type { DeviceVerdict } from '../core/identity.ts'
import type { Queryable } from './pool.ts'
import { sqlstate } from './sqlstate.ts'

export interface HeartbeatItem {
  readonly tokenHash: Buffer
  readonly heartbeat: Heartbeat
  readonly requestId: string
}

/** An open command as the mailbox hands it over, before it is signed. */
export interface OpenCommand {
  readonly requestId: string
  readonly action: string
  readonly params: Readonly<Record<string, string>>
  readonly attempt: number
  readonly expiresAt: Date
}

export interface StoredHeartbeat {
  readonly deviceId: string
  readonly alias: string
  readonly isDeduped: boolean
  /** The body's time was not within the last 24 h: the receive time counts instead. */
  readonly isClockIgnored: boolean
  readonly enrollmentNo: number
  readonly hmacSecretId: string
  readonly commands: readonly OpenCommand[]
}

export type HeartbeatAnswer =
  | ({ readonly kind: 'stored' } & StoredHeartbeat)
  | Exclude<DeviceVerdict, { kind: 'live' }>

/** What one hand-over holds at most, and how soon a command is handed over again (http-api.md, heartbeat). */
const MAX_COMMANDS = 20
const HAND_OVER_AGAIN_S = 30

/**
 * Traps, each measured: sibling CTEs share one snapshot, so all flows by RETURNING; a device that is twice
 * in the group is reduced to one row before any update; device_status rows are locked first and in order,
 * and so are commands. What a snapshot said of them is asked again of the locked row: another replica may
 * have handed them over meanwhile.
 *
 * The snapshot is older than the lock that was waited for. So a token is judged once more, as locked (`held`), where
 * it is `doubtful`: never used, or its device_status has another version by now, as whoever ends a used token
 * sees to (device-tokens.ts). Of an enrollment the used token is `heir`, else the first here; its siblings end.
 */
const STORE_GROUP = /* sql */ `
with clock as materialized (select now() as t),
input as materialized (
  select u.*
  from unnest($1::bytea[], $2::timestamptz[], $3::text[], $4::int2[], $5::text[], $6::int8[], $7::bool[],
      $8::float4[], $9::int2[], $10::int4[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[])
    with ordinality as u(token_hash, reported_at, status, battery_pct, network_type, uptime_s, plugged,
      temp_c, signal_dbm, ram_used_mb, app_version, agent_version, fcm_token, ping_request_id, request_id, ord)),
who as materialized (
  select i.*, c.t as received_at, t.device_id, t.enrollment_no, t.first_used_at, s.xmin as version,
    d.alias, d.hmac_secret_id, d.fcm_token as old_fcm_token, d.fcm_token_at as old_fcm_token_at,
    case when t.device_id is null then 'unknown' when d.deleted_at is not null then 'deleted'
      when t.dead_at is not null then 'superseded' else 'stored' end as verdict,
    coalesce(i.reported_at between c.t - interval '24 h' and c.t, false) as is_clock_good
  from input i cross join clock c
  left join device_tokens t using (token_hash)
  left join devices d on d.device_id = t.device_id
  left join device_status s on s.device_id = t.device_id),
locked as materialized (
  select s.device_id, s.effective_at, s.xmin as version from device_status s
  where s.device_id = any (array(select w.device_id from who w where w.verdict = 'stored'))
  order by s.device_id for no key update),
doubtful as materialized (
  select w.token_hash, w.device_id, w.enrollment_no, w.first_used_at is null as is_fresh
  from who w join locked l using (device_id)
  where w.verdict = 'stored' and (w.first_used_at is null or w.version <> l.version)),
held as materialized (
  select t.* from device_tokens t where t.token_hash = any (array(
    select token_hash from doubtful union all
    select s.token_hash from doubtful b join device_tokens s using (device_id, enrollment_no) where b.is_fresh))
  order by t.token_hash for no key update),
heir as materialized (
  select distinct on (h.device_id, h.enrollment_no) h.token_hash, h.device_id, h.enrollment_no, w.received_at
  from held h left join who w using (token_hash)
  where h.dead_at is null and (h.first_used_at is not null or w.ord is not null)
  order by h.device_id, h.enrollment_no, h.first_used_at, w.ord),
fate as materialized (
  select h.token_hash, case when x.token_hash is not null then 'stored'
    when h.dead_reason = 'device_deleted' then 'deleted' else 'superseded' end as verdict
  from held h left join heir x using (token_hash)),
live as materialized (
  select w.*, l.effective_at as old_effective_at,
    case when w.is_clock_good then w.reported_at else w.received_at end as effective_at,
    case when $16::int = 0 then w.received_at
      else date_bin(make_interval(secs => $16::int), w.received_at, timestamptz '2000-01-01 00:00:00Z') end as bucket,
    row_number() over (partition by w.device_id order by w.ord) as nth,
    row_number() over (partition by w.device_id
      order by case when w.is_clock_good then w.reported_at else w.received_at end desc, w.ord desc) as newest
  from who w join locked l using (device_id) left join fate f using (token_hash)
  where w.verdict = 'stored' and coalesce(f.verdict, 'stored') = 'stored'),
history as (
  insert into heartbeats (bucket, device_id, seq, received_at, reported_at, status, battery_pct, network_type,
    uptime_s, plugged, temp_c, signal_dbm, ram_used_mb, app_version, agent_version, request_id)
  select bucket, device_id, case when $16::int = 0 then (random() * 2147483647)::int else 0 end, received_at,
    reported_at, status, battery_pct, network_type, uptime_s, plugged, temp_c, signal_dbm, ram_used_mb,
    app_version, agent_version, request_id
  from live where $16::int = 0 or nth = 1 order by device_id, ord
  on conflict do nothing returning device_id),
seen as (
  update device_status s set last_seen_at = greatest(s.last_seen_at, l.received_at)
  from live l
  where l.newest = 1 and s.device_id = l.device_id and l.effective_at < l.old_effective_at),
described as (
  update device_status s set last_seen_at = greatest(s.last_seen_at, l.received_at),
    effective_at = l.effective_at, status = l.status, battery_pct = l.battery_pct,
    network_type = l.network_type, uptime_s = l.uptime_s, plugged = l.plugged, temp_c = l.temp_c,
    signal_dbm = l.signal_dbm, ram_used_mb = l.ram_used_mb, app_version = l.app_version,
    agent_version = l.agent_version, request_id = l.request_id
  from live l
  where l.newest = 1 and s.device_id = l.device_id
    and (l.old_effective_at is null or l.effective_at >= l.old_effective_at)),
reported as materialized (
  select distinct on (device_id) * from live
  where fcm_token is not null and (old_effective_at is null or effective_at >= old_effective_at)
  order by device_id, effective_at desc, ord desc),
push_token as (
  update devices d set fcm_token = p.fcm_token, fcm_token_at = p.effective_at, fcm_token_died_at = null
  from (select * from reported where fcm_token is distinct from old_fcm_token
          and (old_fcm_token_at is null or effective_at >= old_fcm_token_at)) p
  where d.device_id = p.device_id and d.enrollment_no = p.enrollment_no and d.deleted_at is null
    and d.fcm_token is distinct from p.fcm_token
    and (d.fcm_token_at is null or p.effective_at >= d.fcm_token_at)
  returning d.device_id),
first_use as (
  update device_tokens t set first_used_at = x.received_at
  from heir x where t.token_hash = x.token_hash and t.first_used_at is null),
siblings as (
  update device_tokens t set dead_at = now(), dead_reason = 'superseded'
  from heir x where t.device_id = x.device_id and t.enrollment_no = x.enrollment_no
    and t.token_hash <> x.token_hash and t.dead_at is null),
due as materialized (
  select k.request_id from live l
  cross join lateral (
    select request_id from commands k
    where k.device_id = l.device_id and k.state = 'open' and k.expires_at > l.received_at
      and (k.delivered_at is null or k.delivered_at <= l.received_at - interval '${HAND_OVER_AGAIN_S} s')
      and k.request_id <> all (array(select p.ping_request_id from live p
        where p.device_id = l.device_id and p.ping_request_id is not null))
    order by k.created_at, k.request_id limit ${MAX_COMMANDS}) k
  where l.nth = 1),
renewed as materialized (
  select k.request_id from push_token p
  cross join lateral (
    select request_id from commands k
    where k.device_id = p.device_id and k.state = 'open' and k.push_state <> 'off') k),
mail as materialized (
  select c.request_id, r.request_id is not null and c.lease_id is null as is_renewed,
    d.request_id is not null
      and (c.delivered_at is null or c.delivered_at <= now() - interval '${HAND_OVER_AGAIN_S} s') as is_due
  from commands c left join due d using (request_id) left join renewed r using (request_id)
  where c.state = 'open' and c.request_id = any (array(
    select request_id from due union select request_id from renewed))
  order by c.request_id for no key update of c),
reached as (
  update commands c set attempt = c.attempt + m.is_due::int, deliveries = c.deliveries + m.is_due::int,
    delivered_at = case when m.is_due then now() else c.delivered_at end,
    push_state = case when m.is_renewed then 'waiting' else c.push_state end,
    push_failures = case when m.is_renewed then 0 else c.push_failures end,
    next_attempt_at = case when m.is_renewed then now() else c.next_attempt_at end
  from mail m where c.request_id = m.request_id and (m.is_due or m.is_renewed)
  returning c.request_id, c.device_id, c.action, c.params, c.attempt, c.deliveries, c.expires_at, c.created_at,
    m.is_due),
handed as (select * from reached where is_due),
told as (
  insert into command_events (request_id, stage, detail, instance)
  select request_id, 'delivered', jsonb_build_object('attempt', attempt), $17 from handed where deliveries = 1),
mailbox as (
  select device_id, json_agg(json_build_object('requestId', request_id, 'action', action, 'params', params,
    'attempt', attempt, 'expiresAt', expires_at) order by created_at, request_id) as commands
  from handed group by device_id)
select coalesce(f.verdict, w.verdict) as "kind", w.device_id as "deviceId", w.alias as "alias",
  w.enrollment_no as "enrollmentNo", w.hmac_secret_id as "hmacSecretId",
  not w.is_clock_good and w.reported_at is not null as "isClockIgnored",
  $16::int <> 0 and l.nth is not null and (l.nth > 1 or h.device_id is null) as "isDeduped",
  m.commands as "commands"
from who w
left join fate f using (token_hash)
left join live l using (ord)
left join (select distinct device_id from history) h on h.device_id = l.device_id
left join mailbox m on m.device_id = l.device_id and l.nth = 1
order by w.ord`

interface CommandJson extends Omit<OpenCommand, 'expiresAt'> {
  readonly expiresAt: string
}

type GroupRow = Omit<StoredHeartbeat, 'commands'> & {
  readonly kind: HeartbeatAnswer['kind']
  readonly commands: readonly CommandJson[] | null
}

export interface HeartbeatStoreOptions {
  /** 0 stores every heartbeat. */
  readonly dedupWindowS: number
  /** The replica, for the timeline of a hand-over. */
  readonly instance: string
}

/** Items whose device_status row somebody else holds; waits for none. */
const HELD_BY_OTHERS = /* sql */ `
with mine as materialized (
  select i.ord, t.device_id from unnest($1::bytea[]) with ordinality as i(token_hash, ord)
  join device_tokens t using (token_hash) where t.dead_at is null),
free as materialized (
  select s.device_id from device_status s where s.device_id = any (array(select device_id from mine))
  for no key update skip locked)
select ord::int as "ord" from mine where device_id not in (select device_id from free)`

/**
 * Stores one group; answers in the order of the items. A group that waited too long for a row fails with
 * `overloaded`, to be split; of its halves, those with a locked device fail at once: the group waits only once.
 */
export function storeHeartbeats(
  database: Queryable,
  options: HeartbeatStoreOptions,
): (items: readonly HeartbeatItem[]) => Promise<readonly HeartbeatAnswer[]> {
  const locked = new WeakMap<HeartbeatItem, AppError>()

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

  async function storeGroup(items: readonly HeartbeatItem[]): Promise<readonly HeartbeatAnswer[]> {
    const column = <T>(read: (item: HeartbeatItem) => T) => items.map(read)
    const { rows } = await database.query<GroupRow>({
      name: 'heartbeats.store_group',
      text: STORE_GROUP,
      values: [
        column((item) => item.tokenHash),
        column((item) => item.heartbeat.reportedAt),
        column((item) => item.heartbeat.status),
        column((item) => item.heartbeat.batteryPct),
        column((item) => item.heartbeat.networkType),
        column((item) => item.heartbeat.uptimeS),
        column((item) => item.heartbeat.isPlugged),
        column((item) => item.heartbeat.tempC),
        column((item) => item.heartbeat.signalDbm),
        column((item) => item.heartbeat.ramUsedMb),
        column((item) => item.heartbeat.appVersion),
        column((item) => item.heartbeat.agentVersion),
        column((item) => item.heartbeat.fcmToken),
        column((item) => item.heartbeat.pingRequestId),
        column((item) => item.requestId),
        options.dedupWindowS,
        options.instance,
      ],
    })
    return rows.map(answerOf)
  }
}

function answerOf(row: GroupRow): HeartbeatAnswer {
  const { kind, deviceId, alias } = row
  if (kind === 'unknown') return { kind }
  if (kind !== 'stored') return { kind, deviceId, alias }
  const commands = (row.commands ?? []).map((command) => ({
    ...command,
    expiresAt: new Date(command.expiresAt),
  }))
  return { ...row, kind, commands }
}
