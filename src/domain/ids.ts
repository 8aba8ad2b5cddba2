/** Ids made in code: UUIDv7 (RFC 9562, section 5.7), since PostgreSQL before 18 cannot make them. */
import { randomFillSync } from 'node:crypto'

/** Random bytes drawn at once: a call for each id cost more than the rest of it. */
const POOL_BYTES = 4_096
/** 18 hex digits are used, in two fields of 12 bits and one of 48, and two bits of the variant. */
const DIGITS_PER_ID = 20
const VARIANTS = '89ab'

/** A maker of UUIDv7s: 48 bits of `now()` in milliseconds, then 74 random bits. */
export function createUuidV7(now: () => number): () => string {
  const pool = Buffer.allocUnsafe(POOL_BYTES)
  let digits = ''
  let used = 0
  let timeMs = Number.NaN
  let time = ''
  return () => {
    const nowMs = now()
    if (nowMs !== timeMs) {
      timeMs = nowMs
      const hex = nowMs.toString(16).padStart(12, '0')
      time = `${hex.slice(0, 8)}-${hex.slice(8)}-7`
    }
    if (used + DIGITS_PER_ID > digits.length) {
      digits = randomFillSync(pool).toString('hex')
      used = 0
    }
    const at = used
    used += DIGITS_PER_ID
    const variant = VARIANTS[digits.charCodeAt(at + 18) & 3]
    return `${time}${digits.slice(at, at + 3)}-${variant}${digits.slice(at + 3, at + 6)}-${digits.slice(at + 6, at + 18)}`
  }
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

export function isUuid(text: string): boolean {
  return UUID.test(text)
}

/** `request_id` and `build_id`: http-api.md, common rules. */
export const REQUEST_ID = /^[A-Za-z0-9._:-]{1,128}$/

export function isRequestId(text: string): boolean {
  return REQUEST_ID.test(text)
}

export const ALIAS = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/

export function isAlias(text: string): boolean {
  return ALIAS.test(text)
}

/** What COMMAND_ACTIONS may name. */
export const ACTION = /^[a-z][a-z0-9_]{0,63}$/

/** What ADMIN_TOKENS may name. */
export const ADMIN_NAME = /^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$/

/** UTF-16 units of a push token, by whichever way it comes (http-api.md, fcm-token). */
export const MAX_FCM_TOKEN_LENGTH = 4_096
