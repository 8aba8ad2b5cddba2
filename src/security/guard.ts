/**
 * Headers → proven identity, or a Denial. 401 only for a credential that is proven bad, since phones wipe themselves
 * after five. Trouble of our own stays a 503.
 */
import type { IncomingHttpHeaders } from 'node:http'
import { AppError } from '../domain/errors.ts'
import {
  type AdminScope,
  type DeviceVerdict,
  type Downloader,
  type EnrollmentVerdict,
  noteEnrollment,
} from '../domain/identity.ts'
import { type AdminToken, adminLookup, mayUse } from './admin-tokens.ts'
import { authDenied, refuseDevice, refuseEnrollment } from './denial.ts'
import {
  deviceTagCheck,
  enrollmentTagCheck,
  hashToken,
  isEnrollmentToken,
  type Secret,
} from './tokens.ts'

/** What a guard learns, for the log lines of the request. */
export interface About {
  deviceId: string | null
  alias: string | null
  admin: string | null
  /** Last 4 characters of the enrollment token's id. */
  tokenId: string | null
}

export interface GuardDeps {
  readonly adminTokens: readonly AdminToken[]
  readonly hmacSecrets: readonly Secret[]
  readonly authenticateDevice: (tokenHash: Buffer) => Promise<DeviceVerdict>
  readonly enrollmentTokens: {
    readonly judge: (tokenHash: Buffer) => Promise<EnrollmentVerdict>
    /** For tokens without our tag. A flood of them gets 503 `overloaded` and delays nobody else. */
    readonly judgeUntagged: (tokenHash: Buffer) => Promise<EnrollmentVerdict>
  }
  /** False on a fresh installation, where no phone may hear that its token is bad. */
  readonly hasDevices: () => Promise<boolean>
}

export type Guards = ReturnType<typeof createGuards>

export function createGuards(deps: GuardDeps) {
  const findAdmin = adminLookup(deps.adminTokens)
  const hasDeviceTag = deviceTagCheck(deps.hmacSecrets)
  const hasEnrollmentTag = enrollmentTagCheck(deps.hmacSecrets)
  /** Never becomes false again: a deleted device keeps its row. */
  let hasSeenDevices = false

  async function isFreshInstallation(): Promise<boolean> {
    hasSeenDevices ||= await deps.hasDevices()
    return !hasSeenDevices
  }

  /** A device token with our tag, not looked up. Synchronous unless it is refused. */
  function deviceToken(
    headers: IncomingHttpHeaders,
  ): { readonly tokenHash: Buffer } | Promise<never> {
    const token = readDeviceCredential(headers)
    return hasDeviceTag(token) ? { tokenHash: hashToken(token) } : refuseToken(token)
  }

  async function refuseToken(token: string): Promise<never> {
    if (isEnrollmentToken(token)) {
      throw authDenied(
        'wrong_credential',
        'wrong_credential',
        'This is an enrollment token. Register first, then use the device token of the answer.',
      )
    }
    if (await isFreshInstallation()) throw refuseDevice({ kind: 'unknown' })
    throw authDenied(
      'token_unknown',
      'unknown',
      'This device token was not issued here. Enroll again.',
    )
  }

  async function device(headers: IncomingHttpHeaders, about: About) {
    const { tokenHash } = await deviceToken(headers)
    const verdict = await deps.authenticateDevice(tokenHash)
    if (verdict.kind !== 'unknown') {
      about.deviceId = verdict.deviceId
      about.alias = verdict.alias
    }
    if (verdict.kind !== 'live') throw refuseDevice(verdict)
    return { ...verdict, tokenHash }
  }

  /** An enrollment token with our tag, not looked up; or one without a tag that the database knows. */
  async function enrollmentToken(
    headers: IncomingHttpHeaders,
    about: About,
  ): Promise<{ tokenHash: Buffer }> {
    const token = readBearer(headers)
    if (isEnrollmentToken(token)) {
      const tokenHash = hashToken(token)
      if (hasEnrollmentTag(token)) return { tokenHash }
      const verdict = await deps.enrollmentTokens.judgeUntagged(tokenHash)
      noteEnrollment(verdict, about)
      if (verdict.kind === 'unknown') throw refuseEnrollment(verdict)
      return { tokenHash }
    }
    if (hasDeviceTag(token)) {
      throw authDenied(
        'wrong_credential',
        'wrong_credential',
        'This is a device token. Registration takes an enrollment token.',
      )
    }
    throw refuseEnrollment({ kind: 'unknown' })
  }

  function admin(
    headers: IncomingHttpHeaders,
    scopes: readonly AdminScope[],
    about: About,
  ): { admin: string } {
    const token = readBearer(headers)
    const found = findAdmin(token)
    if (found === undefined) {
      if (isEnrollmentToken(token) || hasDeviceTag(token)) {
        throw authDenied('wrong_credential', 'wrong_credential', 'This route takes an admin token.')
      }
      throw authDenied('token_unknown', 'unknown', 'This admin token is not known here.')
    }
    about.admin = found.name
    if (!mayUse(found, scopes)) {
      const wanted = scopes.join(' or ')
      throw authDenied('forbidden', 'scope', `This admin token lacks the scope: ${wanted}.`)
    }
    return { admin: found.name }
  }

  async function downloader(
    headers: IncomingHttpHeaders,
    about: About,
  ): Promise<{ downloader: Downloader }> {
    const token = headers['x-device-token'] === undefined ? readBearer(headers) : ''
    if (isEnrollmentToken(token)) {
      const { judge, judgeUntagged } = deps.enrollmentTokens
      const verdict = await (hasEnrollmentTag(token) ? judge : judgeUntagged)(hashToken(token))
      noteEnrollment(verdict, about)
      // An exhausted token may still download: enrollment ends with the APK.
      if (verdict.kind !== 'active' && verdict.kind !== 'exhausted') throw refuseEnrollment(verdict)
      const { tokenId, usesAllowed } = verdict
      return { downloader: { source: 'enrollment', tokenId, usesAllowed } }
    }
    if (findAdmin(token) !== undefined) {
      return { downloader: { source: 'manual', ...admin(headers, ['apk'], about) } }
    }
    // A phone may have sent it, so a fresh installation must not call it bad.
    const { deviceId } = await device(headers, about)
    return { downloader: { source: 'ota', deviceId } }
  }

  return { deviceToken, device, enrollmentToken, admin, downloader }
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
