/** Ids made in code: UUIDv7 (RFC 9562, section 5.7), since PostgreSQL before 18 cannot make them. */
import { randomFillSync } from 'node:crypto'

const POOL_BYTES = 1_024
const RANDOM_BYTES_PER_ID = 10

/** A maker of UUIDv7s: 48 bits of `now()` in milliseconds, then 74 random bits, drawn in bulk. */
export function createUuidV7(now: () => number): () => string {
  const pool = Buffer.allocUnsafe(POOL_BYTES)
  let used = POOL_BYTES
  return () => {
    if (used + RANDOM_BYTES_PER_ID > POOL_BYTES) {
      randomFillSync(pool)
      used = 0
    }
    pool[used] = ((pool[used] ?? 0) & 0x0f) | 0x70 // version 7
    pool[used + 2] = ((pool[used + 2] ?? 0) & 0x3f) | 0x80 // variant
    const random = pool.toString('hex', used, used + RANDOM_BYTES_PER_ID)
    used += RANDOM_BYTES_PER_ID
    const time = now().toString(16).padStart(12, '0')
    return `${time.slice(0, 8)}-${time.slice(8)}-${random.slice(0, 4)}-${random.slice(4, 8)}-${random.slice(8)}`
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

/** UTF-16 units of a push token, by whichever way it comes (http-api.md, fcm-token). */
export const MAX_FCM_TOKEN_LENGTH = 4_096
