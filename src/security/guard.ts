/**
 * Headers → proven identity, or a Denial. 401 only for a credential that is proven bad, since phones wipe themselves
 * after five. Trouble of our own stays a 503.
 */
import type { IncomingHttpHeaders } from 'node:http'
import { AppError } from '../domain/errors.ts'
import {
  type AdminScope,
  type AdminToken,
  type Caller,
  type DeviceVerdict,
  type Downloader,
  type EnrollmentVerdict,
  type HmacSecret,
  type LiveDevice,
  noteEnrollment,
} from '../domain/identity.ts'
import { adminLookup, mayUse } from './admin-tokens.ts'
import type { DeadTokens } from './dead-tokens.ts'
import { authDenied, type Denial, refuseDevice, refuseEnrollment } from './denial.ts'
import { createTokenTurns, type HashedToken, type InTurn } from './token-turns.ts'
import { deviceTagCheck, enrollmentTagCheck, hashToken, isEnrollmentToken } from './tokens.ts'

export interface GuardDeps {
  readonly adminTokens: readonly AdminToken[]
  readonly hmacSecrets: readonly HmacSecret[]
  readonly authenticateDevice: (tokenHash: Buffer) => Promise<DeviceVerdict>
  readonly enrollmentTokens: {
    readonly judge: (tokenHash: Buffer) => Promise<EnrollmentVerdict>
    /** For tokens without our tag. A flood of them gets 503 `overloaded` and delays nobody else. */
    readonly judgeUntagged: (tokenHash: Buffer) => Promise<EnrollmentVerdict>
  }
  readonly deadTokens: DeadTokens
  /** False on a fresh installation, where no phone may hear that its token is bad. */
  readonly hasDevices: () => Promise<boolean>
}

type Headers = IncomingHttpHeaders

export interface Guards {
  /** A device token with our tag, not looked up. Synchronous unless it is refused. */
  deviceToken(headers: Headers): HashedToken | Promise<never>
  /** Looks up what `deviceToken` proved. */
  device(token: HashedToken, caller: Caller): Promise<LiveDevice & HashedToken>
  /** Runs `work`, while few other requests of this token run. */
  readonly inTurn: InTurn
  /** An enrollment token with our tag that is not known to be dead, not looked up; or one without a tag that the database knows. */
  enrollmentToken(headers: Headers, caller: Caller): Promise<HashedToken>
  admin(headers: Headers, scopes: readonly AdminScope[], caller: Caller): { readonly admin: string }
  downloader(headers: Headers, caller: Caller): Promise<{ readonly downloader: Downloader }>
}

export function createGuards(deps: GuardDeps): Guards {
  const checks = createChecks(deps)
  return {
    deviceToken: (headers) => proveDeviceToken(checks, headers),
    device: (token, caller) => proveDevice(checks, token, caller),
    inTurn: checks.inTurn,
    enrollmentToken: (headers, caller) => proveEnrollmentToken(checks, headers, caller),
    admin: (headers, scopes, caller) => proveAdmin(checks, readBearer(headers), scopes, caller),
    downloader: (headers, caller) => proveDownloader(checks, headers, caller),
  }
}

type Checks = ReturnType<typeof createChecks>

function createChecks({ adminTokens, hmacSecrets, hasDevices, ...lookups }: GuardDeps) {
  /** Never becomes false again: a deleted device keeps its row. */
  let hasSeenDevices = false
  return {
    ...lookups,
    inTurn: createTokenTurns(),
    findAdmin: adminLookup(adminTokens),
    hasDeviceTag: deviceTagCheck(hmacSecrets),
    hasEnrollmentTag: enrollmentTagCheck(hmacSecrets),
    async isFreshInstallation(): Promise<boolean> {
      hasSeenDevices ||= await hasDevices()
      return !hasSeenDevices
    },
  }
}

function proveDeviceToken(checks: Checks, headers: Headers) {
  const token = readDeviceCredential(headers)
  return checks.hasDeviceTag(token)
    ? { tokenHash: hashToken(token) }
    : refuseDeviceToken(checks, token)
}

async function refuseDeviceToken(checks: Checks, token: string): Promise<never> {
  if (isEnrollmentToken(token)) {
    throw wrongCredential(
      'This is an enrollment token. Register first, then use the device token of the answer.',
    )
  }
  if (await checks.isFreshInstallation()) throw refuseDevice({ kind: 'unknown' })
  throw authDenied(
    'token_unknown',
    'unknown',
    'This device token was not issued here. Enroll again.',
  )
}

async function proveDevice(checks: Checks, { tokenHash }: HashedToken, caller: Caller) {
  const verdict = await checks.authenticateDevice(tokenHash)
  if (verdict.kind !== 'unknown') {
    caller.deviceId = verdict.deviceId
    caller.alias = verdict.alias
  }
  if (verdict.kind !== 'live') throw refuseDevice(verdict)
  return { ...verdict, tokenHash }
}

async function proveEnrollmentToken(checks: Checks, headers: Headers, caller: Caller) {
  const token = readBearer(headers)
  if (isEnrollmentToken(token)) {
    const tokenHash = hashToken(token)
    refuseDead(checks, tokenHash, caller)
    if (checks.hasEnrollmentTag(token)) return { tokenHash }
    const verdict = await checks.enrollmentTokens.judgeUntagged(tokenHash)
    if (verdict.kind === 'active') noteEnrollment(verdict, caller)
    if (verdict.kind === 'unknown') throw refuseEnrollment(verdict)
    return { tokenHash }
  }
  if (checks.hasDeviceTag(token)) {
    throw wrongCredential('This is a device token. Registration takes an enrollment token.')
  }
  throw refuseEnrollment({ kind: 'unknown' })
}

function refuseDead({ deadTokens }: Checks, tokenHash: Buffer, caller: Caller): void {
  const verdict = deadTokens.find(tokenHash)
  if (verdict === undefined) return
  noteEnrollment(verdict, caller)
  throw refuseEnrollment(verdict)
}

function proveAdmin(checks: Checks, token: string, scopes: readonly AdminScope[], caller: Caller) {
  const found = checks.findAdmin(token)
  if (found === undefined) {
    if (isEnrollmentToken(token) || checks.hasDeviceTag(token)) {
      throw wrongCredential('This route takes an admin token.')
    }
    throw authDenied('token_unknown', 'unknown', 'This admin token is not known here.')
  }
  caller.admin = found.name
  if (!mayUse(found, scopes)) {
    const wanted = scopes.join(' or ')
    throw authDenied('forbidden', 'scope', `This admin token lacks the scope: ${wanted}.`)
  }
  return { admin: found.name }
}

async function proveDownloader(
  checks: Checks,
  headers: Headers,
  caller: Caller,
): Promise<{ downloader: Downloader }> {
  const token = headers['x-device-token'] === undefined ? readBearer(headers) : ''
  if (isEnrollmentToken(token)) {
    const { judge, judgeUntagged } = checks.enrollmentTokens
    const tokenHash = hashToken(token)
    refuseDead(checks, tokenHash, caller)
    const verdict = await checks.inTurn({ tokenHash }, () =>
      (checks.hasEnrollmentTag(token) ? judge : judgeUntagged)(tokenHash),
    )
    noteEnrollment(verdict, caller)
    checks.deadTokens.note(tokenHash, verdict)
    // An exhausted token may still download: enrollment ends with the APK.
    if (verdict.kind !== 'active' && verdict.kind !== 'exhausted') throw refuseEnrollment(verdict)
    const { tokenId, usesAllowed } = verdict
    return { downloader: { source: 'enrollment', tokenId, usesAllowed } }
  }
  if (checks.findAdmin(token) !== undefined) {
    return { downloader: { source: 'manual', ...proveAdmin(checks, token, ['apk'], caller) } }
  }
  // A phone may have sent it, so a fresh installation must not call it bad.
  const proven = await proveDeviceToken(checks, headers)
  const { deviceId } = await checks.inTurn(proven, () => proveDevice(checks, proven, caller))
  return { downloader: { source: 'ota', deviceId } }
}

function wrongCredential(message: string): Denial {
  return authDenied('wrong_credential', 'wrong_credential', message)
}

function readDeviceCredential(headers: IncomingHttpHeaders): string {
  const own = headers['x-device-token']
  if (own === undefined) return readBearer(headers)
  if (typeof own !== 'string') {
    throw new AppError('bad_request', 'X-Device-Token was sent twice. Send it once.')
  }
  if (headers.authorization !== undefined && readBearer(headers) !== own) {
    throw new AppError('bad_request', 'Authorization and X-Device-Token differ. Send one of them.')
  }
  return own
}

function readBearer(headers: IncomingHttpHeaders): string {
  const value = headers.authorization
  if (value === undefined) {
    throw authDenied('unauthenticated', 'missing', 'Send Authorization: Bearer <token>.')
  }
  const token = /^Bearer +(\S+) *$/i.exec(value)?.[1]
  if (token === undefined) {
    throw authDenied('unauthenticated', 'malformed', 'Authorization must read: Bearer <token>.')
  }
  return token
}
