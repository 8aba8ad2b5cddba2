/** Who a credential proves its bearer to be: what the guard asks the database, and what it answers. */

/** A device whose token holds, and what its command key is made from. */
export interface LiveDevice {
  readonly deviceId: string
  readonly alias: string
  readonly enrollmentNo: number
  readonly hmacSecretId: string
}

/** What the database says of a device token whose tag is right. */
export type DeviceVerdict =
  | ({ readonly kind: 'live' } & LiveDevice)
  | { readonly kind: 'superseded'; readonly deviceId: string; readonly alias: string }
  | { readonly kind: 'deleted'; readonly deviceId: string; readonly alias: string }
  | { readonly kind: 'unknown' }

export type EnrollmentTokenStatus = 'active' | 'exhausted' | 'expired' | 'revoked'

/** What the database says of an enrollment token. `alias` is the one that it is bound to, or null. */
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

/** For the lines of a request: which enrollment token it shows, and the alias that this is bound to. */
export function noteEnrollment(
  verdict: EnrollmentVerdict,
  about: { tokenId: string | null; alias: string | null },
): void {
  if (verdict.kind === 'unknown') return
  about.tokenId = verdict.tokenId.slice(-4)
  about.alias = verdict.alias
}

export const ADMIN_SCOPES = ['admin', 'command', 'enroll', 'apk', 'metrics', 'read'] as const

/** What an admin token may do; `admin` includes all others. */
export type AdminScope = (typeof ADMIN_SCOPES)[number]

/** Who fetches an APK; it decides the `source` of the download's audit row. */
export type Downloader =
  | { readonly source: 'enrollment'; readonly tokenId: string; readonly usesAllowed: number }
  | { readonly source: 'ota'; readonly deviceId: string }
  | { readonly source: 'manual'; readonly admin: string }
