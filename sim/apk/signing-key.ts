/** Fresh keys with a certificate that each signs itself. Development code. */
import { createHash, generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto'
import { bits, integer, nothing, objectId, sequence, set, tagged, utcTime, utf8 } from './der.ts'

export type KeyKind = 'rsa' | 'ec' | 'dsa'

export interface SigningKey {
  readonly kind: KeyKind
  readonly privateKey: KeyObject
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKey: Buffer
  /** X.509, DER. */
  readonly certificate: Buffer
  /** SHA-256 of the certificate, hex. */
  readonly digest: string
  /** Of the certificate, DER. */
  readonly issuer: Buffer
  readonly serial: Buffer
}

const CERTIFICATE_ALGORITHM = {
  rsa: sequence(objectId('1.2.840.113549.1.1.11'), nothing),
  ec: sequence(objectId('1.2.840.10045.4.3.2')),
  dsa: sequence(objectId('2.16.840.1.101.3.4.3.2')),
} as const
const COMMON_NAME = '2.5.4.3'

/** `bits` of RSA and DSA, 2048 where not given; EC is P-256. */
export function createSigningKey(
  options: {
    readonly kind?: KeyKind
    readonly bits?: number
    readonly name?: string
  } & CertificateOptions = {},
): SigningKey {
  const { kind = 'rsa', bits: modulusLength = 2048, name = 'fleetloop simulation' } = options
  const { privateKey, publicKey } = createPair(kind, modulusLength)
  return certify(kind, privateKey, publicKey, name, randomBytes(7), options)
}

/** DER. */
export interface CertificateOptions {
  readonly extensions?: readonly Uint8Array[]
  /** Where given, in place of the name. */
  readonly issuer?: Buffer
  readonly subject?: Buffer
}

/** The key with a certificate of its own; `serialBytes` make its serial number. */
export function certify(
  kind: KeyKind,
  privateKey: KeyObject,
  publicKey: KeyObject,
  name: string,
  serialBytes: Buffer,
  options: CertificateOptions = {},
): SigningKey {
  const spki = publicKey.export({ type: 'spki', format: 'der' })
  const named = sequence(set(sequence(objectId(COMMON_NAME), utf8(name))))
  const { extensions = [], issuer = named, subject = named } = options
  const serial = integer(Buffer.concat([Buffer.from([1]), serialBytes]))
  const algorithm = CERTIFICATE_ALGORITHM[kind]
  const validity = sequence(utcTime('200101000000Z'), utcTime('491231235959Z'))
  const parts = [serial, algorithm, issuer, validity, subject, spki]
  const body =
    extensions.length === 0
      ? sequence(...parts)
      : sequence(tagged(0, integer(2)), ...parts, tagged(3, sequence(...extensions)))
  const certificate = sequence(body, algorithm, bits(sign('sha256', body, privateKey)))
  const digest = createHash('sha256').update(certificate).digest('hex')
  return { kind, privateKey, publicKey: spki, certificate, digest, issuer, serial }
}

function createPair(kind: KeyKind, modulusLength: number) {
  if (kind === 'ec') return generateKeyPairSync('ec', { namedCurve: 'P-256' })
  if (kind === 'dsa') return generateKeyPairSync('dsa', { modulusLength, divisorLength: 256 })
  return generateKeyPairSync('rsa', { modulusLength })
}
