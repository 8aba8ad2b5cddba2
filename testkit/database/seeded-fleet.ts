/** Inserts a fleet by set-based SQL, with tokens that follow from device numbers; for benches and drills. */
import { createHash } from 'node:crypto'
import type pg from 'pg'
import type { HmacSecret } from '../../src/domain/identity.ts'
import { issueDeviceToken } from '../../src/security/tokens.ts'

/** Rows of one statement. */
const BATCH = 100_000
const RANDOM_BYTES = 26

/** The id of the n-th device, from 1, in order of enrollment. */
export const seededDeviceId = (n: number) =>
  `01a20000-0000-7000-8000-${n.toString(16).padStart(12, '0')}`

/** The token of the n-th device. */
export function seededToken(secret: HmacSecret, n: number): string {
  const random = createHash('sha256').update(`seeded-${n}`).digest().subarray(0, RANDOM_BYTES)
  return issueDeviceToken(secret, () => random).token
}

/** seededToken in SQL: HMAC-SHA256 (RFC 2104) from PostgreSQL's sha256. */
const SEEDED = /* sql */ `
  with numbered as (
    select n, substring(sha256(convert_to('seeded-' || n, 'UTF8')) from 1 for ${RANDOM_BYTES}) as random
    from generate_series($1::int, $2::int) n),
  tagged as (
    select n, random || substring(
      sha256($4::bytea || sha256($3::bytea || convert_to('device-token:v1:', 'UTF8') || random)) from 1 for 6) as bytes
    from numbered)
  select n, ('01a20000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid as device_id, 'S' || n as alias,
    sha256(convert_to('dt_' || translate(encode(bytes, 'base64'), E'+/=\\n', '-_'), 'UTF8')) as token_hash
  from tagged`

const INSERT = /* sql */ `
  with seeded as materialized (${SEEDED}),
  device as (
    insert into devices (device_id, alias, enrollment_no, enrolled_by, hmac_secret_id, request_id, fcm_token, fcm_token_at, created_at)
    select device_id, alias, 1, $5::uuid, $6, 'seeded', case when $7 then 'push-' || alias end,
      case when $7 then now() - interval '1 day' end,
      case when $7 then now() - interval '60 days' + make_interval(secs => n) else now() end
    from seeded),
  token as (
    insert into device_tokens (token_hash, device_id, enrollment_no, first_used_at, request_id)
    select token_hash, device_id, 1, now(), 'seeded' from seeded)
  insert into device_status (device_id, token_hash, enrollment_no, status, battery_pct, app_version, last_seen_at, effective_at)
  select device_id, token_hash, 1, case when $7 then 'ok' end, case when $7 then 71 end, case when $7 then '1.0.252' end,
    case when $7 then now() end, case when $7 then now() end
  from seeded`

export interface SeedOptions {
  /** The number of the first device. Default 1. */
  readonly from?: number
  /** Each has a push token, its own enrollment time, and a recent heartbeat. Default: none has reported. */
  readonly isReporting?: boolean
}

/** Devices up to `count`, each with a token. Needs a superuser: foreign keys are not checked. */
export async function seedFleet(
  db: pg.Client,
  secret: HmacSecret,
  count: number,
  { from = 1, isReporting = false }: SeedOptions = {},
): Promise<void> {
  const key = Buffer.alloc(64)
  Buffer.from(secret.secret).copy(key) // at most 64 bytes: a longer one would be hashed first
  const pads = [0x36, 0x5c].map((pad) => Buffer.from(key.map((byte) => byte ^ pad)))
  const tokenId = seededDeviceId(0)
  await db.query('set session_replication_role = replica')
  await db.query(
    `insert into enrollment_tokens (token_id, token_hash, uses_allowed, expires_at, issued_by, request_id)
     values ($1, sha256('seeded'), 1, now(), 'seeded', 'seeded') on conflict do nothing`,
    [tokenId],
  )
  for (let first = from; first <= count; first += BATCH) {
    const last = Math.min(count, first + BATCH - 1)
    await db.query(INSERT, [first, last, ...pads, tokenId, secret.id, isReporting])
  }
  await db.query('reset session_replication_role')
  await db.query('vacuum (analyze) devices, device_tokens, device_status')
}
