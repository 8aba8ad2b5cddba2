/**
 * What a zip entry holds, unpacked. Source: RFC 1951 (deflate), through node:zlib. An entry never unpacks to more than
 * its directory record says; large ones are unpacked in the thread pool, piece by piece.
 */
import { pipeline, Readable } from 'node:stream'
import { promisify } from 'node:util'
import { createInflateRaw, inflateRaw, inflateRawSync } from 'node:zlib'
import type { ApkSource } from '../../domain/apk-source.ts'
import { invalid, type PackageFault, quoted, readBytes } from './source.ts'
import { findData, STORED, type ZipDirectory, type ZipEntry } from './zip.ts'

const PIECE_BYTES = 64 * 1024
/** Up to these sizes an entry is unpacked in one go: 0.5 ms, or 6 ms where it consists of empty blocks with tables. */
const SMALL_BYTES = 128 * 1024
const SMALL_PACKED_BYTES = 32 * 1024
/** Up to these sizes an entry is unpacked in one go as well, in the thread pool: a stream for each takes three times longer. */
const HELD_BYTES = 384 * 1024
const HELD_PACKED_BYTES = 128 * 1024
/** zlib takes no smaller buffer. */
const MIN_CHUNK_BYTES = 64

const inflateInPool = promisify(inflateRaw)

/** The content in pieces of at most 128 KiB. Throws `invalid` where it is damaged or has another size than promised. */
export async function* readContent(
  source: ApkSource,
  directory: ZipDirectory,
  entry: ZipEntry,
): AsyncGenerator<Buffer> {
  const dataOffset = await findData(source, directory, entry)
  if (entry.method === STORED) {
    yield* readPieces(source, dataOffset, entry.sizeBytes)
    return
  }
  if (isSmall(entry)) {
    yield unpackSmall(await readBytes(source, dataOffset, entry.compressedBytes), entry)
    return
  }
  yield* unpack(readPieces(source, dataOffset, entry.compressedBytes), entry)
}

function isSmall({ sizeBytes, compressedBytes }: ZipEntry): boolean {
  return compressedBytes <= SMALL_PACKED_BYTES && sizeBytes <= SMALL_BYTES
}

/** Whether `readHeld` reads the entry. */
export function isHeld({ sizeBytes, compressedBytes }: ZipEntry): boolean {
  return compressedBytes <= HELD_PACKED_BYTES && sizeBytes <= HELD_BYTES
}

/** The whole content, 512 KiB with what it is packed in: 10 µs for most. Throws `invalid` as `readContent` does. */
export async function readHeld(
  source: ApkSource,
  directory: ZipDirectory,
  entry: ZipEntry,
): Promise<Buffer> {
  const dataOffset = await findData(source, directory, entry)
  const packed = await readBytes(source, dataOffset, entry.compressedBytes)
  if (entry.method === STORED) return packed
  if (isSmall(entry)) return unpackSmall(packed, entry)
  const unpacked = await inflateInPool(packed, unpackingOptions(entry)).catch(() => undefined)
  if (unpacked?.length !== entry.sizeBytes) throw damaged(entry)
  return unpacked
}

/** One byte more than promised, so that too much shows; zlib takes no bound of 0. */
function unpackingOptions({ sizeBytes }: ZipEntry) {
  return { maxOutputLength: sizeBytes + 1, chunkSize: Math.max(MIN_CHUNK_BYTES, sizeBytes + 1) }
}

/** The whole content. Throws `invalid` where that is more than `maxBytes`. */
export async function readWhole(
  source: ApkSource,
  directory: ZipDirectory,
  entry: ZipEntry,
  maxBytes: number,
): Promise<Buffer> {
  if (entry.sizeBytes > maxBytes) {
    throw invalid(`${quoted(entry.name)} has more than ${maxBytes} bytes`)
  }
  const whole = Buffer.allocUnsafeSlow(entry.sizeBytes)
  let at = 0
  for await (const piece of readContent(source, directory, entry)) {
    at += piece.copy(whole, at)
  }
  return whole
}

async function* readPieces(
  source: ApkSource,
  offset: number,
  length: number,
): AsyncGenerator<Buffer> {
  for (let at = 0; at < length; at += PIECE_BYTES) {
    yield await readBytes(source, offset + at, Math.min(PIECE_BYTES, length - at))
  }
}

function unpackSmall(packed: Buffer, entry: ZipEntry): Buffer {
  let unpacked: Buffer
  try {
    unpacked = inflateRawSync(packed, unpackingOptions(entry))
  } catch {
    throw damaged(entry)
  }
  if (unpacked.length !== entry.sizeBytes) throw damaged(entry)
  return unpacked
}

async function* unpack(packed: AsyncGenerator<Buffer>, entry: ZipEntry): AsyncGenerator<Buffer> {
  const input = Readable.from(packed, { objectMode: false, highWaterMark: PIECE_BYTES })
  const inflate = createInflateRaw({ chunkSize: PIECE_BYTES })
  // Whatever ends the pipeline ends the loop below.
  const pieces: AsyncIterable<Buffer> = pipeline(input, inflate, () => {})
  let sizeBytes = 0
  try {
    for await (const piece of pieces) {
      sizeBytes += piece.length
      if (sizeBytes > entry.sizeBytes) throw damaged(entry)
      yield piece
    }
  } catch (error) {
    const isZlib = error instanceof Error && 'errno' in error && 'code' in error
    throw isZlib && String(error.code).startsWith('Z_') ? damaged(entry) : error
  }
  if (sizeBytes !== entry.sizeBytes) throw damaged(entry)
}

function damaged({ name }: ZipEntry): PackageFault {
  return invalid(`${quoted(name)} is damaged`)
}
