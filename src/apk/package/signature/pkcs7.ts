/**
 * The signature of a JAR's *.SF: PKCS #7 SignedData in DER. Source: RFC 2315, sections 7 and 9; X.690 for DER. Bounds: depth
 * by the structure itself, 32 certificates, one signer.
 */
import type { X509Certificate } from 'node:crypto'
import { badSignature } from '../source.ts'
import { issuerAndSerialOf, maySignJar, readCertificate } from './certificate.ts'
import { Der, TAG } from './der.ts'

const MAX_CERTIFICATES = 32
const MAX_ATTRIBUTES = 32

const DATA = '2a864886f70d010701'
const SIGNED_DATA = '2a864886f70d010702'
const CONTENT_TYPE = '2a864886f70d010903'
const MESSAGE_DIGEST = '2a864886f70d010904'

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
  const whole = new Der(block, damaged)
  const contentInfo = whole.enter(TAG.sequence)
  if (contentInfo.objectId() !== SIGNED_DATA) throw damaged()
  const explicit = contentInfo.enter(TAG.context0)
  const signedData = explicit.enter(TAG.sequence)
  signedData.version()
  const digestAlgorithms = signedData.enter(TAG.set)
  while (!digestAlgorithms.isAtEnd) hashOf(readAlgorithm(digestAlgorithms), minSdk)
  const content = signedData.enter(TAG.sequence)
  if (content.objectId() !== DATA) throw damaged()
  const certificates =
    signedData.peek() === TAG.context0 ? signedData.enter(TAG.context0) : undefined
  if (signedData.peek() === TAG.context1) signedData.take(TAG.context1)
  const signerInfos = signedData.enter(TAG.set)
  const signer = signerInfos.enter(TAG.sequence)
  if (!signerInfos.isAtEnd) throw badSignature('a signature in META-INF has more than one signer')
  for (const part of [content, signedData, explicit, contentInfo, whole]) part.expectEnd()
  return readSigner(signer, certificates, minSdk)
}

function readSigner(signer: Der, certificates: Der | undefined, minSdk: number): JarSignature {
  signer.version()
  const issuerAndSerial = signer.take(TAG.sequence)
  const hash = hashOf(readAlgorithm(signer), minSdk)
  const attributes = signer.peek() === TAG.context0 ? signer.take(TAG.context0) : undefined
  const algorithm = SIGNATURES[readAlgorithm(signer)]
  const signature = signer.take(TAG.octetString)
  if (signer.peek() === TAG.context1) readAttributes(signer.take(TAG.context1))
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
  const algorithm = from.enter(TAG.sequence)
  const id = algorithm.objectId()
  if (!algorithm.isAtEnd) algorithm.skip()
  algorithm.expectEnd()
  return id
}

/** They are signed as the SET that they are, not under their tag in the SignerInfo. */
function readSignedAttributes(content: Buffer) {
  const attributes = readAttributes(content)
  const digest = attributes.get(MESSAGE_DIGEST)?.take(TAG.octetString)
  const isOfData = attributes.get(CONTENT_TYPE)?.objectId() === DATA
  if (digest === undefined || !isOfData) throw damaged()
  return { signedBytes: Buffer.concat([headerOf(TAG.set, content.length), content]), digest }
}

function readAttributes(content: Buffer): ReadonlyMap<string, Der> {
  const attributes = new Map<string, Der>()
  const list = new Der(content, damaged)
  while (!list.isAtEnd) {
    const attribute = list.enter(TAG.sequence)
    const id = attribute.objectId()
    if (attributes.has(id) || attributes.size === MAX_ATTRIBUTES) throw damaged()
    attributes.set(id, attribute.enter(TAG.set))
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
    const whole = certificates.takeWhole(TAG.sequence)
    const certificate = readCertificate(whole)
    if (!issuerAndSerialOf(whole).equals(issuerAndSerial)) continue
    if (!maySignJar(whole)) {
      throw badSignature('the certificate of a signature in META-INF may not sign')
    }
    return certificate
  }
  throw badSignature('a signature in META-INF is without its certificate')
}

function damaged() {
  return badSignature('a signature in META-INF is damaged')
}

function unsupported(minSdk: number) {
  return badSignature(
    `a signature in META-INF is made in a way that Android of API level ${minSdk} does not verify`,
  )
}
