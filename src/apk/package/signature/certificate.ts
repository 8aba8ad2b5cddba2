/**
 * X.509 certificates and their keys, by node:crypto, and no others than phones and apksigner read: OpenSSL is more lenient in
 * how names, bit strings and keys are written. Source: RFC 5280, section 4.1; RFC 5480, section 2.2. Bounds: 32 KiB,
 * which take 10 ms at most, and 32 extensions.
 */
import { X509Certificate } from 'node:crypto'
import { readName } from '../general-names.ts'
import { badSignature, PackageFault } from '../source.ts'
import { readPublicKey } from './algorithms.ts'
import { Der, TAG } from './der.ts'
import { isKnownExtension, KEY_USAGE, readExtension, SUBJECT_NAMES } from './extensions.ts'

const VERSION_1 = 0
const VERSION_3 = 2
const MAX_CERTIFICATE_BYTES = 32 * 1024
const MAX_EXTENSIONS = 32
/** digitalSignature and nonRepudiation, the first two bits. */
const MAY_SIGN = 0xc0
/** Of a point on a curve, first byte: both coordinates follow. The hybrid and the compressed form are not read by all. */
const UNCOMPRESSED = 0x04

/** X.509, DER. Throws `signature` where it is none. */
export function readCertificate(der: Buffer): X509Certificate {
  if (der.length > MAX_CERTIFICATE_BYTES) {
    throw badSignature('a certificate in its signature is too large')
  }
  let certificate: X509Certificate
  try {
    certificate = new X509Certificate(der)
  } catch {
    throw damaged()
  }
  // OpenSSL gives back what it would have written: the digest is that of the bytes only where both are the same.
  if (!certificate.raw.equals(der)) throw damaged()
  if (![certificate.validFrom, certificate.validTo].every(isDate)) throw damaged()
  const parts = readParts(der)
  checkNames(parts)
  checkPublicKey(certificate, parts.publicKey) // Java reads it with the certificate, whether or not it is used
  return certificate
}

/** Of a certificate from readCertificate: SubjectPublicKeyInfo, DER. */
export function publicKeyOf(certificate: X509Certificate): Buffer {
  return readParts(certificate.raw).publicKey
}

/** That its bytes are as all write them. */
function checkPublicKey(certificate: X509Certificate, publicKey: Buffer): void {
  let isEc: boolean
  let exported: Buffer
  try {
    isEc = certificate.publicKey.asymmetricKeyType === 'ec'
    exported = certificate.publicKey.export({ type: 'spki', format: 'der' })
  } catch {
    throw damagedKey()
  }
  if (!exported.equals(publicKey)) throw damagedKey()
  readPublicKey(publicKey)
  const info = new Der(publicKey, damagedKey).enter(TAG.sequence)
  info.skip() // the algorithm
  const [unusedBits, form] = info.take(TAG.bitString)
  if (unusedBits !== 0 || (isEc && form !== UNCOMPRESSED)) throw damagedKey()
}

/** Issuer and serial number, DER, by which PKCS #7 names the certificate. */
export function issuerAndSerialOf(der: Buffer): Buffer {
  const { issuer, serial } = readParts(der)
  return Buffer.concat([issuer, serial])
}

/** Whether the certificate may sign a JAR: all that is critical is known, and its key usage, if it can be read, says so. */
export function maySignJar(der: Buffer): boolean {
  const { extensions = [] } = readParts(der)
  return extensions.every(({ id, isCritical, value }) => {
    if (id === KEY_USAGE && isReadable(id, value)) return isUsageOfSigner(value)
    return !isCritical || isKnownExtension(id)
  })
}

function isReadable(id: string, value: Buffer): boolean {
  try {
    readExtension(id, new Der(value, damaged))
    return true
  } catch (error) {
    if (error instanceof PackageFault) return false
    throw error
  }
}

function isUsageOfSigner(value: Buffer): boolean {
  const [unusedBits = 0, first = 0, ...rest] = new Der(value, damaged).take(TAG.bitString)
  const used = rest.length === 0 ? first & (0xff << unusedBits) : first
  return (used & MAY_SIGN) !== 0
}

interface Extension {
  readonly id: string
  readonly isCritical: boolean
  readonly value: Buffer
}

/** Each with its tag and length. */
interface Parts {
  readonly version: number
  readonly serial: Buffer
  readonly issuer: Buffer
  readonly subject: Buffer
  readonly publicKey: Buffer
  readonly extensions: readonly Extension[] | undefined
}

/** Throws where the signed algorithm is not that of the signature, or the signature does not end with a byte. */
function readParts(der: Buffer): Parts {
  const whole = new Der(der, damaged).enter(TAG.sequence)
  const body = whole.enter(TAG.sequence)
  const isFirst = body.peek() !== TAG.context0
  const version = isFirst ? VERSION_1 : (body.enter(TAG.context0).take(TAG.integer)[0] ?? VERSION_1)
  const serial = body.takeWhole(TAG.integer)
  if (!body.takeWhole(TAG.sequence).equals(whole.takeWhole(TAG.sequence))) throw damaged()
  if (whole.take(TAG.bitString)[0] !== 0) throw damaged()
  const issuer = body.takeWhole(TAG.sequence)
  body.skip() // the validity
  const subject = body.takeWhole(TAG.sequence)
  const publicKey = body.takeWhole(TAG.sequence)
  return { version, serial, issuer, subject, publicKey, extensions: readExtensions(body, version) }
}

/** As Java has it: a certificate whose subject has no name needs critical other names, if it has extensions at all. */
function checkNames({ version, issuer, subject, extensions }: Parts): void {
  for (const name of [issuer, subject]) readName(new Der(name, damaged))
  if (isNobody(issuer)) throw damaged()
  if (!isNobody(subject)) return
  const isNamed =
    extensions === undefined
      ? version !== VERSION_1
      : extensions.some(({ id, isCritical }) => isCritical && id === SUBJECT_NAMES)
  if (!isNamed) throw damaged()
}

function isNobody(name: Buffer): boolean {
  return new Der(name, damaged).enter(TAG.sequence).isAtEnd
}

/** `rest`: what follows the public key. The content of critical ones is checked. */
function readExtensions(rest: Der, version: number): readonly Extension[] | undefined {
  if (rest.isAtEnd) return undefined
  if (version === VERSION_1) throw damaged()
  while (!rest.isAtEnd && rest.peek() !== TAG.context3) rest.skip() // unique identifiers
  if (rest.isAtEnd) return undefined
  if (version !== VERSION_3) throw damaged()
  const list = rest.enter(TAG.context3).enter(TAG.sequence)
  const extensions: Extension[] = []
  while (!list.isAtEnd) {
    const part = list.enter(TAG.sequence)
    const id = part.objectId()
    if (extensions.length === MAX_EXTENSIONS || extensions.some((one) => one.id === id)) {
      throw damaged()
    }
    const isCritical = part.peek() === TAG.boolean && part.take(TAG.boolean)[0] !== 0
    const value = part.take(TAG.octetString)
    if (isCritical) readExtension(id, new Der(value, damaged))
    extensions.push({ id, isCritical, value })
  }
  return extensions
}

function isDate(text: string): boolean {
  return !Number.isNaN(Date.parse(text))
}

function damaged() {
  return badSignature('a certificate in its signature is damaged')
}

function damagedKey() {
  return badSignature('the public key of a certificate in its signature is damaged')
}
