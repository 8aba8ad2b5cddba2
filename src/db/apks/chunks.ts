/** The bytes of a build in rows of 1 MiB: written when it is published, read as a download pulls. */
import { createHash } from 'node:crypto'
import type { ApkSource } from '../../domain/apk-source.ts'
import { createSemaphore } from '../../lib/semaphore.ts'
import type { Queryable } from '../postgres/pool.ts'
import { withRetries } from '../postgres/retry.ts'

/** Size of every chunk but the last. Stored builds depend on it, so it can never change. */
export const MAX_CHUNK_BYTES = 1024 * 1024

/** Bytes of one read. On the wire the text form of bytea doubles them. */
const READ_BYTES = 256 * 1024

/** Concurrent reads: if no disk cache serves many downloads, other requests still find connections. */
const MAX_READS = 2

const INSERT = /* sql */ `
  insert into apk_chunks (build_id, chunk_no, bytes) values ($1, $2, $3)`

/** Storage is external, so only the requested pages are read. */
const READ = /* sql */ `
  select substring(bytes from $3::int for $4::int) as "bytes"
  from apk_chunks where build_id = $1 and chunk_no = $2`

const REMOVE = /* sql */ `
  delete from apk_chunks where build_id = $1`

export interface ChunkedBuild {
  readonly buildId: string
  readonly sizeBytes: number
  /** 32 bytes. */
  readonly sha256: Buffer
}

/**
 * Replaces any chunks of the build. Throws if the bytes differ from those hashed during the upload, since a disk may
 * return others. Requires a transaction that holds the build's lock.
 */
export async function writeChunks(
  tx: Queryable,
  { buildId, sizeBytes, sha256 }: ChunkedBuild,
  source: ApkSource,
): Promise<void> {
  const hash = createHash('sha256')
  await tx.query({ name: 'apks.remove_chunks', text: REMOVE, values: [buildId] })
  for (let offset = 0; offset < sizeBytes; offset += MAX_CHUNK_BYTES) {
    const bytes = Buffer.allocUnsafe(Math.min(MAX_CHUNK_BYTES, sizeBytes - offset))
    if ((await source.read(bytes, offset)) !== bytes.length) {
      throw new Error('the spooled APK is shorter than it was')
    }
    hash.update(bytes)
    const chunkNo = offset / MAX_CHUNK_BYTES
    await tx.query({ name: 'apks.insert_chunk', text: INSERT, values: [buildId, chunkNo, bytes] })
  }
  if (!hash.digest().equals(sha256)) throw new Error('the spooled APK has another SHA-256 by now')
}

/** See ApkStore.readChunks. */
export function chunkReader(database: Queryable) {
  const reads = createSemaphore(MAX_READS)

  return async function* readChunks(
    build: { readonly buildId: string },
    firstByte: number,
    lastByte: number,
  ): AsyncGenerator<Buffer, void, undefined> {
    let at = firstByte
    while (at <= lastByte) {
      const chunkNo = Math.floor(at / MAX_CHUNK_BYTES)
      const offset = at % MAX_CHUNK_BYTES
      const wantedBytes = Math.min(READ_BYTES, MAX_CHUNK_BYTES - offset, lastByte - at + 1)
      const query = {
        name: 'apks.read_chunk',
        text: READ,
        values: [build.buildId, chunkNo, offset + 1, wantedBytes],
      }
      const { rows } = await withRetries(() =>
        reads.run(() => database.query<{ bytes: Buffer }>(query)),
      )
      const bytes = rows[0]?.bytes
      if (bytes?.length !== wantedBytes) {
        throw new Error(`chunk ${chunkNo} of build ${build.buildId} is missing or damaged`)
      }
      yield bytes
      at += wantedBytes
    }
  }
}
