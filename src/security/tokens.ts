/**
 * The two tokens that we issue. Both carry 256 unguessable bits (a device token 208 and a tag), so one
 * SHA-256 is what the database stores and looks up: no slow hash is needed.
 */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto'

export interface IssuedToken {
  /** Shown once, never stored. */
  readonly token: string
  /** SHA-256 of the whole token text; 32 bytes. */
  readonly hash: Buffer
}

/** One server secret; the first of a list signs, all verify. */
export interface Secret {
  readonly id: string
  readonly secret: string
}

const TAG_CONTEXT = 'device-token:v1:'
const FINGERPRINT_CONTEXT = 'secret-fingerprint:v1'
const DEVICE_RANDOM_BYTES = 26
const TAG_BYTES = 6
const ENROLLMENT_RANDOM_BYTES = 32
const DEVICE_TOKEN = /^dt_[A-Za-z0-9_-]{43}$/
const ENROLLMENT_TOKEN = /^et_[A-Za-z0-9_-]{43}$/

export function hashToken(token: string): Buffer {
  return createHash('sha256').update(token).digest()
}

/** `et_` and 43 base64url characters. */
export function issueEnrollmentToken(randomBytes: (sizeBytes: number) => Buffer): IssuedToken {
  const token = `et_${randomBytes(ENROLLMENT_RANDOM_BYTES).toString('base64url')}`
  return { token, hash: hashToken(token) }
}

/** `dt_` and 43 base64url characters: 26 random bytes and their 6-byte tag. */
export function issueDeviceToken(
  secret: Secret,
  randomBytes: (sizeBytes: number) => Buffer,
): IssuedToken {
  const random = randomBytes(DEVICE_RANDOM_BYTES)
  const token = `dt_${Buffer.concat([random, tag(secret, random)]).toString('base64url')}`
  return { token, hash: hashToken(token) }
}

/** Tells whether a secret is still the one it was; nothing of it can be read from this. 32 bytes. */
export function secretFingerprint({ secret }: Secret): Buffer {
  return createHmac('sha256', secret).update(FINGERPRINT_CONTEXT).digest()
}

export function isEnrollmentToken(token: string): boolean {
  return ENROLLMENT_TOKEN.test(token)
}

/** Whether we issued it: a wrong tag is refused without asking the database, so a flood of garbage stays cheap. */
export function hasDeviceTag(token: string, secrets: readonly Secret[]): boolean {
  if (!DEVICE_TOKEN.test(token)) return false
  const bytes = Buffer.from(token.slice(3), 'base64url')
  const random = bytes.subarray(0, DEVICE_RANDOM_BYTES)
  const given = bytes.subarray(DEVICE_RANDOM_BYTES)
  return secrets.some((secret) => timingSafeEqual(tag(secret, random), given))
}

function tag(secret: Secret, random: Uint8Array): Buffer {
  const mac = createHmac('sha256', secret.secret).update(TAG_CONTEXT).update(random).digest()
  return mac.subarray(0, TAG_BYTES)
}
