/**
 * The directory of a zip file, and where an entry's data lies. Source: PKWARE APPNOTE.TXT 6.3.10, sections 4.3.7 (local
 * file header), 4.3.12 (central directory), 4.3.16 (end of central directory). Reads windows of 64 KiB; at most 65,534
 * entries, since a zip64 is refused as Android's installer and apksigner refuse it.
 */
import { isUtf8 } from 'node:buffer'
import type { ApkSource } from '../../domain/apk-source.ts'
import { invalid, quoted, readBytes } from './source.ts'

const LOCAL_SIGNATURE = 0x04034b50
export const LOCAL_BYTES = 30
const ENTRY_SIGNATURE = 0x02014b50
const ENTRY_BYTES = 46
const END_SIGNATURE = 0x06054b50
export const END_BYTES = 22
const ZIP64_LOCATOR_SIGNATURE = 0x07064b50
const ZIP64_LOCATOR_BYTES = 20
const MAX_COMMENT_BYTES = 0xffff
/** Enough for any entry with its name. */
const WINDOW_BYTES = ENTRY_BYTES + 0xffff

const ENCRYPTED_FLAG = 1
const DATA_DESCRIPTOR_FLAG = 8
export const STORED = 0
const DEFLATED = 8

/** Names that Android's zip reader takes, and that are the same text for each reader: UTF-8 without NUL. */
export function isText(name: string): boolean {
  return (
    !/[\0\x80-\xff]/.test(name) || (!name.includes('\0') && isUtf8(Buffer.from(name, 'latin1')))
  )
}

export interface ZipDirectory {
  /** Of the central directory. */
  readonly offset: number
  readonly end: number
  readonly entryCount: number
  /** Where the end record begins; it reaches to the end of the file. */
  readonly endRecordOffset: number
}

export interface ZipEntry {
  /** The name's bytes, one character each: comparable, not printable. */
  readonly name: string
  readonly localOffset: number
  readonly method: number
  readonly flags: number
  readonly crc: number
  readonly compressedBytes: number
  readonly sizeBytes: number
}

/** Throws `invalid`. */
export async function findDirectory(source: ApkSource): Promise<ZipDirectory> {
  const { sizeBytes } = source
  if (sizeBytes < END_BYTES) throw invalid('the file is too short for a zip')
  const tailBytes = Math.min(sizeBytes, END_BYTES + MAX_COMMENT_BYTES + ZIP64_LOCATOR_BYTES)
  const tail = await readBytes(source, sizeBytes - tailBytes, tailBytes)
  const at = findEndRecord(tail)
  if (at === undefined) throw invalid('the file is no zip: it has no end of central directory')

  const entryCount = tail.readUInt16LE(at + 10)
  const directoryBytes = tail.readUInt32LE(at + 12)
  const offset = tail.readUInt32LE(at + 16)
  const hasLocator =
    at >= ZIP64_LOCATOR_BYTES &&
    tail.readUInt32LE(at - ZIP64_LOCATOR_BYTES) === ZIP64_LOCATOR_SIGNATURE
  if (
    hasLocator ||
    entryCount === 0xffff ||
    directoryBytes === 0xffffffff ||
    offset === 0xffffffff
  ) {
    throw invalid('zip64 is not accepted: Android does not install it')
  }
  const isSplit = tail.readUInt16LE(at + 4) !== 0 || tail.readUInt16LE(at + 6) !== 0
  if (isSplit || tail.readUInt16LE(at + 8) !== entryCount) {
    throw invalid('the zip is split over several files')
  }
  const end = offset + directoryBytes
  const endRecordOffset = sizeBytes - tailBytes + at
  if (end > endRecordOffset) throw invalid('the central directory lies outside the file')
  return { offset, end, entryCount, endRecordOffset }
}

/** The last record whose comment reaches exactly to the end of the file. */
function findEndRecord(tail: Buffer): number | undefined {
  const first = Math.max(0, tail.length - END_BYTES - MAX_COMMENT_BYTES)
  for (let at = tail.length - END_BYTES; at >= first; at--) {
    const isSigned = tail.readUInt32LE(at) === END_SIGNATURE
    if (isSigned && at + END_BYTES + tail.readUInt16LE(at + 20) === tail.length) return at
  }
  return undefined
}

/**
 * Every entry in the order of the directory, which names it; those of one window, which are read as they are asked for,
 * together. Throws `invalid` where the directory is damaged.
 */
export async function* listEntries(
  source: ApkSource,
  { offset, end, entryCount }: ZipDirectory,
): AsyncGenerator<Iterable<ZipEntry>> {
  let at = offset
  let left = entryCount
  function* entriesIn(window: Buffer): Generator<ZipEntry> {
    const first = at
    for (; left > 0; left--) {
      const head = at - first
      if (at + ENTRY_BYTES > end) throw cutOff()
      if (head + ENTRY_BYTES > window.length) return
      if (window.readUInt32LE(head) !== ENTRY_SIGNATURE) {
        throw invalid('the central directory is damaged')
      }
      const nameBytes = window.readUInt16LE(head + 28)
      const nameEnd = head + ENTRY_BYTES + nameBytes
      const entryEnd = nameEnd + window.readUInt16LE(head + 30) + window.readUInt16LE(head + 32)
      if (first + entryEnd > end) throw cutOff()
      if (nameEnd > window.length) return
      at = first + entryEnd
      yield readEntry(window, head, nameBytes)
    }
  }
  while (left > 0) {
    yield entriesIn(await readBytes(source, at, Math.min(WINDOW_BYTES, end - at)))
  }
}

function cutOff() {
  return invalid('the central directory is cut off')
}

function readEntry(window: Buffer, head: number, nameBytes: number): ZipEntry {
  const nameAt = head + ENTRY_BYTES
  return {
    name: window.toString('latin1', nameAt, nameAt + nameBytes),
    flags: window.readUInt16LE(head + 8),
    method: window.readUInt16LE(head + 10),
    crc: window.readUInt32LE(head + 16),
    compressedBytes: window.readUInt32LE(head + 20),
    sizeBytes: window.readUInt32LE(head + 24),
    localOffset: window.readUInt32LE(head + 42),
  }
}

/**
 * Where the entry's data begins. Throws `invalid` where its local header does not say the same as the directory, or the
 * data does not end before the directory.
 */
export async function findData(
  source: ApkSource,
  { offset }: ZipDirectory,
  entry: ZipEntry,
): Promise<number> {
  const nameBytes = entry.name.length
  if (entry.localOffset + LOCAL_BYTES + nameBytes > offset) throw outside(entry)
  const head = await readBytes(source, entry.localOffset, LOCAL_BYTES + nameBytes)
  if (!isHeaderOf(head, entry)) throw badHeader(entry)
  if ((entry.flags & ENCRYPTED_FLAG) !== 0) throw invalid(`${quoted(entry.name)} is encrypted`)
  const isStored = entry.method === STORED
  if (!isStored && entry.method !== DEFLATED) {
    throw invalid(`${quoted(entry.name)} is compressed in a way that Android does not read`)
  }
  if (isStored && entry.compressedBytes !== entry.sizeBytes) throw badHeader(entry)
  const dataOffset = entry.localOffset + LOCAL_BYTES + nameBytes + head.readUInt16LE(28)
  if (dataOffset + entry.compressedBytes > offset) throw outside(entry)
  return dataOffset
}

function outside({ name }: ZipEntry) {
  return invalid(`${quoted(name)} lies outside the file`)
}

function badHeader({ name }: ZipEntry) {
  return invalid(`the header of ${quoted(name)} is damaged`)
}

function isHeaderOf(head: Buffer, entry: ZipEntry): boolean {
  if (head.readUInt32LE(0) !== LOCAL_SIGNATURE) return false
  const flags = head.readUInt16LE(6)
  if ((flags & DATA_DESCRIPTOR_FLAG) !== (entry.flags & DATA_DESCRIPTOR_FLAG)) return false
  if ((flags & DATA_DESCRIPTOR_FLAG) === 0) {
    const isSame =
      head.readUInt32LE(14) === entry.crc &&
      head.readUInt32LE(18) === entry.compressedBytes &&
      head.readUInt32LE(22) === entry.sizeBytes
    if (!isSame) return false
  }
  return (
    head.readUInt16LE(8) === entry.method &&
    head.readUInt16LE(26) === entry.name.length &&
    head.toString('latin1', LOCAL_BYTES) === entry.name
  )
}
