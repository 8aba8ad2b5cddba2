/**
 * Owner of `device_tokens`: identifies the bearer of a device token, records its first use and its end. Only this
 * module copies a device's used and live token to its device_status, where heartbeats look it up.
 */
import type { DeviceVerdict } from '../../domain/identity.ts'
import type { Queryable } from '../postgres/pool.ts'

export interface DeviceTokenStore {
  /** Judges the token. The first use of a live one is recorded, its siblings die, and heartbeats accept it from then on. */
  authenticate(tokenHash: Buffer): Promise<DeviceVerdict>
}

const JUDGE = /* sql */ `
  select t.device_id as "deviceId", d.alias as "alias",
    t.first_used_at is null or s.token_hash is distinct from t.token_hash as "isNew",
    d.enrollment_no as "enrollmentNo", d.hmac_secret_id as "hmacSecretId",
    case when t.dead_reason <> 'device_deleted' then 'superseded'
         when d.deleted_at is not null then 'deleted'
         else 'live' end as "kind"
  from device_tokens t join devices d using (device_id) join device_status s using (device_id)
  where t.token_hash = $1`

/**
 * Of an enrollment's tokens one survives: the one that is used first. Locks the status row first, like every statement that
 * ends tokens. A sibling inserted meanwhile is not seen here and stays alive, but dies at its first use,
 * because a used one exists by then.
 */
const USE = /* sql */ `
  with status as materialized (
    select device_id from device_status
    where device_id = (select device_id from device_tokens where token_hash = $1)
    for no key update),
  held as materialized (
    select s.token_hash, s.device_id, s.enrollment_no, s.first_used_at
    from status join device_tokens t using (device_id) join device_tokens s using (device_id, enrollment_no)
    where t.token_hash = $1 and t.dead_at is null and s.dead_at is null
    order by s.token_hash for no key update of s),
  heir as materialized (
    select * from held where first_used_at is not null or token_hash = $1
    order by first_used_at limit 1),
  marked as (
    update device_tokens t set
      first_used_at = case when t.token_hash = x.token_hash then now() end,
      dead_at = case when t.token_hash <> x.token_hash then now() end,
      dead_reason = case when t.token_hash <> x.token_hash then 'superseded' end
    from held h, heir x
    where t.token_hash = h.token_hash and t.first_used_at is null)
  update device_status s set token_hash = x.token_hash, enrollment_no = x.enrollment_no
  from heir x where s.device_id = x.device_id`

const INSERT = /* sql */ `
  insert into device_tokens (token_hash, device_id, enrollment_no, request_id)
  values ($1, $2, $3, $4)`

/**
 * A heartbeat that waits for the status row finds its token gone. The device's next phone may be another one, so its
 * times are not compared with earlier ones, and what apps it has is unknown. A deleted device never becomes offline (sql/0020).
 */
const KILL_ALL = /* sql */ `
  with status as (
    update device_status set token_hash = null, effective_at = null, clock_ahead_at = null, clock_at = null,
      doubted_at = null, clock_lag_s = null, clock_offset_s = null, push_lowered_at = null, app_versions = null,
      is_deleted = ($2 = 'device_deleted')
    where device_id = $1 returning device_id)
  update device_tokens set dead_at = now(), dead_reason = $2
  where token_hash in (
    select t.token_hash from status join device_tokens t using (device_id) where t.dead_at is null
    order by t.token_hash for update of t)`

const ANY_USED = /* sql */ `
  select exists (
    select from device_tokens
    where device_id = $1 and enrollment_no = $2 and first_used_at is not null) as "isUsed"`

export function deviceTokenStore(database: Queryable): DeviceTokenStore {
  return {
    async authenticate(tokenHash) {
      const verdict = await judge(database, tokenHash)
      if (verdict.kind !== 'live' || !verdict.isNew) return verdict
      await database.query({ name: 'device_tokens.use', text: USE, values: [tokenHash] })
      // A sibling may have been faster, or both tokens may have ended: judge again.
      return judge(database, tokenHash)
    },
  }
}

type Judged = DeviceVerdict & { readonly isNew?: boolean }

async function judge(database: Queryable, tokenHash: Buffer): Promise<Judged> {
  const { rows } = await database.query<Judged>({
    name: 'device_tokens.judge',
    text: JUDGE,
    values: [tokenHash],
  })
  return rows[0] ?? { kind: 'unknown' }
}

export interface NewDeviceToken {
  readonly tokenHash: Buffer
  readonly deviceId: string
  readonly enrollmentNo: number
  readonly requestId: string
}

export async function insertDeviceToken(tx: Queryable, token: NewDeviceToken): Promise<void> {
  await tx.query({
    name: 'device_tokens.insert',
    text: INSERT,
    values: [token.tokenHash, token.deviceId, token.enrollmentNo, token.requestId],
  })
}

/** Ends all live tokens of the device: none authenticates after this commit. */
export async function killDeviceTokens(
  tx: Queryable,
  deviceId: string,
  reason: 're_enrolled' | 'device_deleted',
): Promise<void> {
  await tx.query({ name: 'device_tokens.kill_all', text: KILL_ALL, values: [deviceId, reason] })
}

/** Whether a token of this enrollment has authenticated; then its response was not lost. */
export async function isEnrollmentUsed(
  tx: Queryable,
  deviceId: string,
  enrollmentNo: number,
): Promise<boolean> {
  const { rows } = await tx.query<{ isUsed: boolean }>({
    name: 'device_tokens.any_used',
    text: ANY_USED,
    values: [deviceId, enrollmentNo],
  })
  return rows[0]?.isUsed === true
}
