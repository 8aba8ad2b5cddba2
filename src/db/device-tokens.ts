/** Owner of `device_tokens`: who a device token proves its bearer to be, its first use, its end. */
import type { DeviceVerdict } from '../core/identity.ts'
import type { Database, Queryable } from './pool.ts'

export interface DeviceTokenStore {
  /** Judges the token; a live one that was never used is marked used, and its siblings die. */
  authenticate(tokenHash: Buffer): Promise<DeviceVerdict>
}

const JUDGE = /* sql */ `
  select t.device_id as "deviceId", d.alias as "alias", t.first_used_at is null as "isNew",
    d.enrollment_no as "enrollmentNo", d.hmac_secret_id as "hmacSecretId",
    case when d.deleted_at is not null then 'deleted'
         when t.dead_at is not null then 'superseded'
         else 'live' end as "kind"
  from device_tokens t join devices d using (device_id)
  where t.token_hash = $1`

/** Siblings of one enrollment are used one after the other, as in the heartbeat's group statement. */
const LOCK_STATUS = /* sql */ `
  select from device_status where device_id = $1 for no key update`

/** The same rule stands in the heartbeat's group statement. */
const FIRST_USE = /* sql */ `
  with used as (
    update device_tokens set first_used_at = now()
    where token_hash = $1 and first_used_at is null and dead_at is null
    returning token_hash, device_id, enrollment_no)
  update device_tokens t set dead_at = now(), dead_reason = 'superseded'
  from used u
  where t.device_id = u.device_id and t.enrollment_no = u.enrollment_no
    and t.token_hash <> u.token_hash and t.dead_at is null`

const INSERT = /* sql */ `
  insert into device_tokens (token_hash, device_id, enrollment_no, request_id)
  values ($1, $2, $3, $4)`

const KILL_ALL = /* sql */ `
  update device_tokens set dead_at = now(), dead_reason = $2
  where token_hash in (
    select token_hash from device_tokens where device_id = $1 and dead_at is null
    order by token_hash for update)`

const ANY_USED = /* sql */ `
  select exists (
    select from device_tokens
    where device_id = $1 and enrollment_no = $2 and first_used_at is not null) as "isUsed"`

export function deviceTokenStore(database: Database): DeviceTokenStore {
  return {
    async authenticate(tokenHash) {
      const verdict = await judge(database, tokenHash)
      if (verdict.kind !== 'live' || !verdict.isNew) return verdict
      return database.transaction(async (tx) => {
        const name = 'device_tokens.lock_status'
        await tx.query({ name, text: LOCK_STATUS, values: [verdict.deviceId] })
        await tx.query({ name: 'device_tokens.first_use', text: FIRST_USE, values: [tokenHash] })
        // A sibling may have been first: what it left counts.
        return judge(tx, tokenHash)
      })
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

/** Ends every live token of the device: from this commit on they authenticate nothing. */
export async function killDeviceTokens(
  tx: Queryable,
  deviceId: string,
  reason: 're_enrolled' | 'device_deleted',
): Promise<void> {
  await tx.query({ name: 'device_tokens.kill_all', text: KILL_ALL, values: [deviceId, reason] })
}

/** Whether any token of this enrollment has authenticated: then its answer was not lost. */
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
