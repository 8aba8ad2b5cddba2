/**
 * X.509 certificates and their keys, by node:crypto, and no others than phones and apksigner read: OpenSSL is more lenient in
 * how names, bit strings and keys are written. Source: RFC 5280, section 4.1; RFC 5480, section 2.2. Bound: 32 extensions.
 */
import { X509Certificate } from 'node:crypto'
import { Der, TAG } from './der.ts'
import { badSignature } from './source.ts'

const VERSION_3 = 2
const BASIC_CONSTRAINTS = '551d13'
export const KEY_USAGE = '551d0f'
const MAX_EXTENSIONS = 32
/** Of a point on a curve, first byte: both coordinates follow. The hybrid and the compressed form are not read by all. */
const UNCOMPRESSED = 0x04

/** X.509, DER. Throws `signature` where it is none. */
export function readCertificate(der: Buffer): X509Certificate {
  let certificate: X509Certificate
  try {
    certificate = new X509Certificate(der)
  } catch {
    throw damaged()
  }
  // OpenSSL gives back what it would have written: the digest is that of the bytes only where both are the same.
  if (!certificate.raw.equals(der)) throw damaged()
  if (![certificate.validFrom, certificate.validTo].every(isDate)) throw damaged()
  const { version, names, rest } = readParts(der)
  for (const name of names) checkName(name)
  checkExtensions(rest, version)
  return certificate
}

/** As SubjectPublicKeyInfo, DER. */
export function publicKeyOf(certificate: X509Certificate): Buffer {
  const { publicKey } = readParts(certificate.raw)
  let isEc: boolean
  let exported: Buffer
  try {
    isEc = certificate.publicKey.asymmetricKeyType === 'ec'
    exported = certificate.publicKey.export({ type: 'spki', format: 'der' })
  } catch {
    throw damagedKey()
  }
  if (!exported.equals(publicKey)) throw damagedKey()
  const info = new Der(publicKey, damagedKey).enter(TAG.sequence)
  info.skip()
  const [unusedBits, form] = info.take(TAG.bitString)
  if (unusedBits !== 0 || (isEc && form !== UNCOMPRESSED)) throw damagedKey()
  return publicKey
}

/** Throws where the signed algorithm is not that of the signature, or the signature does not end with a byte. */
function readParts(der: Buffer) {
  const whole = new Der(der, damaged).enter(TAG.sequence)
  const body = whole.enter(TAG.sequence)
  const version =
    body.peek() === TAG.context0 ? body.enter(TAG.context0).take(TAG.integer)[0] : undefined
  body.skip() // the serial number
  if (!body.takeWhole(TAG.sequence).equals(whole.takeWhole(TAG.sequence))) throw damaged()
  if (whole.take(TAG.bitString)[0] !== 0) throw damaged()
  const issuer = body.enter(TAG.sequence)
  body.skip() // the validity
  const subject = body.enter(TAG.sequence)
  const publicKey = body.takeWhole(TAG.sequence)
  return { version, names: [issuer, subject], publicKey, rest: body }
}

function checkName(name: Der): void {
  while (!name.isAtEnd) {
    const relative = name.enter(TAG.set)
    do {
      const attribute = relative.enter(TAG.sequence)
      attribute.objectId()
      attribute.skip()
      attribute.expectEnd()
    } while (!relative.isAtEnd)
  }
}

/** `rest`: what follows the public key. Of the extensions that tools mark as critical, the content is checked. */
function checkExtensions(rest: Der, version: number | undefined): void {
  while (!rest.isAtEnd && rest.peek() !== TAG.context3) rest.skip() // unique identifiers
  if (rest.isAtEnd) return
  if (version !== VERSION_3) throw damaged()
  const extensions = rest.enter(TAG.context3).enter(TAG.sequence)
  const seen = new Set<string>()
  while (!extensions.isAtEnd) {
    const extension = extensions.enter(TAG.sequence)
    const id = extension.objectId()
    if (seen.has(id) || seen.size === MAX_EXTENSIONS) throw damaged()
    seen.add(id)
    if (extension.peek() === TAG.boolean) extension.skip()
    const value = new Der(extension.take(TAG.octetString), damaged)
    if (id === BASIC_CONSTRAINTS) checkConstraints(value)
    if (id === KEY_USAGE) checkUsage(value)
  }
}

function checkConstraints(value: Der): void {
  const constraints = value.enter(TAG.sequence)
  value.expectEnd()
  if (constraints.peek() === TAG.boolean && constraints.take(TAG.boolean).length !== 1)
    throw damaged()
  if (constraints.peek() === TAG.integer) constraints.skip()
  constraints.expectEnd()
}

function checkUsage(value: Der): void {
  const [unusedBits = 8] = value.take(TAG.bitString)
  value.expectEnd()
  if (unusedBits > 7) throw damaged()
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
