/**
 * What a resource reference of the manifest stands for. Source: ResTable_* in AOSP
 * frameworks/base/libs/androidfw/include/androidfw/ResourceTypes.h. resources.arsc is never in memory: it is read forward
 * in windows, once for the value and once more where that is a string. Of several configurations the default one counts,
 * else the first. Bounds: 4 references in a row, 64 MiB, 100,000 chunks.
 */
import { setImmediate as turn } from 'node:timers/promises'
import type { ApkSource } from '../../domain/apk-source.ts'
import { type TypedValue, VALUE } from './binary-xml.ts'
import { readContent } from './entry.ts'
import { invalid, PackageFault } from './source.ts'
import { decodeString, MAX_STRING_BYTES, readPoolHeader } from './string-pool.ts'
import { findData, STORED, type ZipDirectory, type ZipEntry } from './zip.ts'

const TABLE = 0x0002
const STRING_POOL = 0x0001
const PACKAGE = 0x0200
const TYPE = 0x0201
const CHUNK_HEADER_BYTES = 8
const POOL_HEADER_BYTES = 28
const TYPE_HEADER_BYTES = 20
const SPARSE_FLAG = 1
const SHORT_OFFSETS_FLAG = 2
const COMPLEX_FLAG = 1
const COMPACT_FLAG = 8
const NO_ENTRY = 0xffffffff
const MAX_HOPS = 4
const MAX_TABLE_BYTES = 64 * 1024 * 1024
/** Of all readings for one APK together: 1 s. */
const MAX_READ_BYTES = 512 * 1024 * 1024
const MAX_CHUNKS = 100_000
/** Between two turns of the event loop: 2 ms. */
const CHUNKS_A_TURN = 1_000
const MAX_SPARSE_ENTRIES = 0x10000
/** Bytes that are searched at once. */
const SEARCH_BYTES = 16 * 1024
const MAX_CONFIG_BYTES = 1024

/** undefined: the table has no such value. Throws `invalid` where the table is damaged. */
export type Resolve = (reference: number) => Promise<TypedValue | undefined>

/** Resolves references by `table`, the entry resources.arsc; without one, none. */
export function createResolver(
  source: ApkSource,
  directory: ZipDirectory,
  table: ZipEntry | undefined,
): Resolve {
  let readBytes = 0
  const readTable = (entry: ZipEntry) => {
    readBytes += entry.sizeBytes
    if (readBytes > MAX_READ_BYTES) throw invalid('its resources refer to each other too often')
    return new ForwardReader(readContent(source, directory, entry))
  }
  return async (reference) => {
    if (table === undefined) return undefined
    if (table.sizeBytes > MAX_TABLE_BYTES) throw invalid('resources.arsc is too large')
    let value: RawValue | undefined = { type: VALUE.reference, data: reference }
    for (let hop = 0; value?.type === VALUE.reference; hop++) {
      if (hop === MAX_HOPS) return undefined
      const content = readTable(table)
      value = await findValue(content, value.data).finally(() => content.close())
    }
    if (value?.type !== VALUE.string) return value && { ...value, text: noText }
    const content = readTable(table)
    const text = await readGlobalString(content, value.data).finally(() => content.close())
    return { ...value, text: () => text }
  }
}

/**
 * False: Android cannot map `table` from the file, as it is compressed or not at a multiple of 4 bytes. True where there is
 * none, or its header is damaged: Android finds none then.
 */
export async function isTableMapped(
  source: ApkSource,
  directory: ZipDirectory,
  table: ZipEntry | undefined,
): Promise<boolean> {
  if (table?.method !== STORED) return table === undefined
  try {
    return (await findData(source, directory, table)) % 4 === 0
  } catch (error) {
    if (error instanceof PackageFault) return true
    throw error
  }
}

type RawValue = Pick<TypedValue, 'type' | 'data'>

function noText(): never {
  throw damaged()
}

/** Reads a content from its beginning to its end, skipping what is not asked for. */
class ForwardReader {
  readonly #pieces: AsyncGenerator<Buffer>
  #held: Buffer = Buffer.alloc(0)
  /** Of the first byte held. */
  #offset = 0

  constructor(pieces: AsyncGenerator<Buffer>) {
    this.#pieces = pieces
  }

  /** `length` bytes from `at`, which is not before any that was read. */
  async read(at: number, length: number): Promise<Buffer> {
    const bytes = await this.readUpTo(at, length)
    if (bytes.length < length) throw damaged()
    return bytes
  }

  /** Fewer where the content ends. */
  async readUpTo(at: number, length: number): Promise<Buffer> {
    if (at < this.#offset) throw damaged()
    for (;;) {
      const heldEnd = this.#offset + this.#held.length
      if (at >= heldEnd) {
        this.#offset = heldEnd
        this.#held = Buffer.alloc(0)
      } else {
        this.#held = this.#held.subarray(at - this.#offset)
        this.#offset = at
        if (this.#held.length >= length) return this.#held.subarray(0, length)
      }
      const piece = await this.#pieces.next()
      if (piece.done === true) return this.#offset === at ? this.#held : Buffer.alloc(0)
      this.#held = Buffer.concat([this.#held, piece.value])
    }
  }

  async close(): Promise<void> {
    await this.#pieces.return(undefined)
  }
}

interface Chunk {
  readonly type: number
  readonly headerBytes: number
  readonly at: number
  readonly end: number
}

async function readChunk(content: ForwardReader, at: number, end: number): Promise<Chunk> {
  const head = await content.read(at, CHUNK_HEADER_BYTES)
  const headerBytes = head.readUInt16LE(2)
  const sizeBytes = head.readUInt32LE(4)
  const isHeld = headerBytes >= CHUNK_HEADER_BYTES && headerBytes <= sizeBytes
  if (!isHeld || sizeBytes > end - at) throw damaged()
  return { type: head.readUInt16LE(0), headerBytes, at, end: at + sizeBytes }
}

/** `reference`: 0xPPTTEEEE, package, type and entry. */
async function findValue(content: ForwardReader, reference: number): Promise<RawValue | undefined> {
  const table = await readChunk(content, 0, MAX_TABLE_BYTES)
  if (table.type !== TABLE) throw damaged()
  let found: RawValue | undefined
  let packageEnd = 0
  let isWanted = false
  let at = table.headerBytes
  for (let count = 0; at < table.end; count++) {
    if (count === MAX_CHUNKS) throw damaged()
    if (count % CHUNKS_A_TURN === 0) await turn()
    const chunk = await readChunk(content, at, table.end)
    if (chunk.type === PACKAGE && chunk.headerBytes >= CHUNK_HEADER_BYTES + 4) {
      const head = await content.read(at, CHUNK_HEADER_BYTES + 4)
      isWanted = (head.readUInt32LE(8) & 0xff) === reference >>> 24
      packageEnd = chunk.end
      at += chunk.headerBytes // its chunks are within it
      continue
    }
    if (chunk.type === TYPE && isWanted && chunk.end <= packageEnd) {
      const value = await readTypeEntry(content, chunk, reference)
      if (value?.isDefault) return value
      found ??= value
    }
    at = chunk.end
  }
  return found
}

/** The entry in one chunk of its type, which holds one configuration. */
async function readTypeEntry(
  content: ForwardReader,
  chunk: Chunk,
  reference: number,
): Promise<(RawValue & { readonly isDefault: boolean }) | undefined> {
  const headBytes = Math.min(chunk.headerBytes, TYPE_HEADER_BYTES + MAX_CONFIG_BYTES)
  if (headBytes < TYPE_HEADER_BYTES + 4) throw damaged()
  const head = await content.read(chunk.at, headBytes)
  if (head.readUInt8(8) !== ((reference >>> 16) & 0xff)) return undefined
  const entriesAt = chunk.at + head.readUInt32LE(16)
  const configBytes = head.readUInt32LE(TYPE_HEADER_BYTES)
  const config = head.subarray(TYPE_HEADER_BYTES + 4, TYPE_HEADER_BYTES + configBytes)
  const offset = await findEntryOffset(content, chunk, head, reference & 0xffff)
  if (offset === undefined || entriesAt + offset + 8 > chunk.end) return undefined
  const entry = await content.read(entriesAt + offset, 8)
  const isDefault = config.every((byte) => byte === 0)
  const flags = entry.readUInt16LE(2)
  if ((flags & COMPACT_FLAG) !== 0)
    return { type: flags >> 8, data: entry.readUInt32LE(4), isDefault }
  if ((flags & COMPLEX_FLAG) !== 0) return undefined
  const valueAt = entriesAt + offset + entry.readUInt16LE(0)
  if (valueAt + 8 > chunk.end) throw damaged()
  const value = await content.read(valueAt, 8)
  return { type: value.readUInt8(3), data: value.readUInt32LE(4), isDefault }
}

async function findEntryOffset(
  content: ForwardReader,
  chunk: Chunk,
  head: Buffer,
  index: number,
): Promise<number | undefined> {
  const flags = head.readUInt8(9)
  const count = head.readUInt32LE(12)
  const at = chunk.at + chunk.headerBytes
  const slotBytes = (flags & SHORT_OFFSETS_FLAG) !== 0 ? 2 : 4
  if (at + slotBytes * count > chunk.end) throw damaged()
  if ((flags & SPARSE_FLAG) !== 0) {
    return await findSparse(content, at, count, index)
  }
  if (index >= count) return undefined
  const bytes = await content.read(at + slotBytes * index, slotBytes)
  if (slotBytes === 2)
    return bytes.readUInt16LE(0) === 0xffff ? undefined : 4 * bytes.readUInt16LE(0)
  return bytes.readUInt32LE(0) === NO_ENTRY ? undefined : bytes.readUInt32LE(0)
}

/** Pairs of an index and an offset. */
async function findSparse(content: ForwardReader, at: number, count: number, index: number) {
  if (count > MAX_SPARSE_ENTRIES) throw damaged()
  const end = at + 4 * count
  for (let from = at; from < end; from += SEARCH_BYTES) {
    const pairs = await content.read(from, Math.min(SEARCH_BYTES, end - from))
    for (let pair = 0; pair < pairs.length; pair += 4) {
      if (pairs.readUInt16LE(pair) === index) return 4 * pairs.readUInt16LE(pair + 2)
    }
  }
  return undefined
}

/** From the pool of all values, which stands before the packages. */
async function readGlobalString(content: ForwardReader, index: number): Promise<string> {
  const table = await readChunk(content, 0, MAX_TABLE_BYTES)
  const pool = await readChunk(content, table.headerBytes, table.end)
  if (pool.type !== STRING_POOL || pool.headerBytes < POOL_HEADER_BYTES) throw damaged()
  const head = await content.read(pool.at, POOL_HEADER_BYTES)
  const { count, isUtf8, stringsAt, headerBytes } = readPoolHeader(head, pool.end - pool.at)
  if (index >= count) throw damaged()
  const slot = await content.read(pool.at + headerBytes + 4 * index, 4)
  const at = pool.at + stringsAt + slot.readUInt32LE(0)
  if (at >= pool.end) throw damaged()
  return decodeString(await content.readUpTo(at, Math.min(MAX_STRING_BYTES, pool.end - at)), isUtf8)
}

function damaged() {
  return invalid('resources.arsc is damaged')
}
