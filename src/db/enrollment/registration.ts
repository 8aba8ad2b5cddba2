/**
 * Enrollment in one transaction: the token is judged and consumed together with the device row. A k-use token creates
 * exactly k devices, and a lost response can be requested again.
 *
 * Lock order, the same everywhere: the enrollment token, device_status, devices, device_tokens, commands.
 */
import { type PushId, pushIdText } from '../../domain/delivery/push-id.ts'
import type { EnrollmentVerdict } from '../../domain/identity.ts'
import {
  isIdentifying,
  type PhoneFacts,
  type SamePhoneProof,
  samePhoneProof,
} from '../../domain/same-phone.ts'
import { writeAudit } from '../audit.ts'
import { requestPush } from '../commands/outbox.ts'
import { insertDeviceToken, isEnrollmentUsed, killDeviceTokens } from '../devices/device-tokens.ts'
import { fidOf, tokenOf } from '../devices/push-id.ts'
import { withPushId } from '../devices/push-id-limit.ts'
import type { Database, Queryable } from '../postgres/pool.ts'
import { type LockedDevice, lockDevice } from './lock-device.ts'
import { MERGED_LABELS, tokenLabels } from './token-labels.ts'
import { consume, judgeLocked } from './tokens.ts'

export interface DeviceDescription extends PhoneFacts {
  readonly pushId: PushId | null
  readonly appVersion: string | null
  readonly sdkInt: number | null
}

export interface Registration extends DeviceDescription {
  readonly enrollmentTokenHash: Buffer
  readonly alias: string | null
  readonly newDeviceId: string
  readonly deviceTokenHash: Buffer
  readonly hmacSecretId: string
  readonly requestId: string
  readonly ip: string | null
}

export type RegistrationOutcome =
  | Enrolled
  | { readonly kind: 'refused'; readonly verdict: Exclude<EnrollmentVerdict, { kind: 'active' }> }
  | { readonly kind: 'alias_mismatch'; readonly boundAlias: string }
  | { readonly kind: 'alias_taken'; readonly alias: string }
  | { readonly kind: 'alias_missing' }

export interface Enrolled {
  readonly kind: 'created' | 're_enrolled' | 'reissued'
  readonly deviceId: string
  readonly alias: string
  readonly enrollmentNo: number
  /** The HMAC_SECRET from which this enrollment's command key derives. */
  readonly hmacSecretId: string
}

/** How often a lost response can be requested again (docs/device-protocol.md). */
const MAX_REISSUES = 5

/** The device, its status row and its first token. No row if another registration took the alias meanwhile. */
const CREATE = /* sql */ `
  with device as (
    insert into devices (device_id, alias, hardware_id, enrollment_no, enrolled_by, hmac_secret_id,
      fcm_token, fid, app_version, model, manufacturer, android_version, sdk_int, request_id, labels)
    values ($1, $2, $3, 1, $4, $5, ${tokenOf('$6')}, ${fidOf('$6')}, $7, $8, $9, $10, $11, $12, ${tokenLabels('$4')})
    on conflict (alias) where deleted_at is null do nothing
    returning device_id),
  status as (
    insert into device_status (device_id) select device_id from device)
  insert into device_tokens (token_hash, device_id, enrollment_no, request_id)
  select $13, device_id, 1, $12 from device`

/**
 * $12: the hardware id identifies the phone. Otherwise only this call's description is kept, since it decides whether
 * a later call comes from the same phone.
 */
const RE_ENROLL = /* sql */ `
  update devices set enrollment_no = enrollment_no + 1, enrolled_by = $2, enrolled_at = now(),
    reissues = 0, hmac_secret_id = $3, hardware_id = $4, labels = ${MERGED_LABELS},
    ${withPushId('$5')},
    app_version = coalesce($6, app_version), model = coalesce($7, case when $12 then model end),
    manufacturer = coalesce($8, case when $12 then manufacturer end),
    android_version = coalesce($9, case when $12 then android_version end),
    sdk_int = coalesce($10, sdk_int), request_id = $11
  where device_id = $1
  returning enrollment_no as "enrollmentNo"`

const REISSUE = /* sql */ `
  update devices set reissues = reissues + 1,
    ${withPushId('$2')},
    app_version = coalesce($3, app_version), model = coalesce($4, model),
    manufacturer = coalesce($5, manufacturer), android_version = coalesce($6, android_version),
    sdk_int = coalesce($7, sdk_int), request_id = $8
  where device_id = $1`

/** Rolls back the consumed use; caught in this file. */
class AliasRaceError extends Error {
  override readonly name = 'AliasRaceError'
}

/** Receives the verdict before anything else happens, and again after a race. */
export type OnJudged = (verdict: EnrollmentVerdict) => void

/** Enrolls, re-enrolls or re-issues; every other outcome has changed nothing. */
export async function register(
  database: Database,
  registration: Registration,
  onJudged: OnJudged,
): Promise<RegistrationOutcome> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await database.transaction((tx) => registerOnce(tx, registration, onJudged))
    } catch (error) {
      // Another registration took the alias meanwhile; now it is visible.
      if (!(error instanceof AliasRaceError) || tries === 3) throw error
    }
  }
}

async function registerOnce(
  tx: Queryable,
  registration: Registration,
  onJudged: OnJudged,
): Promise<RegistrationOutcome> {
  const token = await judgeLocked(tx, registration.enrollmentTokenHash)
  onJudged(token)
  if (token.kind !== 'active' && token.kind !== 'exhausted') {
    return { kind: 'refused', verdict: token }
  }
  const { tokenId } = token
  if (token.alias !== null && registration.alias !== null && token.alias !== registration.alias) {
    return { kind: 'alias_mismatch', boundAlias: token.alias }
  }
  const alias = token.alias ?? registration.alias
  if (alias === null) return { kind: 'alias_missing' }

  const device = await lockDevice(tx, alias, registration.pushId)
  const step = { tokenId, alias, registration }
  if (device !== undefined) {
    const proof = samePhoneProof(device, registration)
    if (proof !== undefined && (await isResponseLost(tx, device, tokenId))) {
      return reissue(tx, device, step, proof)
    }
  }
  if (token.kind === 'exhausted') return { kind: 'refused', verdict: token }
  if (device !== undefined && token.alias === null) return { kind: 'alias_taken', alias }
  if (!(await consume(tx, tokenId))) {
    return { kind: 'refused', verdict: { ...token, kind: 'exhausted' } }
  }
  return device === undefined ? create(tx, step) : reEnroll(tx, device, step)
}

interface Step {
  readonly tokenId: string
  readonly alias: string
  readonly registration: Registration
}

/** The token created this enrollment, and the response's token was never used. */
async function isResponseLost(
  tx: Queryable,
  device: LockedDevice,
  tokenId: string,
): Promise<boolean> {
  return (
    device.enrolledBy === tokenId &&
    device.reissues < MAX_REISSUES &&
    !(await isEnrollmentUsed(tx, device.deviceId, device.enrollmentNo))
  )
}

/** Values shared by the three statements: push identity (null: keep the device's), description, request_id. */
function described(registration: Registration, device?: LockedDevice) {
  const { appVersion, model, manufacturer, androidVersion, sdkInt, requestId } = registration
  const pushId = device?.isPushIdNew === false ? null : registration.pushId
  return [
    pushId && pushIdText(pushId),
    appVersion,
    model,
    manufacturer,
    androidVersion,
    sdkInt,
    requestId,
  ]
}

async function reissue(
  tx: Queryable,
  device: LockedDevice,
  step: Step,
  proof: SamePhoneProof,
): Promise<Enrolled> {
  const { registration } = step
  await tx.query({
    name: 'registration.reissue',
    text: REISSUE,
    values: [device.deviceId, ...described(registration, device)],
  })
  await addToken(tx, device.deviceId, device.enrollmentNo, step)
  const outcome = await audited(tx, step, { ...device, kind: 'reissued' }, proof)
  if (device.isPushIdNew) await requestPush(tx, device.deviceId)
  return outcome
}

async function create(tx: Queryable, step: Step): Promise<Enrolled> {
  const { registration } = step
  const { rowCount } = await tx.query({
    name: 'registration.create',
    text: CREATE,
    values: [
      registration.newDeviceId,
      step.alias,
      registration.hardwareId,
      step.tokenId,
      registration.hmacSecretId,
      ...described(registration),
      registration.deviceTokenHash,
    ],
  })
  if (rowCount === 0) throw new AliasRaceError('the alias was taken meanwhile')
  return audited(tx, step, {
    kind: 'created',
    deviceId: registration.newDeviceId,
    enrollmentNo: 1,
    hmacSecretId: registration.hmacSecretId,
  })
}

async function reEnroll(tx: Queryable, device: LockedDevice, step: Step): Promise<Enrolled> {
  const { registration } = step
  const { rows } = await tx.query<{ enrollmentNo: number }>({
    name: 'registration.re_enroll',
    text: RE_ENROLL,
    values: [
      device.deviceId,
      step.tokenId,
      registration.hmacSecretId,
      registration.hardwareId,
      ...described(registration, device),
      isIdentifying(registration),
    ],
  })
  const enrollmentNo = rows[0]?.enrollmentNo ?? device.enrollmentNo + 1
  await killDeviceTokens(tx, device.deviceId, 're_enrolled')
  await addToken(tx, device.deviceId, enrollmentNo, step)
  const { hmacSecretId } = registration
  const enrolled = { ...device, enrollmentNo, hmacSecretId, kind: 're_enrolled' } as const
  const outcome = await audited(tx, step, enrolled)
  if (device.isPushIdNew) await requestPush(tx, device.deviceId)
  return outcome
}

function addToken(tx: Queryable, deviceId: string, enrollmentNo: number, { registration }: Step) {
  const { deviceTokenHash: tokenHash, requestId } = registration
  return insertDeviceToken(tx, { tokenHash, deviceId, enrollmentNo, requestId })
}

async function audited(
  tx: Queryable,
  { tokenId, alias, registration }: Step,
  done: Omit<Enrolled, 'alias'>,
  proof?: SamePhoneProof,
): Promise<Enrolled> {
  const { kind, deviceId, enrollmentNo, hmacSecretId } = done
  const { requestId, ip } = registration
  const detail = { alias, token_id: tokenId, enrollment_no: enrollmentNo, proof }
  await writeAudit(tx, {
    admin: null,
    what: `device.${kind}`,
    subject: deviceId,
    requestId,
    ip,
    detail,
  })
  return { kind, deviceId, alias, enrollmentNo, hmacSecretId }
}
