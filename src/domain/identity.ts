/** Credentials, and whom they identify: the database's verdicts on tokens, and the admins' scopes. */

/** Who sent a request, as far as is known: for its log lines. */
export interface Caller {
  deviceId: string | null
  alias: string | null
  /** Name of the admin token, once proven. */
  admin: string | null
  /** Last 4 characters of the enrollment token's id, once known. Never more. */
  tokenId: string | null
}

/** A device with a valid token, and the parts of its command key. */
export interface LiveDevice {
  readonly deviceId: string
  readonly alias: string
  readonly enrollmentNo: number
  readonly hmacSecretId: string
}

/** The verdict on a device token with a valid tag. */
export type DeviceVerdict =
  | ({ readonly kind: 'live' } & LiveDevice)
  | { readonly kind: 'superseded'; readonly deviceId: string; readonly alias: string }
  | { readonly kind: 'deleted'; readonly deviceId: string; readonly alias: string }
  | { readonly kind: 'unknown' }

export type EnrollmentTokenStatus = 'active' | 'exhausted' | 'expired' | 'revoked'

/** The verdict on an enrollment token. `alias`: the one it is bound to, or null. */
export type EnrollmentVerdict =
  | {
      [K in EnrollmentTokenStatus]: {
        readonly kind: K
        readonly tokenId: string
        readonly alias: string | null
        readonly usesAllowed: number
      }
    }[EnrollmentTokenStatus]
  | { readonly kind: 'unknown' }

/** Notes the enrollment token of a request, and the alias that it is bound to, for the request's log lines. */
export function noteEnrollment(
  verdict: EnrollmentVerdict,
  caller: Pick<Caller, 'tokenId' | 'alias'>,
): void {
  if (verdict.kind === 'unknown') return
  caller.tokenId = verdict.tokenId.slice(-4)
  caller.alias = verdict.alias
}

export const ADMIN_SCOPES = ['admin', 'command', 'enroll', 'apk', 'metrics', 'read'] as const

/** `admin` includes all others. */
export type AdminScope = (typeof ADMIN_SCOPES)[number]

/** An admin token, less its secret. */
export interface Admin {
  readonly name: string
  readonly scopes: readonly AdminScope[]
}

export interface AdminToken extends Admin {
  readonly secret: string
}

/** A server secret for device tokens and command keys. The first in the list signs, all verify. */
export interface HmacSecret {
  /** `default` if HMAC_SECRET names none. Stored in `devices.hmac_secret_id`. */
  readonly id: string
  readonly secret: string
}

/** May push. */
export interface ServiceAccount {
  readonly projectId: string
  readonly clientEmail: string
  /** PEM with real newlines. */
  readonly privateKey: string
  /** https, or http to loopback only. Receives the assertion and is its audience (`aud`). */
  readonly tokenUri: string
}

/** Who downloads an APK. `source` goes into the row of the download. */
export type Downloader =
  | { readonly source: 'enrollment'; readonly tokenId: string; readonly usesAllowed: number }
  | { readonly source: 'ota'; readonly deviceId: string }
  | { readonly source: 'manual'; readonly admin: string }
