/**
 * Fake APKs: zips with a compiled AndroidManifest.xml and an APK Signing Block, of any size and content. Development
 * code.
 */
import { createCipheriv, createHash } from 'node:crypto'
import { makeZip, type ZipEntry } from './apk/zip.ts'

export { makeZip, type ZipEntry }

/** The smallest compiled XML: the header of one chunk. */
export const MANIFEST: ZipEntry = {
  name: 'AndroidManifest.xml',
  bytes: Buffer.from([3, 0, 8, 0, 8, 0, 0, 0]),
}
/** An APK Signing Block without signatures: size, no pairs, size, magic. */
export const SIGNING_BLOCK = Buffer.concat([
  Buffer.from([24, 0, 0, 0, 0, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0]),
  Buffer.from('APK Sig Block 42'),
])
const PADDING = 'assets/padding.bin'
const MIN_BYTES = makePadded(Buffer.alloc(0)).length

/** Makes an APK of exactly `sizeBytes` (at least 300); the same `seed` makes the same bytes. */
export function makeApk(options: { readonly sizeBytes?: number; readonly seed?: string } = {}) {
  const { sizeBytes = 4096, seed = '' } = options
  if (sizeBytes < MIN_BYTES) throw new RangeError(`an APK has at least ${MIN_BYTES} bytes`)
  const bytes = makeNoise(sizeBytes - MIN_BYTES, seed)
  return makePadded(bytes)
}

function makePadded(bytes: Uint8Array): Buffer<ArrayBuffer> {
  return makeZip([MANIFEST, { name: PADDING, bytes }], '', SIGNING_BLOCK)
}

/** Pseudo-random bytes, fast to make in any size. */
function makeNoise(sizeBytes: number, seed: string): Buffer {
  const key = createHash('sha256').update(seed).digest()
  return createCipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(sizeBytes))
}
