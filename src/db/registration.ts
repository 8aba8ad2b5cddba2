/**
 * Enrollment in one transaction: the token is judged and consumed together with the device row, so a
 * k-use token makes exactly k devices, and a lost answer can be asked for again.
 *
 * Locks, in the order kept everywhere: the enrollment token, device_status, devices, device_tokens, commands.
 */
import type { EnrollmentVerdict } from '../core/identity.ts'
import { writeAudit } from './audit.ts'
import { requestPush } from './command-queue.ts'
import { insertDeviceToken, isEnrollmentUsed, killDeviceTokens } from './device-tokens.ts'
import { consume, judgeLocked } from './enrollment-tokens.ts'
import type { Database, Queryable } from './pool.ts'

export interface DeviceDescription {
  readonly hardwareId: string | null
  readonly fcmToken: string | null
  readonly appVersion: string | null
  readonly model: string | null
  readonly manufacturer: string | null
  readonly androidVersion: string | null
  readonly sdkInt: number | null
}

export interface Registration extends DeviceDescription {
  readonly enrollmentTokenHash: Buffer
  /** As the body gave it. */
  readonly alias: string | null
  /** Used only where the device is new. */
  readonly newDeviceId: string
  readonly deviceTokenHash: Buffer
  readonly hmacSecretId: string
  readonly requestId: string
  readonly ip: string | null
}

export type RegistrationOutcome =
  | Enrolled
  | { readonly kind: 'refused'; readonly verdict: Exclude<EnrollmentVerdict, { kind: 'active' }> }
  | { readonly kind: 'alias_mismatch'; readonly tokenId: string; readonly boundAlias: string }
  | { readonly kind: 'alias_taken'; readonly tokenId: string; readonly alias: string }
  | { readonly kind: 'alias_missing'; readonly tokenId: string }

export interface Enrolled {
  readonly kind: 'created' | 're_enrolled' | 'reissued'
  readonly tokenId: string
  readonly deviceId: string
  readonly alias: string
  readonly enrollmentNo: number
  /** Which HMAC_SECRET makes this enrollment's command key. */
  readonly hmacSecretId: string
}

interface DeviceRow {
  readonly deviceId: string
  readonly enrollmentNo: number
  readonly enrolledBy: string
  readonly hardwareId: string | null
  readonly reissues: number
  readonly hmacSecretId: string
}

/** A lost answer is given again at most so often (http-api.md, lost answer). */
const MAX_REISSUES = 5

const LOCK_STATUS = /* sql */ `
  select from device_status
  where device_id = (select device_id from devices where alias = $1 and deleted_at is null)
  for no key update`

const LOCK_DEVICE = /* sql */ `
  select device_id as "deviceId", enrollment_no as "enrollmentNo", enrolled_by as "enrolledBy",
    hardware_id as "hardwareId", reissues as "reissues", hmac_secret_id as "hmacSecretId"
  from devices where alias = $1 and deleted_at is null for update`

const INSERT_DEVICE = /* sql */ `
  insert into devices (device_id, alias, hardware_id, enrollment_no, enrolled_by, hmac_secret_id,
    fcm_token, fcm_token_at, app_version, model, manufacturer, android_version, sdk_int, request_id)
  values ($1, $2, $3, 1, $4, $5, $6, case when $6::text is not null then now() end, $7, $8, $9, $10, $11, $12)
  on conflict (alias) where deleted_at is null do nothing`

const INSERT_STATUS = /* sql */ `insert into device_status (device_id) values ($1)`

const RE_ENROLL = /* sql */ `
  update devices set enrollment_no = enrollment_no + 1, enrolled_by = $2, enrolled_at = now(),
    reissues = 0, hmac_secret_id = $3, hardware_id = $4,
    fcm_token = coalesce($5, fcm_token),
    fcm_token_at = case when $5::text is not null then now() else fcm_token_at end,
    fcm_token_died_at = case when $5::text is not null then null else fcm_token_died_at end,
    app_version = coalesce($6, app_version), model = coalesce($7, model),
    manufacturer = coalesce($8, manufacturer), android_version = coalesce($9, android_version),
    sdk_int = coalesce($10, sdk_int), request_id = $11
  where device_id = $1
  returning enrollment_no as "enrollmentNo"`

const REISSUE = /* sql */ `
  update devices set reissues = reissues + 1, request_id = $2 where device_id = $1`

/** Thrown to undo the consumed use; never leaves this file. */
class AliasRaceError extends Error {
  override readonly name = 'AliasRaceError'
}

/** Enrolls, re-enrolls or re-issues; anything but `Enrolled` has consumed and changed nothing. */
export async function register(
  database: Database,
  registration: Registration,
): Promise<RegistrationOutcome> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await database.transaction((tx) => registerOnce(tx, registration))
    } catch (error) {
      // Another registration made the alias since we looked: look again, it is there now.
      if (!(error instanceof AliasRaceError) || tries === 3) throw error
    }
  }
}

async function registerOnce(
  tx: Queryable,
  registration: Registration,
): Promise<RegistrationOutcome> {
  const token = await judgeLocked(tx, registration.enrollmentTokenHash)
  if (token.kind !== 'active' && token.kind !== 'exhausted') {
    return { kind: 'refused', verdict: token }
  }
  const { tokenId } = token
  if (token.alias !== null && registration.alias !== null && token.alias !== registration.alias) {
    return { kind: 'alias_mismatch', tokenId, boundAlias: token.alias }
  }
  const alias = token.alias ?? registration.alias
  if (alias === null) return { kind: 'alias_missing', tokenId }

  const device = await lockDevice(tx, alias)
  if (device !== undefined && (await isLostAnswer(tx, device, tokenId, registration))) {
    return reissue(tx, device, { tokenId, alias, registration })
  }
  if (token.kind === 'exhausted') return { kind: 'refused', verdict: token }
  if (device !== undefined && token.alias === null) return { kind: 'alias_taken', tokenId, alias }
  if (!(await consume(tx, tokenId))) {
    return { kind: 'refused', verdict: { ...token, kind: 'exhausted' } }
  }
  return device === undefined
    ? create(tx, { tokenId, alias, registration })
    : reEnroll(tx, device, { tokenId, alias, registration })
}

interface Step {
  readonly tokenId: string
  readonly alias: string
  readonly registration: Registration
}

async function lockDevice(tx: Queryable, alias: string): Promise<DeviceRow | undefined> {
  await tx.query({ name: 'registration.lock_status', text: LOCK_STATUS, values: [alias] })
  const { rows } = await tx.query<DeviceRow>({
    name: 'registration.lock_device',
    text: LOCK_DEVICE,
    values: [alias],
  })
  return rows[0]
}

async function isLostAnswer(
  tx: Queryable,
  device: DeviceRow,
  tokenId: string,
  registration: Registration,
): Promise<boolean> {
  return (
    device.enrolledBy === tokenId &&
    device.hardwareId === registration.hardwareId &&
    device.reissues < MAX_REISSUES &&
    !(await isEnrollmentUsed(tx, device.deviceId, device.enrollmentNo))
  )
}

async function reissue(tx: Queryable, device: DeviceRow, step: Step): Promise<Enrolled> {
  await tx.query({
    name: 'registration.reissue',
    text: REISSUE,
    values: [device.deviceId, step.registration.requestId],
  })
  return finish(tx, 'reissued', device.deviceId, device.enrollmentNo, device.hmacSecretId, step)
}

async function create(tx: Queryable, step: Step): Promise<Enrolled> {
  const { registration } = step
  const { rowCount } = await tx.query({
    name: 'registration.insert_device',
    text: INSERT_DEVICE,
    values: [
      registration.newDeviceId,
      step.alias,
      registration.hardwareId,
      step.tokenId,
      registration.hmacSecretId,
      registration.fcmToken,
      registration.appVersion,
      registration.model,
      registration.manufacturer,
      registration.androidVersion,
      registration.sdkInt,
      registration.requestId,
    ],
  })
  if (rowCount === 0) throw new AliasRaceError('the alias was taken meanwhile')
  const deviceId = registration.newDeviceId
  await tx.query({ name: 'registration.insert_status', text: INSERT_STATUS, values: [deviceId] })
  return finish(tx, 'created', deviceId, 1, registration.hmacSecretId, step)
}

async function reEnroll(tx: Queryable, device: DeviceRow, step: Step): Promise<Enrolled> {
  const { registration } = step
  const { rows } = await tx.query<{ enrollmentNo: number }>({
    name: 'registration.re_enroll',
    text: RE_ENROLL,
    values: [
      device.deviceId,
      step.tokenId,
      registration.hmacSecretId,
      registration.hardwareId,
      registration.fcmToken,
      registration.appVersion,
      registration.model,
      registration.manufacturer,
      registration.androidVersion,
      registration.sdkInt,
      registration.requestId,
    ],
  })
  const enrollmentNo = rows[0]?.enrollmentNo ?? device.enrollmentNo + 1
  await killDeviceTokens(tx, device.deviceId, 're_enrolled')
  const { hmacSecretId } = registration
  const enrolled = await finish(
    tx,
    're_enrolled',
    device.deviceId,
    enrollmentNo,
    hmacSecretId,
    step,
  )
  if (registration.fcmToken !== null) await requestPush(tx, [device.deviceId])
  return enrolled
}

async function finish(
  tx: Queryable,
  kind: Enrolled['kind'],
  deviceId: string,
  enrollmentNo: number,
  hmacSecretId: string,
  { tokenId, alias, registration }: Step,
): Promise<Enrolled> {
  const { requestId, ip } = registration
  const tokenHash = registration.deviceTokenHash
  await insertDeviceToken(tx, { tokenHash, deviceId, enrollmentNo, requestId })
  const what = `device.${kind}`
  const detail = { alias, token_id: tokenId, enrollment_no: enrollmentNo }
  await writeAudit(tx, { admin: null, what, subject: deviceId, requestId, ip, detail })
  return { kind, tokenId, deviceId, alias, enrollmentNo, hmacSecretId }
}
