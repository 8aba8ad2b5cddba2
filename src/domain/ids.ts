/** Makes UUIDv7s (RFC 9562, section 5.7), which PostgreSQL cannot before 18, and checks the form of ids and names. */
import { randomFillSync } from 'node:crypto'

/** Random bytes are drawn in blocks: a call per id took longer than everything else. */
const POOL_BYTES = 4_096
/** 18 hex digits in fields of 12, 12 and 48 bits, and one of which two bits select the variant. */
const DIGITS_PER_ID = 20
const VARIANTS = '89ab'

/** Each id has 48 bits of `now()`, in milliseconds since 1970, and 74 random bits. */
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

/** `request_id` and `build_id`. */
export const REQUEST_ID = /^[A-Za-z0-9._:-]{1,128}$/

export function isRequestId(text: string): boolean {
  return REQUEST_ID.test(text)
}

export const ALIAS = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/

export function isAlias(text: string): boolean {
  return ALIAS.test(text)
}

/** Android's own. Any other build type, such as a product flavor's, is taken as it is. */
export const ANDROID_BUILD_TYPES = ['debug', 'release'] as const

/** `debug` for `Debug`, which would be a type of its own. undefined: it is written as meant. */
export function buildTypeMeant(text: string): string | undefined {
  const meant = ANDROID_BUILD_TYPES.find((type) => type === text.toLowerCase())
  return meant === text ? undefined : meant
}

export const BUILD_TYPE = /^[a-z0-9][a-z0-9_-]{0,31}$/i

/** A name in COMMAND_ACTIONS. */
export const ACTION = /^[a-z][a-z0-9_]{0,63}$/

/** A name in ADMIN_TOKENS. */
export const ADMIN_NAME = /^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$/

/** In UTF-16 code units. Holds for every endpoint that takes a push token. */
export const MAX_FCM_TOKEN_LENGTH = 4_096
