/**
 * The signers of APK Signature Scheme v2, v3 and v3.1: their signatures over the signed data, the certificate, and the
 * digests of the content. Source: source.android.com/docs/security/features/apksigning/v2#apk-signature-scheme-v2-block and
 * v3#format. Of several signatures the strongest of each generation counts, as on a phone. Bounds: 10 signers (apksigner's),
 * 32 parts of each list.
 */
import type { KeyObject, X509Certificate } from 'node:crypto'
import { setImmediate as turn } from 'node:timers/promises'
import { badSignature } from '../source.ts'
import {
  ALGORITHMS,
  CONTENT_DIGESTS,
  type ContentDigest,
  isSignedBy,
  readPublicKey,
  type SignatureAlgorithm,
} from './algorithms.ts'
import { publicKeyOf, readCertificate } from './certificate.ts'
import { type Ancestor, readLineage } from './lineage.ts'
import { type BlockScheme, Fields } from './signing-block.ts'

const STRIPPING_PROTECTION = 0xbeeff00d
const PROOF_OF_ROTATION = 0x3ba06f8c
const ROTATION_MIN_SDK = 0x559f8b02
const MAX_SIGNERS = 10
const MAX_PARTS = 32
export const LAST_SDK = 0x7fffffff

export interface Signer {
  readonly certificate: X509Certificate
  /** By what the content must digest to. */
  readonly digests: readonly (readonly [ContentDigest, Buffer])[]
  /** API levels, inclusive. */
  readonly minSdk: number
  readonly maxSdk: number
  /** v3: oldest certificate first, the signer's last. */
  readonly lineage: readonly Ancestor[] | undefined
  /** v2: a later scheme that must be there too, such as 3. */
  readonly protects: readonly number[]
  /** v3: the API level from which a v3.1 signer takes over, which must be there then. */
  readonly rotationMinSdk: number | undefined
}

/** `minSdk`: the lowest API level that v2 must serve. Throws `signature` where any signer does not hold. */
export async function readSigners(
  block: Buffer,
  scheme: BlockScheme,
  minSdk: number,
): Promise<readonly Signer[]> {
  const parts = new Fields(block).fields().parts(MAX_SIGNERS)
  if (parts.length === 0) throw badSignature(`its ${scheme} signature has no signer`)
  const signers: Signer[] = []
  const chosen = new Set<ContentDigest>()
  for (const part of parts) signers.push(await readSigner(new Fields(part), scheme, minSdk, chosen))
  return signers.map((signer) => ({
    ...signer,
    digests: signer.digests.filter(([content]) => chosen.has(content)),
  }))
}

/** Adds to `content` what the signer's signatures ask for; digests of that are checked for every signer. */
async function readSigner(
  signer: Fields,
  scheme: BlockScheme,
  minSdk: number,
  content: Set<ContentDigest>,
): Promise<Signer> {
  const signedData = signer.part()
  const isV2 = scheme === 'v2'
  const range = isV2
    ? { min: minSdk, max: LAST_SDK }
    : { min: signer.uint32(), max: signer.uint32() }
  if (range.min > range.max || range.max > LAST_SDK) throw damaged(scheme)
  const signatures = signer.fields().parts(MAX_PARTS).map(readNumbered)
  const publicKey = signer.part()
  const chosen = await verifySignatures(signatures, readPublicKey(publicKey), signedData, range)
  if (chosen === undefined) throw badSignature(`its ${scheme} signature does not hold`)
  for (const one of chosen) content.add(one)

  // Proven from here on.
  const signed = new Fields(signedData)
  const digests = signed.fields().parts(MAX_PARTS).map(readNumbered)
  const certificates = signed.fields().parts(MAX_PARTS)
  if (!isV2 && (signed.uint32() !== range.min || signed.uint32() !== range.max)) {
    throw badSignature(`its ${scheme} signature is made for other API levels than it says`)
  }
  const attributes = signed.fields().parts(MAX_PARTS).map(readAttribute)
  const certificate = await readCertificates(certificates)
  if (certificate === undefined || !publicKeyOf(certificate).equals(publicKey)) {
    throw badSignature(`the certificate of its ${scheme} signature is of another key`)
  }
  const ids = (list: readonly Numbered[]) => list.map(([id]) => id).join()
  if (ids(signatures) !== ids(digests)) throw damaged(scheme)
  return {
    certificate,
    digests: digests.flatMap(knownDigest),
    minSdk: range.min,
    maxSdk: range.max,
    ...(await readAttributes(attributes, isV2, certificate)),
  }
}

/** The first one; none of them may be damaged. */
async function readCertificates(all: readonly Buffer[]): Promise<X509Certificate | undefined> {
  let first: X509Certificate | undefined
  for (const der of all) {
    const certificate = readCertificate(der)
    first ??= certificate
    await turn()
  }
  return first
}

type Numbered = readonly [id: number, bytes: Buffer]

function readNumbered(part: Buffer): Numbered {
  const fields = new Fields(part)
  return [fields.uint32(), fields.part()]
}

function readAttribute(part: Buffer): Numbered {
  const fields = new Fields(part)
  return [fields.uint32(), fields.rest()]
}

/** The contents' digests that the chosen signatures sign, or undefined where one does not hold. */
async function verifySignatures(
  signatures: readonly Numbered[],
  key: KeyObject,
  signedData: Buffer,
  range: { readonly min: number; readonly max: number },
): Promise<ReadonlySet<ContentDigest> | undefined> {
  const strongest = new Map<number, readonly [SignatureAlgorithm, Buffer]>()
  for (const [id, signature] of signatures) {
    const algorithm = ALGORITHMS.get(id)
    if (algorithm === undefined || algorithm.since > range.max) continue
    const best = strongest.get(algorithm.since)
    if (best === undefined || strengthOf(algorithm) > strengthOf(best[0])) {
      strongest.set(algorithm.since, [algorithm, signature])
    }
  }
  if (!(Math.min(...strongest.keys()) <= range.min)) return undefined
  const chosen = new Set<ContentDigest>()
  for (const [algorithm, signature] of strongest.values()) {
    if (!(await isSignedBy(algorithm, key, signedData, signature))) return undefined
    chosen.add(algorithm.content)
  }
  return chosen
}

function strengthOf({ content }: SignatureAlgorithm): number {
  return CONTENT_DIGESTS.indexOf(content)
}

function knownDigest([id, digest]: Numbered): readonly (readonly [ContentDigest, Buffer])[] {
  const content = ALGORITHMS.get(id)?.content
  return content === undefined ? [] : [[content, digest]]
}

async function readAttributes(
  attributes: readonly Numbered[],
  isV2: boolean,
  certificate: X509Certificate,
): Promise<Pick<Signer, 'lineage' | 'protects' | 'rotationMinSdk'>> {
  const protects: number[] = []
  let lineage: Signer['lineage']
  let rotationMinSdk: number | undefined
  for (const [id, value] of attributes) {
    if (isV2 && id === STRIPPING_PROTECTION) {
      const later = new Fields(value).uint32()
      if (later === 2) throw damaged('v2') // it cannot be there for itself
      protects.push(later)
    }
    if (!isV2 && id === ROTATION_MIN_SDK) rotationMinSdk = new Fields(value).uint32()
    if (!isV2 && id === PROOF_OF_ROTATION) {
      lineage = await readLineage(value)
      if (lineage.at(-1)?.certificate.raw.equals(certificate.raw) !== true) {
        throw badSignature('its proof of rotation ends in another certificate')
      }
    }
  }
  return { lineage, protects, rotationMinSdk }
}

function damaged(scheme: BlockScheme) {
  return badSignature(`its ${scheme} signature is damaged`)
}
