/**
 * Device and enrollment tokens: 208 random bits and a tag that proves their origin. With that many bits the database
 * can store and look up one SHA-256; a slow hash is not needed.
 */
import { createHmac, hash, timingSafeEqual } from 'node:crypto'
import type { HmacSecret } from '../domain/identity.ts'

export interface IssuedToken {
  /** Shown once, never stored. */
  readonly token: string
  /** SHA-256 of the whole token text; 32 bytes. */
  readonly hash: Buffer
}

interface Kind {
  readonly prefix: string
  /** Prefix of the data under the tag; the random bytes follow. */
  readonly context: string
  readonly form: RegExp
}

// The last character has two unused bits. Only one spelling of each token is accepted.
const DEVICE: Kind = {
  prefix: 'dt_',
  context: 'device-token:v1:',
  form: /^dt_[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$/,
}
const ENROLLMENT: Kind = {
  prefix: 'et_',
  context: 'enroll-token:v1:',
  form: /^et_[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$/,
}
const BATCH_CONTEXT = 'enroll-token-batch:v1:'
const SEED_BYTES = 32
const FINGERPRINT_CONTEXT = 'secret-fingerprint:v1'
const PREFIX_LENGTH = 3
const RANDOM_BYTES = 26
const TAG_BYTES = 6
/** SHA-256 (FIPS 180-4). */
const BLOCK_BYTES = 64
const HASH_BYTES = 32

export function hashToken(token: string): Buffer {
  return Buffer.from(hash('sha256', token, 'binary'), 'latin1') // returning a Buffer directly takes half as long again
}

/** `et_` and 43 base64url characters: 26 random bytes and their 6-byte tag. */
export function issueEnrollmentToken(
  secret: HmacSecret,
  randomBytes: (sizeBytes: number) => Buffer,
): IssuedToken {
  return issue(ENROLLMENT, secret, randomBytes)
}

/** Enrollment tokens derived from the seed of their batch and a server secret. */
export interface BatchTokens {
  /** 32 random bytes. */
  newSeed(): Buffer
  /** Token number `index` of the batch, under the secret that signs. */
  issue(seed: Buffer, index: number): IssuedToken
  /** The same token again; undefined if the secret that made it is gone. */
  remake(seed: Buffer, index: number, tokenHash: Buffer): string | undefined
}

export function batchTokens(
  signing: HmacSecret,
  secrets: readonly HmacSecret[],
  randomBytes: (sizeBytes: number) => Buffer,
): BatchTokens {
  const make = (secret: HmacSecret, seed: Buffer, index: number) =>
    issueEnrollmentToken(secret, (sizeBytes) =>
      createHmac('sha256', secret.secret)
        .update(`${BATCH_CONTEXT}${index}:`)
        .update(seed)
        .digest()
        .subarray(0, sizeBytes),
    )
  return {
    newSeed: () => randomBytes(SEED_BYTES),
    issue: (seed, index) => make(signing, seed, index),
    remake: (seed, index, tokenHash) =>
      secrets.map((secret) => make(secret, seed, index)).find(({ hash }) => hash.equals(tokenHash))
        ?.token,
  }
}

/** `dt_` and 43 base64url characters: 26 random bytes and their 6-byte tag. */
export function issueDeviceToken(
  secret: HmacSecret,
  randomBytes: (sizeBytes: number) => Buffer,
): IssuedToken {
  return issue(DEVICE, secret, randomBytes)
}

/** Shows whether a secret has changed, and reveals nothing about it. 32 bytes. */
export function secretFingerprint({ secret }: HmacSecret): Buffer {
  return createHmac('sha256', secret).update(FINGERPRINT_CONTEXT).digest()
}

/** With or without a tag: release 0.1 issued 32 random bytes. */
export function isEnrollmentToken(token: string): boolean {
  return ENROLLMENT.form.test(token)
}

/** Whether we issued the token. Others are refused without a database query, so a flood of garbage stays cheap. */
export function deviceTagCheck(secrets: readonly HmacSecret[]): (token: string) => boolean {
  return tagCheck(DEVICE, secrets)
}

/** Whether the token has a tag by one of our current secrets; false proves nothing. */
export function enrollmentTagCheck(secrets: readonly HmacSecret[]): (token: string) => boolean {
  return tagCheck(ENROLLMENT, secrets)
}

function issue(
  kind: Kind,
  secret: HmacSecret,
  randomBytes: (sizeBytes: number) => Buffer,
): IssuedToken {
  const random = randomBytes(RANDOM_BYTES)
  const bytes = Buffer.concat([random, new Tag(kind, secret).of(random)])
  const token = `${kind.prefix}${bytes.toString('base64url')}`
  return { token, hash: hashToken(token) }
}

function tagCheck(kind: Kind, secrets: readonly HmacSecret[]): (token: string) => boolean {
  const tags = secrets.map((secret) => new Tag(kind, secret))
  return (token) => kind.form.test(token) && tags.some((tag) => tag.fits(token))
}

/**
 * The tag of one kind of token under one secret: HMAC-SHA256 (RFC 2104) with precomputed key blocks and reused
 * buffers. Every heartbeat needs one; two one-shot hashes cost a third of an Hmac object
 * (docs/develop/measurements.md).
 */
class Tag {
  /** Input of the first hash (key block, context, random bytes), followed by the tag that a token carries. */
  readonly #text: Buffer
  readonly #inner: Buffer
  readonly #given: Buffer
  /** Key block and first hash. */
  readonly #outer: Buffer
  readonly #tag = Buffer.alloc(TAG_BYTES)

  constructor({ context }: Kind, { secret }: HmacSecret) {
    const key = Buffer.alloc(BLOCK_BYTES)
    const given = Buffer.from(secret)
    if (given.length > BLOCK_BYTES) key.write(hash('sha256', given, 'binary'), 'latin1')
    else given.copy(key)
    const innerKey = key.map((byte) => byte ^ 0x36)
    const room = Buffer.alloc(RANDOM_BYTES + TAG_BYTES)
    this.#text = Buffer.concat([innerKey, Buffer.from(context), room])
    this.#inner = this.#text.subarray(0, -TAG_BYTES)
    this.#given = this.#text.subarray(-TAG_BYTES)
    const outerKey = key.map((byte) => byte ^ 0x5c)
    this.#outer = Buffer.concat([outerKey, Buffer.alloc(HASH_BYTES)])
  }

  /** 6 bytes, valid until the next call. */
  of(random: Uint8Array): Buffer {
    this.#inner.set(random, this.#inner.length - RANDOM_BYTES)
    return this.#make()
  }

  /** `token` must be well-formed. */
  fits(token: string): boolean {
    const at = this.#inner.length - RANDOM_BYTES
    this.#text.write(token.slice(PREFIX_LENGTH), at, 'base64url')
    return timingSafeEqual(this.#make(), this.#given)
  }

  #make(): Buffer {
    this.#outer.write(hash('sha256', this.#inner, 'binary'), BLOCK_BYTES, 'latin1')
    this.#tag.write(hash('sha256', this.#outer, 'binary'), 0, TAG_BYTES, 'latin1')
    return this.#tag
  }
}
