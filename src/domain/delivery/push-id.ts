/**
 * How FCM addresses an app on a phone: by a registration token, or by its Firebase Installation ID (FID). A phone has one of
 * the two; registering by one ends the other.
 */
export type PushKind = 'token' | 'fid'

export interface PushId {
  readonly kind: PushKind
  readonly value: string
}

export const FID = /^[A-Za-z0-9_-]{1,255}$/

/** The form of the FIDs that Google's SDKs make: 17 bytes in base64url. Registration tokens are longer. */
export const FID_FORM = /^[A-Za-z0-9_-]{22}$/

/** The field that carries it in requests. */
export const WIRE_NAMES = { token: 'fcm_token', fid: 'fid' } as const

/** A token that is probably a FID under the wrong name. */
export function isMisnamedFid({ kind, value }: PushId): boolean {
  return kind === 'token' && FID_FORM.test(value)
}

/** Kind and value as one text, as SQL statements take and compare them. */
export function pushIdText({ kind, value }: PushId): string {
  return `${kind}:${value}`
}
