/** The files of the APK cache: `<sha256>.apk`, and `<sha256>.apk.<random>.part` while it is filled. Several processes may share them. */
import { createHash } from 'node:crypto'
import { type FileHandle, open, readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'

/** Of one read from the disk: a download has one buffer of it. Measured: docs/develop/measurements.md, F8. */
export const READ_BYTES = 256 * 1024
export const SUFFIX = '.apk'
export const PART_SUFFIX = '.part'
/** A .part that nobody has written to for so long is a dead process's: a live one writes or gives up within seconds. */
const ABANDONED_MS = 60_000

export interface RoomOptions {
  readonly dir: string
  /** All files together. */
  readonly maxBytes: number
  /** When this process last used it, epoch milliseconds; undefined: never, so it counts from when it was filled. */
  readonly usedAtMs: (path: string) => number | undefined
  /** By the clock of the disk: when something was last written to the caller's own file. */
  readonly nowMs: number
}

/**
 * Removes what was used longest ago until the rest fits; false where it does not, since what is being filled is never
 * removed. A file that is being read lives on until its last reader closes it.
 */
export async function makeRoom({ dir, maxBytes, usedAtMs, nowMs }: RoomOptions): Promise<boolean> {
  const removable: { path: string; sizeBytes: number; usedAt: number }[] = []
  let sizeBytes = 0
  for (const name of await readdir(dir)) {
    if (!name.endsWith(SUFFIX) && !name.endsWith(PART_SUFFIX)) continue // not ours
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

/** undefined where there is none. */
export function openIfThere(path: string): Promise<FileHandle | undefined> {
  return unlessGone(open(path, 'r'))
}

/** SHA-256 of the whole file. */
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

/** Writes from where the file stands and sums up what was written. `onSize` is told how much there is so far. */
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

/** Of the disk, not of what was read from it. */
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
