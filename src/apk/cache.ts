/**
 * APKs on disk, so that a replica reads each from the database once, or never where it took the upload. A file is named by the SHA-256 of what it holds,
 * so it is never stale, and processes that share the directory agree.
 *
 * One file: absent → filling (by one; the others follow it as it grows, its last piece only once the sum is right) →
 * checked (verified-files.ts) → unchecked, as all are after a start → checking (the others wait) → checked, or corrupt:
 * removed, reported, filling. Where the disk fails, the database is read instead, for DISK_PAUSE_MS by all who come.
 *
 * Who writes to a file changes its time, so that is noticed at the next download. What changes only its bytes, a failing
 * disk, is noticed within the hour that a sum is believed: a sum at each download would cost more than all else it does.
 * For that hour, and for what comes straight from the database, whoever downloads has `x-apk-sha256`.
 */
import { randomUUID } from 'node:crypto'
import type { Stats } from 'node:fs'
import { type FileHandle, mkdir, open, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { AppError } from '../domain/errors.ts'
import { createSemaphore } from '../lib/slots.ts'
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

/** What is known of an APK whose bytes are stored. */
export interface StoredApk {
  readonly buildId: string
  /** 32 bytes. */
  readonly sha256: Buffer
  readonly sizeBytes: number
}

/** Both ends inclusive, read as the consumer pulls. A piece holds only until the next one is asked for. */
export type ReadApk = (
  apk: StoredApk,
  firstByte: number,
  lastByte: number,
) => AsyncIterable<Uint8Array>

export interface ApkCacheOptions {
  /** Absolute path; made where it is missing. */
  readonly dir: string
  /** APK_CACHE_BYTES: all files together. */
  readonly maxBytes: number
  /** From the database. */
  readonly readStored: ReadApk
  readonly log: (line: Line) => void
  /** Epoch. */
  readonly nowMs: () => number
}

/** A file that one fills or checks on behalf of all. */
interface Preparation {
  readonly filling: FillingFile
  /** Of a fill; there is none while a file is checked. */
  readonly partPath: string
}

/** An open file that whoever has it closes, and how much of it there is where it still grows. */
interface Source {
  readonly file: FileHandle
  readonly filling?: FillingFile
}

const DISK_PAUSE_MS = 60_000
/** Each reads the database and holds a piece; downloads beyond them read it themselves. */
const MAX_FILLS = 4

export interface ApkCache {
  /** Reads through the cache. */
  readonly readApk: ReadApk
  /**
   * Moves the file at `path`, which holds these bytes, into the cache. Where that fails it is reported, and the first
   * download reads the database.
   */
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

  /** Ends early where there is no file, or not all of it. */
  async function* readCached(apk: StoredApk, firstByte: number, lastByte: number) {
    const source = await find(apk, firstByte)
    if (source === undefined) return
    const { file, filling: growth } = source
    try {
      const buffer = Buffer.allocUnsafeSlow(Math.min(READ_BYTES, lastByte - firstByte + 1))
      for (let at = firstByte; at <= lastByte; ) {
        const end = Math.min(
          lastByte + 1,
          growth ? await growth.waitForMoreThan(at) : apk.sizeBytes,
        )
        const { bytesRead } = await file.read(buffer, 0, Math.min(buffer.length, end - at), at)
        if (bytesRead === 0) return // cut off under our hands
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
    const { filling: growth, partPath } = preparations.get(path) ?? prepare(path, apk)
    await growth.waitForMoreThan(firstByte)
    const file = (await openIfThere(partPath)) ?? (await verified.open(path))
    return file && { file, filling: growth }
  }

  function prepare(path: string, apk: StoredApk): Preparation {
    const partPath = newPartPath(path)
    const preparation = { filling: new FillingFile(), partPath }
    preparations.set(path, preparation)
    void checkOrFill(path, apk, preparation)
    return preparation
  }

  /** Never rejects: those who follow are told. */
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

  /** False where there is no file with these bytes (any more). */
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

  async function fill(path: string, apk: StoredApk, { filling: growth, partPath }: Preparation) {
    const release = fills.tryAcquire()
    if (release === undefined) throw new AppError('overloaded', 'Too many APKs are being cached.')
    try {
      await mkdir(dir, { recursive: true, mode: 0o700 })
      const file = await open(partPath, 'wx', 0o600)
      try {
        // Its room is taken from here on, also in the eyes of other processes.
        await file.truncate(apk.sizeBytes)
        if (!(await hasRoom(await file.stat()))) {
          throw new AppError('overloaded', 'The APK cache has no room.')
        }
        const stored = readStored(apk, 0, apk.sizeBytes - 1)
        const sha256 = await copy(stored, file, (sizeBytes) => {
          if (sizeBytes < apk.sizeBytes) growth.grewTo(sizeBytes)
        })
        if (!sha256.equals(apk.sha256)) throw new Error('the stored bytes have another SHA-256')
        await file.datasync() // else a power cut leaves what looks like corruption
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

  /** Not synced to the disk: what a power cut spoils is filled again. */
  async function adopt(apk: StoredApk, from: string): Promise<void> {
    if (!isUsed(apk)) return
    const path = pathOf(apk)
    const partPath = newPartPath(path)
    try {
      await mkdir(dir, { recursive: true, mode: 0o700 })
      await rename(from, partPath) // its room is taken from here on
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

  /** For a file that is there already. */
  function hasRoom({ mtimeMs }: Pick<Stats, 'mtimeMs'>): Promise<boolean> {
    return makeRoom({ dir, maxBytes, usedAtMs: (path) => verified.usedAtMs(path), nowMs: mtimeMs })
  }

  /** The disk fails: it is left alone for a while, and that is said once for all who met it. */
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
