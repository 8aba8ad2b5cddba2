/**
 * Whether bytes are built like an APK: a zip whose directory holds one AndroidManifest.xml that lies
 * within the file. Structure only; nothing is unpacked. Layout: APPNOTE.TXT 6.3.10, section 4.3.
 * Memory is bounded by the 64 KiB windows below, whatever the bytes claim.
 */

/** Random access to the file; gives exactly `length` bytes wherever they lie within it. */
export type ReadAt = (offset: number, length: number) => Promise<Buffer>

export type ApkCheck =
  | { readonly kind: 'apk' }
  /** `reason` may be shown to whoever sent the bytes. */
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

interface Directory {
  readonly offset: number
  readonly end: number
  readonly entries: number
}

/** Where the directory says that the manifest lies. */
interface Entry {
  readonly offset: number
  readonly compressedBytes: number
}

/** Throws only what `readAt` throws: hostile bytes are an outcome. */
export async function checkApk(readAt: ReadAt, sizeBytes: number): Promise<ApkCheck> {
  const directory = await findDirectory(readAt, sizeBytes)
  if (typeof directory === 'string') return invalid(directory)
  const manifest = await findManifest(readAt, directory)
  if (typeof manifest === 'string') return invalid(manifest)
  const fault = await checkLocal(readAt, manifest, directory)
  return fault === undefined ? { kind: 'apk' } : invalid(fault)
}

function invalid(reason: string): ApkCheck {
  return { kind: 'invalid', reason }
}

/** The directory's place, or why there is none. */
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

/** The last record whose comment reaches exactly to the end of the file. */
function findEnd(tail: Buffer): number | undefined {
  for (let at = tail.length - END_BYTES; at >= 0; at--) {
    const isSigned = tail.readUInt32LE(at) === END_SIGNATURE
    if (isSigned && at + END_BYTES + tail.readUInt16LE(at + 20) === tail.length) return at
  }
  return undefined
}

async function findManifest(readAt: ReadAt, directory: Directory): Promise<Entry | string> {
  let window: Buffer = Buffer.alloc(0)
  let windowAt = directory.offset
  let at = directory.offset
  let found: Entry | undefined
  for (let entry = 0; entry < directory.entries; entry++) {
    if (at + ENTRY_BYTES > directory.end) return 'the central directory is cut off'
    if (at + ENTRY_BYTES + MANIFEST.length > windowAt + window.length) {
      // Fewer bytes are left than a window holds only at the directory's end.
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
    if (nameBytes === MANIFEST.length) {
      const name = window.subarray(head + ENTRY_BYTES, head + ENTRY_BYTES + nameBytes)
      if (name.equals(MANIFEST)) {
        if (found !== undefined) return 'the zip holds AndroidManifest.xml twice'
        found = {
          offset: window.readUInt32LE(head + 42),
          compressedBytes: window.readUInt32LE(head + 20),
        }
      }
    }
    at = next
  }
  return found ?? 'the zip holds no AndroidManifest.xml'
}

/** Why the manifest's own header does not hold, or undefined. */
async function checkLocal(
  readAt: ReadAt,
  entry: Entry,
  directory: Directory,
): Promise<string | undefined> {
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
  const dataEnd = entry.offset + headBytes + head.readUInt16LE(28) + entry.compressedBytes
  return dataEnd > directory.offset ? outside : undefined
}
