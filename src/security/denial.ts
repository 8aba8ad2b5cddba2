/** Refusals with a log line of their own: the response for the caller and the line for the operator. */
import { AppError, type AppErrorOptions, type ErrorCode } from '../domain/errors.ts'
import type { DeviceVerdict, EnrollmentVerdict } from '../domain/identity.ts'
import type { Line } from '../telemetry/log/log.ts'

/** Its line is the last one of the request, or an extra one where the route writes its own. */
export class Denial extends AppError {
  override readonly name = 'Denial'
  readonly line: Line

  constructor(code: ErrorCode, message: string, line: Line, options: AppErrorOptions = {}) {
    super(code, message, options)
    this.line = line
  }
}

type DeniedReason =
  | 'missing'
  | 'malformed'
  | 'unknown'
  | 'superseded'
  | 'wrong_credential'
  | 'scope'
  | 'deleted'

export function authDenied(code: ErrorCode, reason: DeniedReason, message: string): Denial {
  return new Denial(code, message, { event: 'sec.auth.denied', fields: { reason, token_id: null } })
}

/** The refusal of a device whose verdict is not `live`. */
export function refuseDevice(verdict: Exclude<DeviceVerdict, { kind: 'live' }>): Denial {
  switch (verdict.kind) {
    case 'superseded':
      return authDenied(
        'token_superseded',
        'superseded',
        'This device token was replaced. Enroll again.',
      )
    case 'deleted':
      return authDenied('device_deleted', 'deleted', 'This device was deleted. Stop calling.')
    case 'unknown':
      // We issued the token, so the database lost the device. That is our fault and no reason to wipe a phone.
      return new Denial(
        'not_provisioned',
        'This installation does not know the device yet. Keep the token and try again later.',
        { event: 'device.unknown_to_database', fields: {} },
        { retryAfterS: 60 },
      )
  }
}

/** The refusal of an enrollment token; `exhausted` only matters to registration. */
export function refuseEnrollment(verdict: Exclude<EnrollmentVerdict, { kind: 'active' }>): Denial {
  const [code, message] = {
    exhausted: [
      'token_exhausted',
      'All uses of this enrollment token are consumed. Ask for a new one.',
    ],
    expired: ['token_expired', 'This enrollment token has expired. Ask for a new one.'],
    revoked: ['token_revoked', 'This enrollment token was revoked. Ask for a new one.'],
    unknown: [
      'token_unknown',
      'This enrollment token is not known here. Check it, or ask for a new one.',
    ],
  }[verdict.kind] as [ErrorCode, string]
  const tokenId = verdict.kind === 'unknown' ? null : verdict.tokenId.slice(-4)
  return new Denial(code, message, {
    event: 'sec.token.expired',
    fields: { reason: verdict.kind, token_id: tokenId },
  })
}

/** A limit that a request exceeds. */
export interface ReachedLimit {
  /** Appears in the log line and in `detail`, such as `apk_per_token`. */
  readonly name: string
  readonly limit: number
  readonly used: number
  /** What is counted: `downloads of this token within a minute`. */
  readonly counts: string
  /** Whole seconds until there is room, as far as known; at least 1. */
  readonly retryAfterS: number
  /** What to do, if it is not to wait. */
  readonly advice?: string
}

/** Builds every 429: usage, limit and waiting time, as text and in `RateLimit-*` headers. */
export function rateLimited(reached: ReachedLimit, tokenId: string | null): Denial {
  const { name, limit, used, counts, retryAfterS } = reached
  const { advice = `Try again in ${retryAfterS} s.` } = reached
  return new Denial(
    'rate_limited',
    `${name}: ${used} of ${limit} ${counts} are used. ${advice}`,
    { event: 'sec.token.ratelimit', fields: { reason: name, token_id: tokenId } },
    {
      retryAfterS,
      headers: {
        'ratelimit-limit': String(limit),
        'ratelimit-remaining': String(Math.max(0, limit - used)),
        'ratelimit-reset': String(retryAfterS),
      },
    },
  )
}
