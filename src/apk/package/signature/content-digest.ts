/**
 * Digests of an APK without its signing block, as schemes v2 and v3 sign them: what is before the block, the central
 * directory, and the end record with the block's offset in place of the directory's. Source:
 * source.android.com/docs/security/features/apksigning/v2#integrity-protected-contents (1 MiB chunks), and
 * AOSP tools/apksig VerityTreeBuilder for the tree of 4 KiB pages (fs-verity's, salted with eight zeros).
 */
import { createHash, type Hash, hash } from 'node:crypto'
import type { ApkSource } from '../../../domain/apk-source.ts'
import { fill, readBytes } from '../source.ts'
import { END_BYTES, type ZipDirectory } from '../zip.ts'
import type { ContentDigest } from './algorithms.ts'

const CHUNK_BYTES = 1024 * 1024
/** Of one read: what is hashed between two turns of the event loop, 1 ms. */
const READ_BYTES = 256 * 1024
const CHUNK_PREFIX = 0xa5
const LIST_PREFIX = 0x5a
const PAGE_BYTES = 4096
const SALT = Buffer.alloc(8)

interface Digester {
  /** Of a section of the file; `sectionBytes` is its length. */
  begin(sectionBytes: number): void
  update(bytes: Buffer): void
  digest(): Buffer
}

/** Reads the file once, whatever the number of `kinds`. */
export async function digestContent(
  source: ApkSource,
  directory: ZipDirectory,
  blockOffset: number,
  kinds: ReadonlySet<ContentDigest>,
): Promise<ReadonlyMap<ContentDigest, Buffer>> {
  const endRecord = await readBytes(
    source,
    directory.endRecordOffset,
    source.sizeBytes - directory.endRecordOffset,
  )
  endRecord.writeUInt32LE(blockOffset, END_BYTES - 6)
  const directoryBytes = directory.end - directory.offset
  const sections = [blockOffset, directoryBytes, endRecord.length]
  const digesters = [...kinds].map((kind) => [kind, createDigester(kind, sections)] as const)
  const buffer = Buffer.allocUnsafeSlow(READ_BYTES)
  for (const [first, end] of [
    [0, blockOffset],
    [directory.offset, directory.end],
  ] as const) {
    for (const [, digester] of digesters) digester.begin(end - first)
    for (let at = first; at < end; at += READ_BYTES) {
      const piece = buffer.subarray(0, Math.min(READ_BYTES, end - at))
      await fill(source, piece, at)
      for (const [, digester] of digesters) digester.update(piece)
    }
  }
  for (const [, digester] of digesters) {
    digester.begin(endRecord.length)
    digester.update(endRecord)
  }
  return new Map(digesters.map(([kind, digester]) => [kind, digester.digest()]))
}

function createDigester(kind: ContentDigest, sections: readonly number[]): Digester {
  return kind === 'verity' ? new VerityTree() : new ChunkList(kind, sections)
}

/** Chunks of 1 MiB, each digested with its length, then the list of their digests with its count. */
class ChunkList implements Digester {
  readonly #algorithm: 'sha256' | 'sha512'
  readonly #list: Hash
  #chunk: Hash | undefined
  /** What the current chunk, and the current section, still lack. */
  #chunkRest = 0
  #sectionRest = 0

  constructor(algorithm: 'sha256' | 'sha512', sections: readonly number[]) {
    this.#algorithm = algorithm
    const count = sections.reduce((sum, bytes) => sum + Math.ceil(bytes / CHUNK_BYTES), 0)
    this.#list = createHash(algorithm).update(prefixed(LIST_PREFIX, count))
  }

  begin(sectionBytes: number): void {
    this.#sectionRest = sectionBytes
  }

  update(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; ) {
      if (this.#chunkRest === 0) {
        this.#chunkRest = Math.min(CHUNK_BYTES, this.#sectionRest)
        const head = prefixed(CHUNK_PREFIX, this.#chunkRest)
        this.#chunk = createHash(this.#algorithm).update(head)
      }
      const piece = bytes.subarray(at, at + this.#chunkRest)
      this.#chunk?.update(piece)
      at += piece.length
      this.#chunkRest -= piece.length
      this.#sectionRest -= piece.length
      if (this.#chunkRest === 0 && this.#chunk !== undefined)
        this.#list.update(this.#chunk.digest())
    }
  }

  digest(): Buffer {
    return this.#list.digest()
  }
}

function prefixed(prefix: number, value: number): Buffer {
  const head = Buffer.alloc(5)
  head.writeUInt8(prefix)
  head.writeUInt32LE(value, 1)
  return head
}

/** A tree of digests of pages, each level padded to whole pages; one page of each level is in memory. */
class VerityTree implements Digester {
  /** Level 0 is the content. */
  readonly #levels: { readonly page: Buffer; length: number }[] = []
  #sizeBytes = 0

  begin(): void {}

  update(bytes: Buffer): void {
    this.#sizeBytes += bytes.length
    this.#append(0, bytes)
  }

  digest(): Buffer {
    // Level 1 exists even for a content of one page: the root is the digest of the top level's only page.
    let level = 0
    for (; level === 0 || level < this.#levels.length; level++) this.#flush(level)
    const top = this.#levels[level - 1]?.page ?? Buffer.alloc(PAGE_BYTES)
    const size = Buffer.alloc(8)
    size.writeBigUInt64LE(BigInt(this.#sizeBytes))
    return Buffer.concat([digestPage(top), size])
  }

  #append(level: number, bytes: Buffer): void {
    const held = this.#levels[level] ?? { page: Buffer.alloc(PAGE_BYTES), length: 0 }
    this.#levels[level] = held
    for (let at = 0; at < bytes.length; ) {
      if (held.length === PAGE_BYTES) this.#emit(level)
      const copied = bytes.copy(held.page, held.length, at)
      held.length += copied
      at += copied
    }
  }

  /** A page is handed up as soon as another one follows, the last one at the end. */
  #emit(level: number): void {
    const held = this.#levels[level]
    if (held === undefined) return
    held.page.fill(0, held.length)
    held.length = 0
    this.#append(level + 1, digestPage(held.page))
  }

  #flush(level: number): void {
    const isTop = level > 0 && level === this.#levels.length - 1
    const held = this.#levels[level]
    if (isTop) held?.page.fill(0, held.length)
    else this.#emit(level)
  }
}

function digestPage(page: Buffer): Buffer {
  return hash('sha256', Buffer.concat([SALT, page]), 'buffer')
}
