/**
 * APKs on disk. A replica reads each one from the database once, or never if it received the upload. A file is named
 * after its SHA-256, so it is never stale, and processes may share the directory.
 *
 * States of a file:
 *   absent      the first download fills it
 *   filling     other downloads follow it as it grows, and get the last chunk only after the checksum is right
 *   verified    served (verified-files.ts)
 *   unverified  after a start, a change of the file, or when the checksum expires: the next download checks it
 *   checking    others wait; then it is verified, or corrupt: removed, reported and filled again
 *
 * If the disk fails, all downloads read the database for DISK_PAUSE_MS.
 *
 * A write to a file changes its mtime and is noticed at the next download. A failing disk that changes only bytes is
 * noticed when the checksum expires, within an hour: computing it at each download would cost more than all the rest.
 * Until then, and for bytes straight from the database, the client has `x-apk-sha256`.
 */
import { randomUUID } from 'node:crypto'
import type { Stats } from 'node:fs'
import { type FileHandle, mkdir, open, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { AppError } from '../domain/errors.ts'
import { createSemaphore } from '../lib/semaphore.ts'
import type { Line } from '../telemetry/log/log.ts'
import {
  copy,
  isDiskError,
  makeRoom,
  openIfThere,
  PART_SUFFIX,
  READ_BYTES,
  SUFFIX,
  sha256Of,
} from './cache-files.ts'
import { FillingFile } from './filling-file.ts'
import { VerifiedFiles } from './verified-files.ts'

/** An APK whose bytes are in the database. */
export interface StoredApk {
  readonly buildId: string
  /** 32 bytes. */
  readonly sha256: Buffer
  readonly sizeBytes: number
}

/** Both ends inclusive; read as the consumer pulls. A chunk is valid only until the next one is requested. */
export type ReadApk = (
  apk: StoredApk,
  firstByte: number,
  lastByte: number,
) => AsyncIterable<Uint8Array>

export interface ApkCacheOptions {
  /** Absolute path; created if missing. */
  readonly dir: string
  /** APK_CACHE_BYTES, for all files together. */
  readonly maxBytes: number
  /** Reads the database. */
  readonly readStored: ReadApk
  readonly log: (line: Line) => void
  /** Epoch milliseconds. */
  readonly nowMs: () => number
}

/** A file that one download fills or checks for all. */
interface Preparation {
  readonly filling: FillingFile
  /** Exists only during a fill, not during a check. */
  readonly partPath: string
}

/** An open file, which its holder closes; `filling` while it still grows. */
interface Source {
  readonly file: FileHandle
  readonly filling?: FillingFile
}

const DISK_PAUSE_MS = 60_000
/** Each reads the database and holds a chunk. Further downloads read the database themselves. */
const MAX_FILLS = 4

export interface ApkCache {
  /** Reads through the cache. */
  readonly readApk: ReadApk
  /** Moves the file at `path`, with these bytes, into the cache. Reports a failure; a download then reads the database. */
  adopt(apk: StoredApk, path: string): Promise<void>
}

export function createApkCache(options: ApkCacheOptions): ApkCache {
  const { dir, maxBytes, readStored, nowMs } = options
  const verified = new VerifiedFiles(nowMs)
  const preparations = new Map<string, Preparation>()
  const fills = createSemaphore(MAX_FILLS)
  let diskPausedUntilMs = 0

  async function* read(apk: StoredApk, firstByte: number, lastByte: number) {
    let at = firstByte
    try {
      for await (const bytes of readCached(apk, firstByte, lastByte)) {
        yield bytes
        at += bytes.length
      }
    } catch (error) {
      if (isDiskError(error)) pauseDiskUse(apk, error)
      else if (!(error instanceof AppError)) throw error
    }
    if (at <= lastByte) yield* readStored(apk, at, lastByte)
  }

  /** Ends early if the file is missing or incomplete. */
  async function* readCached(apk: StoredApk, firstByte: number, lastByte: number) {
    const source = await find(apk, firstByte)
    if (source === undefined) return
    const { file, filling } = source
    try {
      const buffer = Buffer.allocUnsafeSlow(Math.min(READ_BYTES, lastByte - firstByte + 1))
      for (let at = firstByte; at <= lastByte; ) {
        const end = Math.min(
          lastByte + 1,
          filling ? await filling.waitForMoreThan(at) : apk.sizeBytes,
        )
        const { bytesRead } = await file.read(buffer, 0, Math.min(buffer.length, end - at), at)
        if (bytesRead === 0) return // truncated meanwhile
        yield buffer.subarray(0, bytesRead)
        at += bytesRead
      }
    } finally {
      await file.close()
    }
  }

  async function find(apk: StoredApk, firstByte: number): Promise<Source | undefined> {
    if (!isUsed(apk)) return undefined
    const path = pathOf(apk)
    const known = await verified.open(path)
    if (known !== undefined) return { file: known }
    const { filling, partPath } = preparations.get(path) ?? prepare(path, apk)
    await filling.waitForMoreThan(firstByte)
    const file = (await openIfThere(partPath)) ?? (await verified.open(path))
    return file && { file, filling }
  }

  function prepare(path: string, apk: StoredApk): Preparation {
    const partPath = newPartPath(path)
    const preparation = { filling: new FillingFile(), partPath }
    preparations.set(path, preparation)
    void checkOrFill(path, apk, preparation)
    return preparation
  }

  /** Never rejects; followers get the error. */
  async function checkOrFill(path: string, apk: StoredApk, preparation: Preparation) {
    try {
      if (!(await check(path, apk))) await fill(path, apk, preparation)
      preparation.filling.grewTo(apk.sizeBytes)
    } catch (error) {
      if (isDiskError(error)) pauseDiskUse(apk, error)
      else if (!(error instanceof AppError)) report(apk, 'database', String(error), 'ERROR')
      preparation.filling.fail(error)
    } finally {
      preparations.delete(path)
    }
  }

  /** False if there is no file with these bytes (any more). */
  async function check(path: string, apk: StoredApk): Promise<boolean> {
    const file = await openIfThere(path)
    if (file === undefined) return false
    try {
      const stats = await file.stat({ bigint: true })
      if ((await sha256Of(file)).equals(apk.sha256)) {
        verified.add(path, stats)
        return true
      }
    } finally {
      await file.close()
    }
    await rm(path, { force: true })
    report(apk, 'corrupt', `${path} held other bytes`)
    return false
  }

  async function fill(path: string, apk: StoredApk, { filling, partPath }: Preparation) {
    const release = fills.tryAcquire()
    if (release === undefined) throw new AppError('overloaded', 'Too many APKs are being cached.')
    try {
      await mkdir(dir, { recursive: true, mode: 0o700 })
      const file = await open(partPath, 'wx', 0o600)
      try {
        // Reserves its space, visible to other processes too.
        await file.truncate(apk.sizeBytes)
        if (!(await hasRoom(await file.stat()))) {
          throw new AppError('overloaded', 'The APK cache has no room.')
        }
        const stored = readStored(apk, 0, apk.sizeBytes - 1)
        const sha256 = await copy(stored, file, (sizeBytes) => {
          if (sizeBytes < apk.sizeBytes) filling.grewTo(sizeBytes)
        })
        if (!sha256.equals(apk.sha256)) throw new Error('the stored bytes have another SHA-256')
        await file.datasync() // otherwise a power failure leaves what looks like corruption
        verified.add(path, await file.stat({ bigint: true }))
        await rename(partPath, path)
      } finally {
        await file.close()
        await rm(partPath, { force: true })
      }
    } finally {
      release()
    }
  }

  /** Not synced to disk: a file that a power failure damages is filled again. */
  async function adopt(apk: StoredApk, from: string): Promise<void> {
    if (!isUsed(apk)) return
    const path = pathOf(apk)
    const partPath = newPartPath(path)
    try {
      await mkdir(dir, { recursive: true, mode: 0o700 })
      await rename(from, partPath) // reserves its space
      if (!(await hasRoom(await stat(partPath)))) return
      verified.add(path, await stat(partPath, { bigint: true }))
      await rename(partPath, path)
    } catch (error) {
      report(apk, 'disk', String(error))
    } finally {
      await rm(partPath, { force: true }).catch(() => {}) // makeRoom removes it later
    }
  }

  function isUsed({ sizeBytes }: StoredApk): boolean {
    return nowMs() >= diskPausedUntilMs && sizeBytes <= maxBytes
  }

  function pathOf({ sha256 }: StoredApk): string {
    return join(dir, sha256.toString('hex') + SUFFIX)
  }

  /** For a file that exists already. */
  function hasRoom({ mtimeMs }: Pick<Stats, 'mtimeMs'>): Promise<boolean> {
    return makeRoom({ dir, maxBytes, usedAtMs: (path) => verified.usedAtMs(path), nowMs: mtimeMs })
  }

  /** Stops using the disk for a while and reports that once. */
  function pauseDiskUse(apk: StoredApk, error: Error): void {
    if (nowMs() < diskPausedUntilMs) return
    diskPausedUntilMs = nowMs() + DISK_PAUSE_MS
    report(apk, 'disk', error.message)
  }

  function report(
    { buildId }: StoredApk,
    reason: 'corrupt' | 'disk' | 'database',
    error: string,
    level: 'WARN' | 'ERROR' = 'WARN',
  ): void {
    options.log({ event: 'apk.cache.fail', fields: { build_id: buildId, reason, error }, level })
  }

  return { readApk: read, adopt }
}

function newPartPath(path: string): string {
  return `${path}.${randomUUID()}${PART_SUFFIX}`
}
