/**
 * Reads an APK: what its manifest says, and who signed it, by the rules of apksigner 31 for every Android from its minSdk
 * on. Source: AOSP tools/apksig ApkVerifier, and source.android.com/docs/security/features/apksigning. Takes less than 1 MiB
 * whatever the size; between two turns of the event loop, 2 ms, or 10 ms where a file is made for that.
 */
import type { X509Certificate } from 'node:crypto'
import type { ApkSource } from '../../domain/apk-source.ts'
import { readWhole } from './entry.ts'
import { NameList } from './keyed-digest.ts'
import { type PackageFacts, readManifest } from './manifest.ts'
import { createResolver, isTableMapped, type Resolve } from './resources.ts'
import type { ContentDigest } from './signature/algorithms.ts'
import { digestContent } from './signature/content-digest.ts'
import { isSignatureBlock, verifyJar } from './signature/jar-signature.ts'
import type { Ancestor } from './signature/lineage.ts'
import { LAST_SDK, readSigners, type Signer } from './signature/signer.ts'
import { findSigningBlock, type SigningBlock } from './signature/signing-block.ts'
import { abortable, badSignature, invalid, PackageFault, quoted } from './source.ts'
import { findDirectory, isText, listEntries, type ZipDirectory, type ZipEntry } from './zip.ts'

const MANIFEST = 'AndroidManifest.xml'
const RESOURCES = 'resources.arsc'
/** Of the bundles that bundletool reads. */
const BUNDLE_CONFIG = 'BundleConfig.pb'
const MAX_MANIFEST_BYTES = 768 * 1024
const VERITY_PAGE_BYTES = 4096
/** API levels: which schemes a phone looks for, and what it asks of an app that targets it. */
const V2_SINCE = 24
const V3_SINCE = 28
const V31_SINCE = 33

export type SigningScheme = 'v1' | 'v2' | 'v3'

export type Signing =
  | {
      readonly kind: 'verified'
      /** The newest that verified; v3.1 counts as v3. */
      readonly scheme: SigningScheme
      /** SHA-256 of each signer's certificate, hex; more than one only with v1 and v2. */
      readonly signers: readonly string[]
      /**
       * SHA-256 of the certificates that the signer's key has replaced and whose installations it may update, hex, oldest
       * first; proven by v3.
       */
      readonly replaced: readonly string[]
    }
  | { readonly kind: 'unsigned' }
  /** A signature is there, or was, and does not hold. */
  | { readonly kind: 'broken'; readonly reason: string }

export type PackageVerdict =
  /** `reason` may be shown to the sender of the bytes: one clause about "it", without a full stop. */
  | { readonly kind: 'invalid'; readonly reason: string }
  | {
      readonly kind: 'package'
      readonly facts: PackageFacts
      readonly signing: Signing
      readonly hasMappedTable: boolean
    }

/** Rejects with what `source.read` rejects with, or with the signal's reason; hostile bytes are a verdict. */
export async function readApkPackage(
  source: ApkSource,
  options: { readonly signal?: AbortSignal } = {},
): Promise<PackageVerdict> {
  const file = abortable(source, options.signal)
  try {
    const directory = await findDirectory(file)
    const { manifest, resources, hasJarSignature } = await findEntries(file, directory)
    const resolve = createResolver(file, directory, resources)
    const facts = await readFacts(file, directory, manifest, resolve)
    const signing = await readSigning(file, directory, facts, hasJarSignature)
    const hasMappedTable = await isTableMapped(file, directory, resources)
    return { kind: 'package', facts, signing, hasMappedTable }
  } catch (error) {
    if (error instanceof PackageFault) return { kind: 'invalid', reason: error.reason }
    throw error
  }
}

/** The manifest is out of memory before the content is read. */
async function readFacts(
  source: ApkSource,
  directory: ZipDirectory,
  manifest: ZipEntry,
  resolve: Resolve,
): Promise<PackageFacts> {
  const xml = await readWhole(source, directory, manifest, MAX_MANIFEST_BYTES)
  return await readManifest(xml, resolve)
}

async function findEntries(source: ApkSource, directory: ZipDirectory) {
  const found = new Map<string, ZipEntry>()
  let hasJarSignature = false
  let hasApk = false
  let isBundle = false
  const names = new NameList(directory.entryCount)
  for await (const entries of listEntries(source, directory)) {
    for (const entry of entries) {
      const { name } = entry
      if (!isText(name))
        throw invalid(`the zip holds an entry whose name is no text: ${quoted(name)}`)
      names.add(name)
      hasJarSignature ||= isSignatureBlock(name)
      hasApk ||= name.endsWith('.apk')
      isBundle ||= name === BUNDLE_CONFIG
      if (name !== MANIFEST && name !== RESOURCES) continue
      if (found.has(name)) throw invalid(`the zip holds ${name} twice`)
      found.set(name, entry)
    }
  }
  if (names.hasDuplicates()) throw invalid('the zip holds an entry twice')
  const manifest = found.get(MANIFEST)
  if (manifest) return { manifest, resources: found.get(RESOURCES), hasJarSignature }
  if (isBundle) throw invalid('it is an app bundle (AAB): build a universal APK of it')
  if (hasApk) throw invalid('it is a zip of APKs: send the APK itself')
  throw invalid(`the zip holds no ${MANIFEST}`)
}

async function readSigning(
  source: ApkSource,
  directory: ZipDirectory,
  facts: PackageFacts,
  hasJarSignature: boolean,
): Promise<Signing> {
  try {
    const block = await findSigningBlock(source, directory)
    const hasScheme = block !== undefined && Object.keys(block.schemes).length > 0
    if (!hasScheme && !hasJarSignature) return { kind: 'unsigned' }
    return await verifySchemes(source, directory, facts, block)
  } catch (error) {
    if (!(error instanceof PackageFault)) throw error
    return { kind: 'broken', reason: error.reason }
  }
}

/** What each scheme proves; undefined: not there, or no phone from minSdk on looks for it. */
interface Schemes {
  readonly v31: readonly Signer[] | undefined
  readonly v3: readonly Signer[] | undefined
  readonly v2: readonly Signer[] | undefined
}

async function verifySchemes(
  source: ApkSource,
  directory: ZipDirectory,
  { minSdk, targetSandbox }: PackageFacts,
  block: SigningBlock | undefined,
): Promise<Signing> {
  const schemes = await readSchemes(block, minSdk)
  const signers = [schemes.v31, schemes.v3, schemes.v2].flatMap((one) => one ?? [])
  if (block !== undefined && signers.length > 0) {
    await verifyContent(source, directory, block, signers)
  }
  if (targetSandbox > 1 && signers.length === 0) {
    throw badSignature('its targetSandboxVersion asks for a signature of scheme v2 or later')
  }
  const found = new Set([...(schemes.v2 ? [2] : []), ...(schemes.v3 ? [3] : [])])
  const jar =
    minSdk < V2_SINCE || signers.length === 0
      ? await verifyJar(source, directory, minSdk, found)
      : undefined
  return concluded(schemes, jar)
}

async function readSchemes(block: SigningBlock | undefined, minSdk: number): Promise<Schemes> {
  const present = block?.schemes ?? {}
  const v31 = present.v31 && (await readSigners(present.v31, 'v31', V31_SINCE))
  const v3 =
    present.v3 && (minSdk < V31_SINCE || v31 === undefined)
      ? await readSigners(present.v3, 'v3', V3_SINCE)
      : undefined
  const rotationMinSdk = v31 && Math.min(...v31.map((signer) => signer.minSdk))
  if (v31 !== undefined) requireLevels(v31, LAST_SDK, LAST_SDK)
  if (v3 !== undefined) {
    requireLevels(v3, Math.max(minSdk, V3_SINCE), (rotationMinSdk ?? LAST_SDK + 1) - 1)
    if (
      v3.some((one) => one.rotationMinSdk !== undefined && one.rotationMinSdk !== rotationMinSdk)
    ) {
      throw badSignature('its v3.1 signature was stripped: the v3 signature says that it had one')
    }
  } else if (v31 !== undefined && minSdk < V31_SINCE) {
    throw badSignature('it has a v3.1 signature without one of scheme v3')
  }
  const isV2Read = present.v2 !== undefined && (minSdk < V3_SINCE || (v3 ?? v31) === undefined)
  const v2 =
    isV2Read && present.v2
      ? await readSigners(present.v2, 'v2', Math.max(minSdk, V2_SINCE))
      : undefined
  if (v2?.some(({ protects }) => protects.includes(3)) && v3 === undefined) {
    throw badSignature('its v3 signature was stripped: the v2 signature says that it had one')
  }
  return { v31, v3, v2 }
}

/** v3: the signers serve every API level from `first` to `last`, one after the other, and lineages only grow. */
function requireLevels(signers: readonly Signer[], first: number, last: number): void {
  const sorted = signers.toSorted((a, b) => a.minSdk - b.minSdk)
  let previous: Signer | undefined
  let lineageLength = 0
  for (const signer of sorted) {
    const isNext = previous === undefined || signer.minSdk === previous.maxSdk + 1
    if (!isNext) throw badSignature('its v3 signers leave out API levels, or share them')
    const { length } = signer.lineage ?? { length: lineageLength }
    if (length < lineageLength) throw badSignature('its v3 signers have different histories')
    lineageLength = length
    previous = signer
  }
  const isCovered = (sorted[0]?.minSdk ?? Infinity) <= first && (previous?.maxSdk ?? 0) >= last
  if (!isCovered)
    throw badSignature(`its v3 signature does not serve API levels ${first} to ${last}`)
  const longest = historyOf(signers)
  for (const { lineage = [] } of signers) {
    if (
      lineage.some((one, index) => !longest[index]?.certificate.raw.equals(one.certificate.raw))
    ) {
      throw badSignature('its v3 signers have different histories')
    }
  }
}

async function verifyContent(
  source: ApkSource,
  directory: ZipDirectory,
  { offset }: SigningBlock,
  signers: readonly Signer[],
): Promise<void> {
  const kinds: ReadonlySet<ContentDigest> = new Set(
    signers.flatMap(({ digests }) => digests.map(([kind]) => kind)),
  )
  if (kinds.has('verity')) {
    const isAligned = offset % VERITY_PAGE_BYTES === 0 && directory.offset % VERITY_PAGE_BYTES === 0
    if (!isAligned) throw badSignature('its APK Signing Block is not aligned to 4 KiB')
  }
  const actual = await digestContent(source, directory, offset, kinds)
  for (const { digests } of signers) {
    for (const [kind, digest] of digests) {
      if (actual.get(kind)?.equals(digest) !== true) {
        throw badSignature('its content was changed after it was signed')
      }
    }
  }
}

function concluded({ v31, v3, v2 }: Schemes, jar: readonly X509Certificate[] | undefined): Signing {
  const old = v2?.map(({ certificate }) => certificate)
  if (jar !== undefined && old !== undefined && !isSameSet(jar, old)) {
    throw badSignature('its v1 and v2 signatures are of different signers')
  }
  const newest = v31 ?? v3
  if (newest === undefined) {
    const certificates = old ?? jar ?? []
    const scheme = old === undefined ? 'v1' : 'v2'
    return { kind: 'verified', scheme, signers: certificates.map(digestOf), replaced: [] }
  }
  // The key that all others were rotated from; where there is no history, the only one.
  const roots = [v31, v3].flatMap((signers) => (signers === undefined ? [] : [rootOf(signers)]))
  const past = jar ?? old ?? []
  const isOne = past.length <= 1 && isSameSet([...roots, ...past], roots.slice(0, 1))
  if (!isOne) throw badSignature('its v3 signature is of another signer than its older signatures')
  const { certificate } = newestOf(newest)
  const ancestors = historyOf(newest).slice(0, -1)
  const replaced = ancestors.filter(({ allowsUpdate }) => allowsUpdate)
  return {
    kind: 'verified',
    scheme: 'v3',
    signers: [digestOf(certificate)],
    replaced: replaced.map((one) => digestOf(one.certificate)),
  }
}

function rootOf(signers: readonly Signer[]): X509Certificate {
  const [root] = historyOf(signers)
  if (root === undefined && signers.length > 1) {
    throw badSignature('it has several v3 signers without a proof of rotation')
  }
  return root?.certificate ?? newestOf(signers).certificate
}

/** The longest lineage, oldest certificate first. */
function historyOf(signers: readonly Signer[]): readonly Ancestor[] {
  return signers
    .map(({ lineage = [] }) => lineage)
    .reduce((longest, one) => (one.length > longest.length ? one : longest))
}

/** The signer for the newest phones; there is one at least. */
function newestOf(signers: readonly Signer[]): Signer {
  return signers.reduce((newest, one) => (one.minSdk > newest.minSdk ? one : newest))
}

function isSameSet(a: readonly X509Certificate[], b: readonly X509Certificate[]): boolean {
  const isIn = (list: readonly X509Certificate[]) => (one: X509Certificate) =>
    list.some(({ raw }) => raw.equals(one.raw))
  return a.every(isIn(b)) && b.every(isIn(a))
}

function digestOf({ fingerprint256 }: X509Certificate): string {
  return fingerprint256.replaceAll(':', '').toLowerCase()
}
