/**
 * The signature of a JAR's *.SF: PKCS #7 SignedData in DER, and the parts of X.509 certificates that node:crypto does not
 * show. Source: RFC 2315, sections 7 and 9; RFC 5280, section 4.1; X.690 for DER. Bounds: depth by the structure itself,
 * 32 certificates, one signer.
 */
import type { X509Certificate } from 'node:crypto'
import { readCertificate } from './algorithms.ts'
import { badSignature } from './source.ts'

const SEQUENCE = 0x30
const SET = 0x31
const INTEGER = 0x02
const BIT_STRING = 0x03
const OCTET_STRING = 0x04
const OBJECT_ID = 0x06
const BOOLEAN = 0x01
const CONTEXT_0 = 0xa0
const CONTEXT_1 = 0xa1
const CONTEXT_3 = 0xa3
/** Tags above 30 take more than one byte; none is used here. */
const LONG_TAG = 0x1f
const MAX_CERTIFICATES = 32
const MAX_ATTRIBUTES = 32

const DATA = '2a864886f70d010701'
const SIGNED_DATA = '2a864886f70d010702'
const CONTENT_TYPE = '2a864886f70d010903'
const MESSAGE_DIGEST = '2a864886f70d010904'
const KEY_USAGE = '551d0f'
/** id-ce, RFC 5280, and what else Java takes note of: 2.5.29.14 to 54. */
const KNOWN_EXTENSION =
  /^551d(?:0e|0f|10|11|12|13|14|15|17|18|1b|1c|1d|1e|1f|20|21|23|24|25|2e|36)$/
/** digitalSignature and nonRepudiation, the first two bits. */
const MAY_SIGN = 0xc0

export type HashName = 'sha1' | 'sha224' | 'sha256' | 'sha384' | 'sha512'

const HASHES: Readonly<Record<string, HashName>> = {
  '2b0e03021a': 'sha1',
  '608648016503040204': 'sha224',
  '608648016503040201': 'sha256',
  '608648016503040202': 'sha384',
  '608648016503040203': 'sha512',
}

/** By the signature algorithm: its key, its own hash where it names one, and the API level that reads it with that hash. */
const SIGNATURES: Readonly<
  Record<string, { readonly key: 'rsa' | 'dsa' | 'ec'; readonly hash?: HashName }>
> = {
  '2a864886f70d010101': { key: 'rsa' },
  '2a864886f70d010105': { key: 'rsa', hash: 'sha1' },
  '2a864886f70d01010e': { key: 'rsa', hash: 'sha224' },
  '2a864886f70d01010b': { key: 'rsa', hash: 'sha256' },
  '2a864886f70d01010c': { key: 'rsa', hash: 'sha384' },
  '2a864886f70d01010d': { key: 'rsa', hash: 'sha512' },
  '2a8648ce380401': { key: 'dsa' },
  '2a8648ce380403': { key: 'dsa', hash: 'sha1' },
  '608648016503040301': { key: 'dsa', hash: 'sha224' },
  '608648016503040302': { key: 'dsa', hash: 'sha256' },
  '2a8648ce3d0201': { key: 'ec' },
  '2a8648ce3d0401': { key: 'ec', hash: 'sha1' },
  '2a8648ce3d040301': { key: 'ec', hash: 'sha224' },
  '2a8648ce3d040302': { key: 'ec', hash: 'sha256' },
  '2a8648ce3d040303': { key: 'ec', hash: 'sha384' },
  '2a8648ce3d040304': { key: 'ec', hash: 'sha512' },
}

/**
 * The API level from which phones verify the pair, which apksig keeps for each: OidConstants of AOSP tools/apksig. First
 * where the algorithm names no hash, then where it does.
 */
const SINCE: Readonly<
  Record<'rsa' | 'dsa' | 'ec', Readonly<Partial<Record<HashName, readonly [number, number]>>>>
> = {
  rsa: { sha1: [0, 0], sha224: [21, 21], sha256: [18, 18], sha384: [18, 21], sha512: [18, 21] },
  dsa: { sha1: [0, 9], sha224: [22, 21], sha256: [22, 21] },
  ec: { sha1: [18, 18], sha224: [21, 21], sha256: [18, 21], sha384: [18, 21], sha512: [18, 21] },
}

export interface JarSignature {
  readonly certificate: X509Certificate
  readonly key: 'rsa' | 'dsa' | 'ec'
  readonly hash: HashName
  readonly signature: Buffer
  /** What was signed in place of the *.SF, and the digest of the *.SF in it. */
  readonly attributes: { readonly signedBytes: Buffer; readonly digest: Buffer } | undefined
}

/** `minSdk`: the lowest API level that must verify it. Throws `signature`. */
export function readJarSignature(block: Buffer, minSdk: number): JarSignature {
  const whole = new Der(block)
  const contentInfo = whole.enter(SEQUENCE)
  if (contentInfo.objectId() !== SIGNED_DATA) throw damaged()
  const explicit = contentInfo.enter(CONTEXT_0)
  const signedData = explicit.enter(SEQUENCE)
  signedData.version()
  const digestAlgorithms = signedData.enter(SET)
  while (!digestAlgorithms.isAtEnd) hashOf(readAlgorithm(digestAlgorithms), minSdk)
  const content = signedData.enter(SEQUENCE)
  if (content.objectId() !== DATA) throw damaged()
  const certificates = signedData.peek() === CONTEXT_0 ? signedData.enter(CONTEXT_0) : undefined
  if (signedData.peek() === CONTEXT_1) signedData.take(CONTEXT_1)
  const signerInfos = signedData.enter(SET)
  const signer = signerInfos.enter(SEQUENCE)
  if (!signerInfos.isAtEnd) throw badSignature('a signature in META-INF has more than one signer')
  for (const part of [content, signedData, explicit, contentInfo, whole]) part.expectEnd()
  return readSigner(signer, certificates, minSdk)
}

function readSigner(signer: Der, certificates: Der | undefined, minSdk: number): JarSignature {
  signer.version()
  const issuerAndSerial = signer.take(SEQUENCE)
  const hash = hashOf(readAlgorithm(signer), minSdk)
  const attributes = signer.peek() === CONTEXT_0 ? signer.take(CONTEXT_0) : undefined
  const algorithm = SIGNATURES[readAlgorithm(signer)]
  const signature = signer.take(OCTET_STRING)
  if (signer.peek() === CONTEXT_1) readAttributes(signer.take(CONTEXT_1))
  signer.expectEnd()
  if (algorithm === undefined) throw unsupported(minSdk)
  const since = SINCE[algorithm.key][hash]?.[algorithm.hash === undefined ? 0 : 1]
  const isPair = algorithm.hash === undefined || algorithm.hash === hash
  if (since === undefined || since > minSdk || !isPair) throw unsupported(minSdk)
  return {
    certificate: findSigner(certificates, issuerAndSerial),
    key: algorithm.key,
    hash,
    signature,
    attributes: attributes && readSignedAttributes(attributes),
  }
}

function hashOf(id: string, minSdk: number): HashName {
  const name = HASHES[id]
  if (name === undefined) throw unsupported(minSdk)
  return name
}

/** The object id of an AlgorithmIdentifier, whose parameters nobody needs here. */
function readAlgorithm(from: Der): string {
  const algorithm = from.enter(SEQUENCE)
  const id = algorithm.objectId()
  if (!algorithm.isAtEnd) algorithm.skip()
  algorithm.expectEnd()
  return id
}

/** They are signed as the SET that they are, not under their tag in the SignerInfo. */
function readSignedAttributes(content: Buffer) {
  const attributes = readAttributes(content)
  const digest = attributes.get(MESSAGE_DIGEST)?.take(OCTET_STRING)
  const isOfData = attributes.get(CONTENT_TYPE)?.objectId() === DATA
  if (digest === undefined || !isOfData) throw damaged()
  return { signedBytes: Buffer.concat([headerOf(SET, content.length), content]), digest }
}

function readAttributes(content: Buffer): ReadonlyMap<string, Der> {
  const attributes = new Map<string, Der>()
  const list = new Der(content)
  while (!list.isAtEnd) {
    const attribute = list.enter(SEQUENCE)
    const id = attribute.objectId()
    if (attributes.has(id) || attributes.size === MAX_ATTRIBUTES) throw damaged()
    attributes.set(id, attribute.enter(SET))
    attribute.expectEnd()
  }
  return attributes
}

function headerOf(tag: number, length: number): Buffer {
  if (length < 0x80) return Buffer.from([tag, length])
  const bytes = length < 0x100 ? [length] : [length >> 8, length & 0xff]
  return Buffer.from([tag, 0x80 | bytes.length, ...bytes])
}

/** The certificate that the signer names by its issuer and serial number, if it may sign. */
function findSigner(certificates: Der | undefined, issuerAndSerial: Buffer): X509Certificate {
  for (let count = 0; certificates !== undefined && !certificates.isAtEnd; count++) {
    if (count === MAX_CERTIFICATES) throw badSignature('a signature in META-INF is too large')
    const whole = certificates.takeWhole(SEQUENCE)
    const certificate = readCertificate(whole)
    const { issuerAndSerial: own, mayBeUsed } = readUsage(whole)
    if (!own.equals(issuerAndSerial)) continue
    if (!mayBeUsed) throw badSignature('the certificate of a signature in META-INF may not sign')
    return certificate
  }
  throw badSignature('a signature in META-INF is without its certificate')
}

function readUsage(whole: Buffer) {
  const outer = new Der(whole).enter(SEQUENCE)
  const certificate = outer.enter(SEQUENCE)
  if (certificate.peek() === CONTEXT_0) certificate.take(CONTEXT_0)
  const serial = certificate.takeWhole(INTEGER)
  const algorithm = certificate.takeWhole(SEQUENCE)
  const issuer = certificate.takeWhole(SEQUENCE)
  if (!algorithm.equals(outer.takeWhole(SEQUENCE))) throw damaged()
  certificate.take(SEQUENCE) // validity
  certificate.take(SEQUENCE) // subject
  certificate.take(SEQUENCE) // public key
  while (!certificate.isAtEnd && certificate.peek() !== CONTEXT_3) certificate.skip()
  const extensions = certificate.isAtEnd ? undefined : certificate.enter(CONTEXT_3).enter(SEQUENCE)
  let mayBeUsed = true
  while (extensions !== undefined && !extensions.isAtEnd) {
    const extension = extensions.enter(SEQUENCE)
    const id = extension.objectId()
    const isCritical = extension.peek() === BOOLEAN && extension.take(BOOLEAN).some(Boolean)
    const value = extension.take(OCTET_STRING)
    if (isCritical && !KNOWN_EXTENSION.test(id)) mayBeUsed = false
    if (id === KEY_USAGE && !maySign(new Der(value).take(BIT_STRING))) mayBeUsed = false
  }
  return { issuerAndSerial: Buffer.concat([issuer, serial]), mayBeUsed }
}

/** `bits`: the count of unused ones, then the bits. */
function maySign(bits: Buffer): boolean {
  return ((bits[1] ?? 0) & MAY_SIGN) !== 0
}

/** DER values one after the other. Throws `signature` where the next one is another, or cut off. */
class Der {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  get isAtEnd(): boolean {
    return this.#at === this.#bytes.length
  }

  peek(): number | undefined {
    return this.#bytes[this.#at]
  }

  /** The content of the next value. */
  take(tag: number): Buffer {
    const { contentAt, end } = this.#next(tag)
    this.#at = end
    return this.#bytes.subarray(contentAt, end)
  }

  /** The next value with its tag and length. */
  takeWhole(tag: number): Buffer {
    const first = this.#at
    this.#at = this.#next(tag).end
    return this.#bytes.subarray(first, this.#at)
  }

  skip(): void {
    this.#at = this.#next(undefined).end
  }

  enter(tag: number): Der {
    return new Der(this.take(tag))
  }

  /** As hex of its content. */
  objectId(): string {
    return this.take(OBJECT_ID).toString('hex')
  }

  version(): void {
    if (this.take(INTEGER).length !== 1) throw damaged()
  }

  expectEnd(): void {
    if (!this.isAtEnd) throw damaged()
  }

  #next(tag: number | undefined): { readonly contentAt: number; readonly end: number } {
    const first = this.#bytes[this.#at + 1]
    const isWanted = tag === undefined || this.#bytes[this.#at] === tag
    const isLongTag = ((this.#bytes[this.#at] ?? 0) & LONG_TAG) === LONG_TAG
    if (first === undefined || !isWanted || isLongTag) throw damaged()
    let length = first
    let contentAt = this.#at + 2
    if (first >= 0x80) {
      const lengthBytes = first & 0x7f
      if (lengthBytes < 1 || lengthBytes > 3) throw damaged() // indefinite, or far too long
      if (contentAt + lengthBytes > this.#bytes.length) throw damaged()
      length = this.#bytes.readUIntBE(contentAt, lengthBytes)
      contentAt += lengthBytes
    }
    if (length > this.#bytes.length - contentAt) throw damaged()
    return { contentAt, end: contentAt + length }
  }
}

function damaged() {
  return badSignature('a signature in META-INF is damaged')
}

function unsupported(minSdk: number) {
  return badSignature(
    `a signature in META-INF is made in a way that Android of API level ${minSdk} does not verify`,
  )
}
