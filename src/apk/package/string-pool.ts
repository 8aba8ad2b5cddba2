/**
 * The string pool of compiled XML and of a resource table. Source: ResStringPool_header in AOSP
 * frameworks/base/libs/androidfw/include/androidfw/ResourceTypes.h. Strings are UTF-16LE, or UTF-8 with two lengths.
 */
import { invalid } from './source.ts'

const HEADER_BYTES = 28
const UTF8_FLAG = 0x100
/** In UTF-16 code units, of a string that is asked for. */
const MAX_STRING_LENGTH = 32_767

/** Gives string `index`; throws `invalid` where there is none, or it has more than `maxLength` characters. */
export type StringPool = (index: number, maxLength?: number) => string

export interface PoolHeader {
  readonly count: number
  readonly isUtf8: boolean
  /** Of the first string, from the pool's own beginning. */
  readonly stringsAt: number
  readonly headerBytes: number
}

/** Reads the header at the beginning of `chunk`, which may go on; `sizeBytes` is that of the whole chunk. */
export function readPoolHeader(chunk: Buffer, sizeBytes: number): PoolHeader {
  const headerBytes = chunk.readUInt16LE(2)
  if (headerBytes < HEADER_BYTES) throw damaged()
  const count = chunk.readUInt32LE(8)
  const stringsAt = chunk.readUInt32LE(20)
  if (headerBytes + 4 * count > sizeBytes || stringsAt > sizeBytes) throw damaged()
  return { count, isUtf8: (chunk.readUInt32LE(16) & UTF8_FLAG) !== 0, stringsAt, headerBytes }
}

/** The pool that is `chunk`, whole. */
export function readStringPool(chunk: Buffer): StringPool {
  if (chunk.length < HEADER_BYTES) throw damaged()
  const header = readPoolHeader(chunk, chunk.length)
  return (index, maxLength = MAX_STRING_LENGTH) => {
    if (index >= header.count) throw damaged()
    const at = header.stringsAt + chunk.readUInt32LE(header.headerBytes + 4 * index)
    return decodeString(chunk.subarray(at), header.isUtf8, maxLength)
  }
}

/** The string that `bytes` begin with. They may go on, and may end anywhere: that is a fault then. */
export function decodeString(
  bytes: Buffer,
  isUtf8: boolean,
  maxLength: number = MAX_STRING_LENGTH,
): string {
  try {
    return isUtf8 ? decodeUtf8(bytes, maxLength) : decodeUtf16(bytes, maxLength)
  } catch (error) {
    if (error instanceof RangeError) throw damaged()
    throw error
  }
}

/** The most bytes that a string may take which decodeString gives. */
export const MAX_STRING_BYTES = 4 + 3 * MAX_STRING_LENGTH

function decodeUtf8(bytes: Buffer, maxLength: number): string {
  const [, lengthAt] = readUtf8Length(bytes, 0) // in UTF-16 code units
  const [length, at] = readUtf8Length(bytes, lengthAt)
  if (length > 3 * maxLength || at + length > bytes.length) throw damaged()
  return bytes.toString('utf8', at, at + length)
}

function readUtf8Length(bytes: Buffer, at: number): [length: number, next: number] {
  const first = bytes.readUInt8(at)
  if ((first & 0x80) === 0) return [first, at + 1]
  return [((first & 0x7f) << 8) | bytes.readUInt8(at + 1), at + 2]
}

function decodeUtf16(bytes: Buffer, maxLength: number): string {
  const first = bytes.readUInt16LE(0)
  const isLong = (first & 0x8000) !== 0
  const length = isLong ? ((first & 0x7fff) << 16) | bytes.readUInt16LE(2) : first
  const at = isLong ? 4 : 2
  if (length > maxLength || at + 2 * length > bytes.length) throw damaged()
  return bytes.toString('utf16le', at, at + 2 * length)
}

function damaged() {
  return invalid('a string pool in it is damaged')
}
