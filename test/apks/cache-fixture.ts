/** A cache over a real directory, and stored APKs whose reading a test can hold up or break. */

import { createHash } from 'node:crypto'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import { makeApk } from '../../sim/apk.ts'
import { createApkCache, type ReadApk, type StoredApk } from '../../src/apk/cache.ts'
import type { Line } from '../../src/telemetry/log/log.ts'
import { tempDirectory } from '../helpers/directory.ts'

export const SIZE_BYTES = 700_000
/** The stored bytes come in such pieces. */
export const PIECE_BYTES = 100_000

export interface Stored extends StoredApk {
  readonly bytes: Buffer
}

export function storedApk(seed: string, sizeBytes = SIZE_BYTES): Stored {
  const bytes = makeApk({ sizeBytes, seed })
  const sha256 = createHash('sha256').update(bytes).digest()
  return { buildId: seed, sha256, sizeBytes, bytes }
}

/** A directory, caches on it as so many processes, and which builds were read from the store. */
export function setUpCache(t: Test, maxBytes = 10 * SIZE_BYTES) {
  const parent = tempDirectory(t)
  const dir = join(parent, 'apk-cache')
  const lines: Line[] = []
  const reads: string[] = []
  const clock = { nowMs: Date.now() }
  const builds = new Map<string, Stored>()
  /** Awaited before each piece: holds up the reading, or breaks it. */
  let beforePiece = async (_at: number) => {}

  async function* readStored({ buildId }: StoredApk, firstByte: number, lastByte: number) {
    reads.push(buildId)
    const { bytes } = builds.get(buildId) ?? { bytes: Buffer.alloc(0) }
    for (let at = firstByte; at <= lastByte; at += PIECE_BYTES) {
      await beforePiece(at)
      yield bytes.subarray(at, Math.min(at + PIECE_BYTES, lastByte + 1))
    }
  }

  const create = () =>
    createApkCache({
      dir,
      maxBytes,
      readStored,
      log: (line) => void lines.push(line),
      nowMs: () => clock.nowMs,
    })

  return {
    dir,
    lines,
    reads,
    clock,
    store(...stored: Stored[]) {
      for (const build of stored) builds.set(build.buildId, build)
    },
    hold(wait: (at: number) => Promise<void>) {
      beforePiece = wait
    },
    create,
    cache: () => create().readApk,
    pathOf: ({ sha256 }: StoredApk) => join(dir, `${sha256.toString('hex')}.apk`),
    files: async () => (await readdir(dir).catch(() => [])).toSorted(),
  }
}

export async function readAll(read: ReadApk, apk: StoredApk, first = 0, last = apk.sizeBytes - 1) {
  const pieces: Buffer[] = []
  for await (const bytes of read(apk, first, last)) pieces.push(Buffer.from(bytes))
  return Buffer.concat(pieces)
}
