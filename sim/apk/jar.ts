/** Signs entries by JAR signing, APK signature scheme v1: META-INF/MANIFEST.MF, *.SF and *.RSA. Development code. */
import { hash, sign } from 'node:crypto'
import { integer, nothing, objectId, octets, sequence, set, tagged } from './der.ts'
import type { KeyKind, SigningKey } from './signing-key.ts'
import type { ZipEntry } from './zip.ts'

export interface JarOptions {
  readonly digest?: 'sha1' | 'sha256'
  /** X-Android-APK-Signed: the later schemes that must be there too, such as '2, 3'. */
  readonly alsoSigned?: string
  /** Left out of the manifest. */
  readonly omitted?: string
}

const HASH_ID = { sha1: '1.3.14.3.2.26', sha256: '2.16.840.1.101.3.4.2.1' } as const
const KEY_ID: Readonly<Record<KeyKind, string>> = {
  rsa: '1.2.840.113549.1.1.1',
  ec: '1.2.840.10045.2.1',
  dsa: '1.2.840.10040.4.1',
}
const EXTENSION: Readonly<Record<KeyKind, string>> = { rsa: 'RSA', ec: 'EC', dsa: 'DSA' }
const DATA = '1.2.840.113549.1.7.1'
const SIGNED_DATA = '1.2.840.113549.1.7.2'
const MAX_LINE_BYTES = 70

/** The entries with those of their signatures, one a key. */
export function signJar(
  entries: readonly ZipEntry[],
  keys: readonly SigningKey[],
  options: JarOptions = {},
): readonly ZipEntry[] {
  const { digest = 'sha256', alsoSigned, omitted } = options
  const label = digest === 'sha1' ? 'SHA1' : 'SHA-256'
  const of = (bytes: Uint8Array) => hash(digest, bytes, 'base64')
  const main = section(['Manifest-Version: 1.0', 'Created-By: fleetloop simulation'])
  const sections = entries
    .filter(({ name }) => name !== omitted && !name.endsWith('/'))
    .map(({ name, bytes }) => ({
      name,
      text: section([`Name: ${name}`, `${label}-Digest: ${of(bytes)}`]),
    }))
  const manifest = Buffer.from(main + sections.map(({ text }) => text).join(''))
  const file = Buffer.from(
    section([
      'Signature-Version: 1.0',
      'Created-By: fleetloop simulation',
      `${label}-Digest-Manifest: ${of(manifest)}`,
      ...(alsoSigned === undefined ? [] : [`X-Android-APK-Signed: ${alsoSigned}`]),
    ]) +
      sections
        .map(({ name, text }) =>
          section([`Name: ${name}`, `${label}-Digest: ${of(Buffer.from(text))}`]),
        )
        .join(''),
  )
  const signatures = keys.flatMap((key, index) => {
    const name = `META-INF/CERT${index === 0 ? '' : index}`
    const block = signFile(file, key, digest)
    return [
      { name: `${name}.SF`, bytes: file, isDeflated: true },
      { name: `${name}.${EXTENSION[key.kind]}`, bytes: block },
    ]
  })
  return [
    ...entries,
    { name: 'META-INF/MANIFEST.MF', bytes: manifest, isDeflated: true },
    ...signatures,
  ]
}

/** Lines of at most 70 bytes; what is longer goes on after a space. */
function section(lines: readonly string[]): string {
  return `${lines.map((line) => `${wrap(line)}\r\n`).join('')}\r\n`
}

function wrap(line: string): string {
  if (line.length <= MAX_LINE_BYTES) return line
  return `${line.slice(0, MAX_LINE_BYTES)}\r\n ${wrap(line.slice(MAX_LINE_BYTES))}`
}

/** PKCS #7 without signed attributes. */
function signFile(file: Buffer, key: SigningKey, digest: 'sha1' | 'sha256'): Buffer {
  const hashAlgorithm = sequence(objectId(HASH_ID[digest]), nothing)
  const keyAlgorithm = sequence(
    objectId(KEY_ID[key.kind]),
    ...(key.kind === 'rsa' ? [nothing] : []),
  )
  const signer = sequence(
    integer(1),
    sequence(key.issuer, key.serial),
    hashAlgorithm,
    keyAlgorithm,
    octets(sign(digest, file, key.privateKey)),
  )
  const signedData = sequence(
    integer(1),
    set(hashAlgorithm),
    sequence(objectId(DATA)),
    tagged(0, key.certificate),
    set(signer),
  )
  return sequence(objectId(SIGNED_DATA), tagged(0, signedData))
}
