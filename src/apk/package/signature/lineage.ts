/**
 * Proof of rotation: the certificates that signed an app one after the other, each vouched for by the one before. Source:
 * source.android.com/docs/security/features/apksigning/v3#proof-of-rotation-and-self-trusted-old-certs-structs.
 * Bound: 64 certificates.
 */
import type { X509Certificate } from 'node:crypto'
import { badSignature } from '../source.ts'
import { ALGORITHMS, isSignedBy, readPublicKey } from './algorithms.ts'
import { publicKeyOf, readCertificate } from './certificate.ts'
import { Fields } from './signing-block.ts'

export interface Ancestor {
  readonly certificate: X509Certificate
  /** Phones that have the app from this certificate take an update from the newer ones. */
  readonly allowsUpdate: boolean
}

const VERSION = 1
/** INSTALLED_DATA of android.content.pm.SigningDetails.CertCapabilities. */
const INSTALLED_DATA = 1
const MAX_CERTIFICATES = 64

/** Oldest first. Throws `signature` where one is not signed by the one before, or occurs twice. */
export async function readLineage(bytes: Buffer): Promise<readonly Ancestor[]> {
  const fields = new Fields(bytes)
  if (fields.uint32() !== VERSION) throw badSignature('its proof of rotation is of another version')
  const levels = fields.parts(MAX_CERTIFICATES).map(readLevel)
  const lineage: Ancestor[] = []
  let nextAlgorithm = 0
  for (const level of levels) {
    const signed = new Fields(level.signedData)
    const certificate = readCertificate(signed.part())
    const algorithmId = signed.uint32()
    const parent = lineage.at(-1)
    if (parent !== undefined) {
      const algorithm = ALGORITHMS.get(nextAlgorithm)
      if (algorithm === undefined || algorithmId !== nextAlgorithm) throw notProven()
      const key = readPublicKey(publicKeyOf(parent.certificate))
      if (!(await isSignedBy(algorithm, key, level.signedData, level.signature))) throw notProven()
    }
    if (lineage.some((one) => one.certificate.raw.equals(certificate.raw))) throw notProven()
    lineage.push({ certificate, allowsUpdate: (level.capabilities & INSTALLED_DATA) !== 0 })
    nextAlgorithm = level.nextAlgorithm
  }
  if (lineage.length === 0) throw notProven()
  return lineage
}

function readLevel(part: Buffer) {
  const level = new Fields(part)
  const signedData = level.part()
  const [capabilities, nextAlgorithm] = [level.uint32(), level.uint32()]
  return { signedData, capabilities, nextAlgorithm, signature: level.part() }
}

function notProven() {
  return badSignature('its proof of rotation does not hold')
}
