/**
 * A signing key that a seed repeats, so that the same APK is made in every process. 1024 bits, in 80 ms: small, since only
 * simulations and tests trust it. Development code.
 */
import {
  checkPrimeSync,
  createCipheriv,
  createHash,
  createPrivateKey,
  createPublicKey,
} from 'node:crypto'
import { certify, type SigningKey } from './signing-key.ts'

const PRIME_BYTES = 64
const EXPONENT = 65_537n

export function createSeededKey(seed: string): SigningKey {
  const random = byteStream(seed)
  const [p, q] = [prime(random), prime(random)]
  const d = inverse(EXPONENT, (p - 1n) * (q - 1n))
  const privateKey = createPrivateKey({
    format: 'jwk',
    key: {
      kty: 'RSA',
      n: base64url(p * q),
      e: base64url(EXPONENT),
      d: base64url(d),
      p: base64url(p),
      q: base64url(q),
      dp: base64url(d % (p - 1n)),
      dq: base64url(d % (q - 1n)),
      qi: base64url(inverse(q, p)),
    },
  })
  return certify('rsa', privateKey, createPublicKey(privateKey), seed, random(7))
}

function byteStream(seed: string): (length: number) => Buffer {
  const key = createHash('sha256').update(seed).digest()
  const cipher = createCipheriv('aes-256-ctr', key, Buffer.alloc(16))
  return (length) => cipher.update(Buffer.alloc(length))
}

/** With its two highest bits set, so that a product of two has twice its length. */
function prime(random: (length: number) => Buffer): bigint {
  for (;;) {
    const bytes = random(PRIME_BYTES)
    bytes.writeUInt8((bytes[0] ?? 0) | 0xc0)
    bytes.writeUInt8((bytes[PRIME_BYTES - 1] ?? 0) | 1, PRIME_BYTES - 1)
    const candidate = BigInt(`0x${bytes.toString('hex')}`)
    if (candidate % EXPONENT !== 1n && checkPrimeSync(candidate)) return candidate
  }
}

/** Extended Euclid. */
function inverse(value: bigint, modulus: bigint): bigint {
  let [rest, next] = [value % modulus, modulus]
  let [factor, nextFactor] = [1n, 0n]
  while (next !== 0n) {
    const quotient = rest / next
    const [after, factorAfter] = [rest - quotient * next, factor - quotient * nextFactor]
    rest = next
    next = after
    factor = nextFactor
    nextFactor = factorAfter
  }
  return ((factor % modulus) + modulus) % modulus
}

function base64url(value: bigint): string {
  const hex = value.toString(16)
  return Buffer.from(hex.padStart(hex.length + (hex.length % 2), '0'), 'hex').toString('base64url')
}
