/**
 * JAR signing (scheme v1), as far as apksigner verifies it: *.RSA signs *.SF, which signs META-INF/MANIFEST.MF, which has the
 * digest of every entry. Source: JAR File Specification, "Signed JAR File", and
 * source.android.com/docs/security/features/apksigning#v1. An APK of any number of entries takes the same memory: instead of
 * tables, sums of keyed digests are compared (MSet-Add-Hash of Clarke et al., "Incremental Multiset Hash Functions",
 * ASIACRYPT 2003), under a key of this verification's own. Stricter than apksigner in what no tool writes: each *.SF covers
 * the whole manifest and every entry, and all entries are digested by the same algorithms.
 */
import { createHash, createVerify, hash, type Verify } from 'node:crypto'
import type { ApkSource } from '../../../domain/apk-source.ts'
import { isHeld, readContent, readHeld, readWhole } from '../entry.ts'
import { EventLoopBudget } from '../event-loop-budget.ts'
import { KeyedDigest } from '../keyed-digest.ts'
import { badSignature, blockwise } from '../source.ts'
import { listEntries, type ZipDirectory, type ZipEntry } from '../zip.ts'
import { readPublicKey } from './algorithms.ts'
import { publicKeyOf } from './certificate.ts'
import { type Digest, digestsOf, type JarSection, readSections } from './jar-manifest.ts'
import { type HashName, type JarSignature, readJarSignature } from './pkcs7.ts'

const MANIFEST = 'META-INF/MANIFEST.MF'
const SIGNATURE_FILE = /^META-INF\/.*\.SF$/s
const SIGNATURE_BLOCK = /^META-INF\/.*\.(?:RSA|DSA|EC)$/s
const META_INF = 'META-INF/'
/** Of META-INF itself, in lower case: what is not digested in the manifest. */
const UNDIGESTED = /^(?:manifest\.mf|[^/]*\.(?:sf|rsa|dsa|ec)|sig-[^/]*)$/s
const MAX_SIGNERS = 10
const MAX_BLOCK_BYTES = 64 * 1024
/** META-INF/MANIFEST.MF and, for each signer, its *.SF together, unpacked: a thousand bytes an entry. */
const MAX_TEXT_BYTES = 64 * 1024 * 1024
/** Of all entries together, unpacked: ten times what Android's largest phones give to one app's code. */
const MAX_UNPACKED_BYTES = 2 * 1024 ** 3
/** Of one entry whatever it holds, and of a byte that is unpacked, in bytes that are hashed; see EventLoopBudget. */
const ENTRY_COST = 4 * 1024
const UNPACKING_COST = 16

/** Java reads a number in any script, and takes control characters for white space. */
const NOT_ASCII = /[^ -~]/

export interface JarFiles {
  readonly manifest: ZipEntry | undefined
  readonly signers: readonly { readonly block: ZipEntry; readonly file: ZipEntry }[]
  /** Names that must be digested in the manifest, as a sum. */
  readonly names: bigint
}

/** Sums of keyed digests: equal for equal multisets, and for no others that anyone could find. */
class Sums {
  readonly #keyed = new KeyedDigest()

  of(...parts: readonly string[]): bigint {
    return BigInt(`0x${this.#keyed.of(...parts)}`)
  }
}

/** True where META-INF holds the block of a signature, whether or not it holds. */
export function isSignatureBlock(name: string): boolean {
  return SIGNATURE_BLOCK.test(name)
}

/**
 * The signers' certificates. `schemes`: numbers of the later schemes that verified; a *.SF may name one that must be
 * there. Throws `signature`, and `invalid` where an entry is damaged.
 */
export async function verifyJar(
  source: ApkSource,
  directory: ZipDirectory,
  minSdk: number,
  schemes: ReadonlySet<number>,
): Promise<readonly JarSignature['certificate'][]> {
  const sums = new Sums()
  const files = await findFiles(source, directory, sums)
  if (files.manifest === undefined) throw badSignature(`it has no ${MANIFEST}`)
  if (files.signers.length === 0) throw badSignature('META-INF has no signature with its *.SF')
  const expected: Digest[][] = []
  const main: Digest[][] = []
  const certificates: JarSignature['certificate'][] = []
  for (const { block, file } of files.signers) {
    const bytes = await readWhole(source, directory, block, MAX_BLOCK_BYTES)
    const signature = readJarSignature(bytes, minSdk)
    const pieces = readContent(source, directory, file)
    const read = await readSignatureFile(pieces, signature, minSdk, schemes, sums)
    if (read.names !== files.names)
      throw badSignature('a *.SF in META-INF does not name every entry')
    expected.push(read.manifest)
    main.push(read.main)
    certificates.push(signature.certificate)
  }
  const pieces = readContent(source, directory, files.manifest)
  const manifest = await readManifest(pieces, expected.flat(), main.flat(), minSdk, sums)
  const content = await digestEntries(source, directory, manifest.algorithms, sums)
  if (content !== manifest.sum)
    throw badSignature(`an entry differs from ${MANIFEST}, or is not in it`)
  return certificates
}

async function findFiles(
  source: ApkSource,
  directory: ZipDirectory,
  sums: Sums,
): Promise<JarFiles> {
  let manifest: ZipEntry | undefined
  const blocks: ZipEntry[] = []
  const signatureFiles = new Map<string, ZipEntry>()
  let names = 0n
  let packedBytes = 0
  for await (const entries of listEntries(source, directory)) {
    for (const entry of entries) {
      packedBytes += entry.compressedBytes
      if (packedBytes > source.sizeBytes) throw badSignature('its entries overlap')
      if (entry.name.endsWith('/')) continue
      if (isDigested(entry.name)) names += sums.of(entry.name)
      else if (entry.name === MANIFEST) manifest = entry
      if (SIGNATURE_FILE.test(entry.name)) signatureFiles.set(entry.name, entry)
      if (SIGNATURE_BLOCK.test(entry.name)) blocks.push(entry)
      if (signatureFiles.size > MAX_SIGNERS || blocks.length > MAX_SIGNERS) {
        throw badSignature(`META-INF has more than ${MAX_SIGNERS} signatures`)
      }
    }
  }
  const signers = blocks.flatMap((block) => {
    const file = signatureFiles.get(block.name.replace(/\.[^.]*$/, '.SF'))
    return file === undefined ? [] : [{ block, file }]
  })
  const texts = [...signers.map(({ file }) => file), ...(manifest ? [manifest] : [])]
  if (texts.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0) > MAX_TEXT_BYTES) {
    throw badSignature(`${MANIFEST} and the *.SF in META-INF are too large`)
  }
  return { manifest, signers, names }
}

function isDigested(name: string): boolean {
  if (name.endsWith('/')) return false
  return !name.startsWith(META_INF) || !UNDIGESTED.test(name.slice(META_INF.length).toLowerCase())
}

/** What a *.SF says, proven by its signature. */
async function readSignatureFile(
  pieces: AsyncIterable<Buffer>,
  signature: JarSignature,
  minSdk: number,
  schemes: ReadonlySet<number>,
  sums: Sums,
): Promise<{ readonly manifest: Digest[]; readonly main: Digest[]; readonly names: bigint }> {
  const digest = createHash(signature.hash)
  let verifier = createVerify(signature.hash)
  let mainSection: JarSection | undefined
  let names = 0n
  for await (const sections of readSections(tapped(pieces, [digest, verifier]))) {
    for (const section of sections) {
      if (mainSection === undefined) {
        mainSection = section
        continue
      }
      if (section.name === undefined) {
        throw badSignature('a *.SF in META-INF has a section without name')
      }
      if (isDigested(section.name)) names += sums.of(section.name)
    }
  }
  const { attributes } = signature
  const isDigest = attributes === undefined || attributes.digest.equals(digest.digest())
  if (attributes !== undefined)
    verifier = createVerify(signature.hash).update(attributes.signedBytes)
  if (!isDigest || !isSigned(verifier, signature)) {
    throw badSignature('a signature in META-INF does not hold')
  }
  if (mainSection?.attributes.get('signature-version') === undefined) {
    throw badSignature('a *.SF in META-INF has no Signature-Version')
  }
  refuseStripped(mainSection, schemes)
  const manifest = digestsOf(mainSection, '-digest-manifest', minSdk)
  if (manifest.length === 0) throw badSignature(`a *.SF in META-INF has no digest of ${MANIFEST}`)
  const main = digestsOf(mainSection, '-digest-manifest-main-attributes', minSdk)
  return { manifest, main, names }
}

function isSigned(verifier: Verify, { certificate, key: kind, signature }: JarSignature): boolean {
  const key = readPublicKey(publicKeyOf(certificate))
  try {
    return key.asymmetricKeyType === kind && verifier.verify(key, signature)
  } catch {
    return false // OpenSSL throws at some that are damaged
  }
}

/** A signer of later schemes names them here, so that nobody can take them away. */
function refuseStripped(main: JarSection, schemes: ReadonlySet<number>): void {
  const schemesToo = main.attributes.get('x-android-apk-signed') ?? ''
  if (NOT_ASCII.test(schemesToo)) throw badSignature('a *.SF in META-INF is damaged')
  for (const text of schemesToo.split(',')) {
    const scheme = Number(text.trim())
    if ((scheme === 2 || scheme === 3) && !schemes.has(scheme)) {
      throw badSignature(`its v${scheme} signature was stripped: META-INF says that it had one`)
    }
  }
}

/** What MANIFEST.MF says of the entries, if it is what every *.SF signs. */
async function readManifest(
  pieces: AsyncIterable<Buffer>,
  expected: readonly Digest[],
  expectedOfMain: readonly Digest[],
  minSdk: number,
  sums: Sums,
): Promise<{ readonly algorithms: readonly HashName[]; readonly sum: bigint }> {
  const digests = new Map(expected.map(([name]) => [name, createHash(name)]))
  let algorithms: readonly HashName[] | undefined
  let isMain = true
  let sum = 0n
  for await (const sections of readSections(tapped(pieces, [...digests.values()]))) {
    for (const section of sections) {
      if (isMain) {
        isMain = false
        for (const [name, digest] of expectedOfMain) {
          if (hash(name, section.raw, 'hex') !== digest) throw differs()
        }
        continue
      }
      if (section.name === undefined) throw badSignature(`${MANIFEST} has a section without name`)
      if (!isDigested(section.name)) throw badSignature(`${MANIFEST} names what is no entry`)
      const found = digestsOf(section, '-digest', minSdk)
      algorithms ??= found.map(([name]) => name)
      if (found.length === 0 || found.map(([name]) => name).join() !== algorithms.join()) {
        throw badSignature(`${MANIFEST} digests its entries in different ways, or one not at all`)
      }
      sum += sums.of(section.name, ...found.map(([, digest]) => digest))
    }
  }
  for (const [name, digest] of digests) {
    const actual = digest.digest('hex')
    if (expected.some(([of, value]) => of === name && value !== actual)) throw differs()
  }
  if (algorithms === undefined) throw badSignature(`${MANIFEST} has no entry`)
  return { algorithms, sum }
}

async function digestEntries(
  source: ApkSource,
  directory: ZipDirectory,
  algorithms: readonly HashName[],
  sums: Sums,
): Promise<bigint> {
  const contents = blockwise(source)
  const budget = new EventLoopBudget()
  let sum = 0n
  let unpackedBytes = 0
  for await (const entries of listEntries(source, directory)) {
    for (const entry of entries) {
      if (!isDigested(entry.name)) continue
      unpackedBytes += entry.sizeBytes
      if (unpackedBytes > MAX_UNPACKED_BYTES) throw badSignature('it unpacks to more than 2 GiB')
      if (isHeld(entry)) {
        const content = await readHeld(contents, directory, entry)
        sum += sums.of(entry.name, ...algorithms.map((name) => hash(name, content, 'hex')))
        const { sizeBytes, compressedBytes } = entry
        await budget.spend(ENTRY_COST + sizeBytes + UNPACKING_COST * compressedBytes)
      } else {
        const digests = await digestLarge(source, directory, entry, algorithms)
        sum += sums.of(entry.name, ...digests)
      }
    }
  }
  return sum
}

async function digestLarge(
  source: ApkSource,
  directory: ZipDirectory,
  entry: ZipEntry,
  algorithms: readonly HashName[],
): Promise<readonly string[]> {
  const digests = algorithms.map((name) => createHash(name))
  for await (const piece of readContent(source, directory, entry)) {
    for (const digest of digests) digest.update(piece)
  }
  return digests.map((digest) => digest.digest('hex'))
}

async function* tapped(
  pieces: AsyncIterable<Buffer>,
  taps: readonly { update(piece: Buffer): unknown }[],
): AsyncGenerator<Buffer> {
  for await (const piece of pieces) {
    for (const tap of taps) tap.update(piece)
    yield piece
  }
}

function differs() {
  return badSignature(`${MANIFEST} differs from what a *.SF in META-INF signs`)
}
