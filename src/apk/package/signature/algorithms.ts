/**
 * The signature algorithms of APK Signature Scheme v2 and v3, by node:crypto. Source:
 * source.android.com/docs/security/features/apksigning/v2#signature-algorithm-ids; salt lengths of RSA-PSS from there too.
 */
import { constants, createPublicKey, type KeyObject, verify } from 'node:crypto'
import { badSignature } from '../source.ts'
import { Der, TAG } from './der.ts'

/** The digest of the content: 1 MiB chunks by SHA-256 or SHA-512, or a tree of 4 KiB pages. */
export type ContentDigest = 'sha256' | 'sha512' | 'verity'

export interface SignatureAlgorithm {
  readonly id: number
  readonly content: ContentDigest
  readonly hash: 'sha256' | 'sha512'
  readonly key: 'rsa' | 'ec' | 'dsa'
  /** Of RSA-PSS, bytes; absent with PKCS #1 v1.5. */
  readonly saltBytes?: number
  /** The API level that brought it. */
  readonly since: number
}

/** As hex: object identifiers of RFC 8017 and RFC 5480; the curves P-256, P-384 and P-521. */
const RSA_KEY = '2a864886f70d010101'
const EC_KEY = '2a8648ce3d0201'
const CURVES: ReadonlySet<string> = new Set(['2a8648ce3d030107', '2b81040022', '2b81040023'])
const MIN_RSA_BITS = 512
const MIN_RSA_EXPONENT = 3
const SINCE_V2 = 24
const SINCE_VERITY = 28

export const ALGORITHMS: ReadonlyMap<number, SignatureAlgorithm> = new Map(
  (
    [
      { id: 0x0101, content: 'sha256', hash: 'sha256', key: 'rsa', saltBytes: 32, since: SINCE_V2 },
      { id: 0x0102, content: 'sha512', hash: 'sha512', key: 'rsa', saltBytes: 64, since: SINCE_V2 },
      { id: 0x0103, content: 'sha256', hash: 'sha256', key: 'rsa', since: SINCE_V2 },
      { id: 0x0104, content: 'sha512', hash: 'sha512', key: 'rsa', since: SINCE_V2 },
      { id: 0x0201, content: 'sha256', hash: 'sha256', key: 'ec', since: SINCE_V2 },
      { id: 0x0202, content: 'sha512', hash: 'sha512', key: 'ec', since: SINCE_V2 },
      { id: 0x0301, content: 'sha256', hash: 'sha256', key: 'dsa', since: SINCE_V2 },
      { id: 0x0421, content: 'verity', hash: 'sha256', key: 'rsa', since: SINCE_VERITY },
      { id: 0x0423, content: 'verity', hash: 'sha256', key: 'ec', since: SINCE_VERITY },
      { id: 0x0425, content: 'verity', hash: 'sha256', key: 'dsa', since: SINCE_VERITY },
    ] satisfies SignatureAlgorithm[]
  ).map((algorithm) => [algorithm.id, algorithm]),
)

/** Weakest first. */
export const CONTENT_DIGESTS: readonly ContentDigest[] = ['sha256', 'verity', 'sha512']

/** By SubjectPublicKeyInfo, DER. Throws `signature` where it is none that apksigner verifies with. */
export function readPublicKey(der: Buffer): KeyObject {
  if (!isReadByAll(der)) {
    throw badSignature('a public key in its signature is of a kind that apksigner does not verify')
  }
  try {
    return createPublicKey({ key: der, format: 'der', type: 'spki' })
  } catch {
    throw damagedKey()
  }
}

const damagedKey = () => badSignature('a public key in its signature is damaged')

/**
 * OpenSSL reads many curves, and RSA keys that anyone can sign with; apksigner and phones do not, but phones take
 * P-224 too. Read from the bytes: `asymmetricKeyDetails` ends the process of some damaged DSA keys (Node 20).
 */
function isReadByAll(der: Buffer): boolean {
  const info = new Der(der, damagedKey).enter(TAG.sequence)
  const algorithm = info.enter(TAG.sequence)
  const kind = algorithm.objectId()
  if (kind === EC_KEY) return CURVES.has(algorithm.objectId()) // a curve that is written out is damaged
  if (kind !== RSA_KEY) return true
  const numbers = new Der(info.take(TAG.bitString).subarray(1), damagedKey).enter(TAG.sequence)
  const [modulus, exponent] = [numbers.take(TAG.integer), numbers.take(TAG.integer)]
  return (
    bitsOf(modulus) >= MIN_RSA_BITS &&
    (bitsOf(exponent) > 2 || (exponent.at(-1) ?? 0) >= MIN_RSA_EXPONENT)
  )
}

/** Of a positive number, big-endian. */
function bitsOf(number: Buffer): number {
  const from = number.findIndex((byte) => byte !== 0)
  return from < 0 ? 0 : (number.length - from) * 8 - Math.clz32(number[from] ?? 0) + 24
}

/** Runs in the thread pool. False too where the key is of another kind. */
export function isSignedBy(
  algorithm: SignatureAlgorithm,
  key: KeyObject,
  data: Buffer,
  signature: Buffer,
): Promise<boolean> {
  if (key.asymmetricKeyType !== algorithm.key) return Promise.resolve(false)
  const { saltBytes } = algorithm
  const padding =
    saltBytes === undefined
      ? {}
      : { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: saltBytes }
  return new Promise<boolean>((resolve) => {
    verify(algorithm.hash, data, { key, ...padding }, signature, (error, isValid) =>
      resolve(error === null && isValid),
    )
  }).catch(() => false) // OpenSSL throws at some that are damaged
}
