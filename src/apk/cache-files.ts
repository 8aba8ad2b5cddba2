/** The APK cache's files: `<sha256>.apk`, and `<sha256>.apk.<random>.part` while being filled. Processes may share them. */
import { createHash } from 'node:crypto'
import { type FileHandle, open, readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'

/** One read from the disk, and the buffer of one download. Measured: docs/develop/measurements.md, F8. */
export const READ_BYTES = 256 * 1024
export const SUFFIX = '.apk'
export const PART_SUFFIX = '.part'
/** A .part without a write for this long belongs to a dead process: a live one writes or gives up within seconds. */
const ABANDONED_MS = 60_000

export interface RoomOptions {
  readonly dir: string
  /** Of all files together. */
  readonly maxBytes: number
  /** When this process last used it, epoch milliseconds; undefined: the time of its filling counts. */
  readonly usedAtMs: (path: string) => number | undefined
  /** By the disk's clock: the last write to the caller's own file. */
  readonly nowMs: number
}

/**
 * Removes the least recently used files until the rest fits. Returns false if it does not: files being filled are
 * never removed. An open file lives on until its last reader closes it.
 */
export async function makeRoom({ dir, maxBytes, usedAtMs, nowMs }: RoomOptions): Promise<boolean> {
  const removable: { path: string; sizeBytes: number; usedAt: number }[] = []
  let sizeBytes = 0
  for (const name of await readdir(dir)) {
    if (!name.endsWith(SUFFIX) && !name.endsWith(PART_SUFFIX)) continue // not one of ours
    const path = join(dir, name)
    const found = await unlessGone(stat(path))
    if (found === undefined) continue
    if (name.endsWith(SUFFIX)) {
      const usedAt = usedAtMs(path) ?? found.mtimeMs
      removable.push({ path, sizeBytes: found.size, usedAt })
    } else if (nowMs - found.mtimeMs > ABANDONED_MS) {
      await rm(path, { force: true })
      continue
    }
    sizeBytes += found.size
  }
  for (const file of removable.sort((a, b) => a.usedAt - b.usedAt)) {
    if (sizeBytes <= maxBytes) break
    await rm(file.path, { force: true })
    sizeBytes -= file.sizeBytes
  }
  return sizeBytes <= maxBytes
}

/** undefined if there is no such file. */
export function openIfThere(path: string): Promise<FileHandle | undefined> {
  return unlessGone(open(path, 'r'))
}

export async function sha256Of(file: FileHandle): Promise<Buffer> {
  const hash = createHash('sha256')
  const buffer = Buffer.allocUnsafeSlow(READ_BYTES)
  for (let at = 0; ; ) {
    const { bytesRead } = await file.read(buffer, 0, buffer.length, at)
    if (bytesRead === 0) return hash.digest()
    hash.update(buffer.subarray(0, bytesRead))
    at += bytesRead
  }
}

/** Appends to the file and returns the SHA-256 of the written bytes. `onSize` receives the bytes written so far. */
export async function copy(
  source: AsyncIterable<Uint8Array>,
  file: FileHandle,
  onSize: (sizeBytes: number) => void,
): Promise<Buffer> {
  const hash = createHash('sha256')
  let sizeBytes = 0
  for await (const bytes of source) {
    hash.update(bytes)
    await file.appendFile(bytes)
    sizeBytes += bytes.length
    onSize(sizeBytes)
  }
  return hash.digest()
}

/** An error of the disk, not of the source being read. */
export function isDiskError(error: unknown): error is Error {
  return error instanceof Error && 'syscall' in error
}

async function unlessGone<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work
  } catch (error) {
    if (isDiskError(error) && 'code' in error && error.code === 'ENOENT') return undefined
    throw error
  }
}
