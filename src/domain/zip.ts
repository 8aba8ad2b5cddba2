/**
 * Checks the structure of an APK: a zip whose central directory lists one AndroidManifest.xml, which is compiled XML
 * within the file, and a signature, which is not verified. Layout: APPNOTE.TXT 6.3.10, section 4.3. Memory is bounded by
 * WINDOW_BYTES and HEAD_BYTES, whatever the file claims.
 */
import { constants, inflateRawSync } from 'node:zlib'

/** Random access to the file. Returns exactly `length` bytes if the file has them. */
export type ReadAt = (offset: number, length: number) => Promise<Buffer>

export type ApkCheck =
  | { readonly kind: 'apk' }
  /** The sender may see `reason`. */
  | { readonly kind: 'invalid'; readonly reason: string }

const MANIFEST = Buffer.from('AndroidManifest.xml')
const LOCAL_SIGNATURE = 0x04034b50
const LOCAL_BYTES = 30
const ENTRY_SIGNATURE = 0x02014b50
const ENTRY_BYTES = 46
const END_SIGNATURE = 0x06054b50
const END_BYTES = 22
const MAX_COMMENT_BYTES = 0xffff
const WINDOW_BYTES = 64 * 1024
/** Longer names are compared by their first bytes only. */
const NAME_BYTES = 256
/** JAR signing (v1): signs the .SF file of the same name. */
const SIGNATURE_NAME = /^META-INF\/[^/]+\.(?:RSA|DSA|EC)$/
/** APK Signature Scheme v2 and later: ends the signing block, which directly precedes the central directory. */
const SIGNING_BLOCK_MAGIC = Buffer.from('APK Sig Block 42')
/** Compiled XML begins with a chunk of type RES_XML_TYPE and a header of 8 bytes (Android's ResourceTypes.h). */
const COMPILED_XML = 0x00080003
/** Read of the compressed manifest. Deflate expands it at most 1032-fold; its longest header is shorter than this. */
const HEAD_BYTES = 1024
const STORED = 0
const DEFLATED = 8

interface Directory {
  readonly offset: number
  readonly end: number
  readonly entries: number
}

/** The manifest's entry in the central directory. */
interface Entry {
  readonly offset: number
  readonly compressedBytes: number
  readonly method: number
  readonly isEncrypted: boolean
}

interface Contents {
  readonly manifest: Entry
  /** By JAR signing. */
  readonly isSigned: boolean
}

/** Throws only if `readAt` does; malformed bytes give a result. */
export async function checkApk(readAt: ReadAt, sizeBytes: number): Promise<ApkCheck> {
  const directory = await findDirectory(readAt, sizeBytes)
  if (typeof directory === 'string') return invalid(directory)
  const contents = await readDirectory(readAt, directory)
  if (typeof contents === 'string') return invalid(contents)
  const dataAt = await findData(readAt, contents.manifest, directory)
  if (typeof dataAt === 'string') return invalid(dataAt)
  const fault = await checkCompiled(readAt, contents.manifest, dataAt)
  if (fault !== undefined) return invalid(fault)
  if (contents.isSigned || (await hasSigningBlock(readAt, directory))) return { kind: 'apk' }
  return invalid(
    'it is not signed: META-INF/*.RSA, .DSA or .EC is missing, and so is an APK Signing Block. Android installs only signed APKs (apksigner sign)',
  )
}

function invalid(reason: string): ApkCheck {
  return { kind: 'invalid', reason }
}

/** Finds the central directory, or says why it cannot. */
async function findDirectory(readAt: ReadAt, sizeBytes: number): Promise<Directory | string> {
  if (sizeBytes < END_BYTES) return 'the file is too short for a zip'
  const tailBytes = Math.min(sizeBytes, END_BYTES + MAX_COMMENT_BYTES)
  const tail = await readAt(sizeBytes - tailBytes, tailBytes)
  if (tail.length !== tailBytes) return 'the file is shorter than it was'
  const at = findEnd(tail)
  if (at === undefined) return 'the file is no zip: it has no end of central directory'

  const entries = tail.readUInt16LE(at + 10)
  const directoryBytes = tail.readUInt32LE(at + 12)
  const offset = tail.readUInt32LE(at + 16)
  if (entries === 0xffff || directoryBytes === 0xffffffff || offset === 0xffffffff) {
    return 'zip64 is not accepted: Android does not install it'
  }
  const isSplit = tail.readUInt16LE(at + 4) !== 0 || tail.readUInt16LE(at + 6) !== 0
  if (isSplit || tail.readUInt16LE(at + 8) !== entries) return 'the zip is split over several files'
  const end = offset + directoryBytes
  if (end > sizeBytes - tailBytes + at) return 'the central directory lies outside the file'
  return { offset, end, entries }
}

/** Finds the last end record whose comment extends exactly to the end of the file. */
function findEnd(tail: Buffer): number | undefined {
  for (let at = tail.length - END_BYTES; at >= 0; at--) {
    const isSigned = tail.readUInt32LE(at) === END_SIGNATURE
    if (isSigned && at + END_BYTES + tail.readUInt16LE(at + 20) === tail.length) return at
  }
  return undefined
}

async function readDirectory(readAt: ReadAt, directory: Directory): Promise<Contents | string> {
  let window: Buffer = Buffer.alloc(0)
  let windowAt = directory.offset
  let at = directory.offset
  let manifest: Entry | undefined
  let isSigned = false
  for (let entry = 0; entry < directory.entries; entry++) {
    if (at + ENTRY_BYTES > directory.end) return 'the central directory is cut off'
    const windowEnd = windowAt + window.length
    if (at + ENTRY_BYTES + NAME_BYTES > windowEnd && windowEnd < directory.end) {
      const wantedBytes = Math.min(WINDOW_BYTES, directory.end - at)
      window = await readAt(at, wantedBytes)
      windowAt = at
      if (window.length !== wantedBytes) return 'the file is shorter than it was'
    }
    const head = at - windowAt
    if (window.readUInt32LE(head) !== ENTRY_SIGNATURE) return 'the central directory is damaged'
    const nameBytes = window.readUInt16LE(head + 28)
    const restBytes = window.readUInt16LE(head + 30) + window.readUInt16LE(head + 32)
    const next = at + ENTRY_BYTES + nameBytes + restBytes
    if (next > directory.end) return 'the central directory is cut off'
    const nameAt = head + ENTRY_BYTES
    const name = window.subarray(nameAt, nameAt + Math.min(nameBytes, NAME_BYTES))
    if (name.equals(MANIFEST)) {
      if (manifest !== undefined) return 'the zip holds AndroidManifest.xml twice'
      manifest = readEntry(window, head)
    }
    isSigned ||= nameBytes <= NAME_BYTES && SIGNATURE_NAME.test(name.toString('latin1'))
    at = next
  }
  return manifest === undefined ? 'the zip holds no AndroidManifest.xml' : { manifest, isSigned }
}

function readEntry(window: Buffer, head: number): Entry {
  return {
    offset: window.readUInt32LE(head + 42),
    compressedBytes: window.readUInt32LE(head + 20),
    method: window.readUInt16LE(head + 10),
    isEncrypted: (window.readUInt16LE(head + 8) & 1) !== 0,
  }
}

/** Finds the manifest's data, or says why its local header is invalid. */
async function findData(
  readAt: ReadAt,
  entry: Entry,
  directory: Directory,
): Promise<number | string> {
  const outside = 'AndroidManifest.xml lies outside the file'
  const headBytes = LOCAL_BYTES + MANIFEST.length
  if (entry.offset + headBytes > directory.offset) return outside
  const head = await readAt(entry.offset, headBytes)
  if (head.length !== headBytes) return 'the file is shorter than it was'
  const isHead =
    head.readUInt32LE(0) === LOCAL_SIGNATURE &&
    head.readUInt16LE(26) === MANIFEST.length &&
    head.subarray(LOCAL_BYTES).equals(MANIFEST)
  if (!isHead) return 'the header of AndroidManifest.xml is damaged'
  const dataAt = entry.offset + headBytes + head.readUInt16LE(28)
  return dataAt + entry.compressedBytes > directory.offset ? outside : dataAt
}

/** Says why the manifest is not compiled XML; undefined if it is. */
async function checkCompiled(
  readAt: ReadAt,
  entry: Entry,
  dataAt: number,
): Promise<string | undefined> {
  if (entry.isEncrypted || (entry.method !== STORED && entry.method !== DEFLATED)) {
    return 'AndroidManifest.xml is encrypted or compressed in a way that Android does not read'
  }
  const headBytes = Math.min(entry.compressedBytes, HEAD_BYTES)
  const head = await readAt(dataAt, headBytes)
  if (head.length !== headBytes) return 'the file is shorter than it was'
  const xml = entry.method === STORED ? head : inflateHead(head)
  if (xml === undefined) return 'AndroidManifest.xml is damaged'
  if (xml.length >= 4 && xml.readUInt32LE(0) === COMPILED_XML) return undefined
  return 'AndroidManifest.xml is not compiled XML, as it is in an AAR or in source code'
}

/** Inflates the beginning of an entry; undefined if it is damaged. */
function inflateHead(head: Buffer): Buffer | undefined {
  try {
    return inflateRawSync(head, { finishFlush: constants.Z_SYNC_FLUSH })
  } catch {
    return undefined
  }
}

async function hasSigningBlock(readAt: ReadAt, { offset }: Directory): Promise<boolean> {
  const { length } = SIGNING_BLOCK_MAGIC
  return offset >= length && (await readAt(offset - length, length)).equals(SIGNING_BLOCK_MAGIC)
}
