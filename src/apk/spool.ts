/**
 * Holds an uploaded APK on disk until it is checked and stored: `<dir>/<random>.part`, hashed while it is written.
 * Either `work` moves it away or it is removed. A zip's directory is at its end, so only a whole file can be read.
 */
import { createHash, randomUUID } from 'node:crypto'
import { type FileHandle, mkdir, open, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import type { ApkSource } from '../domain/apk-source.ts'
import { AppError, apkRefused } from '../domain/errors.ts'
import { createSemaphore } from '../lib/semaphore.ts'
import { fileSource } from './package/source.ts'

export interface SpoolOptions {
  /** Absolute path; created if missing. */
  readonly dir: string
  /** Largest upload, inclusive. */
  readonly maxBytes: number
  /** Concurrent uploads. Times `maxBytes`, the most disk space that the spool takes. */
  readonly maxUploads: number
}

/** A complete upload, valid only during `work`. */
export interface SpooledFile {
  readonly sizeBytes: number
  /** 32 bytes. */
  readonly sha256: Buffer
  readonly source: ApkSource
  /** May be moved away. */
  readonly path: string
}

export interface Spool {
  /**
   * Writes the upload, then runs `work` on the whole file. `declaredBytes`: the content-length, or undefined. Throws
   * 413, 422 `apk_invalid` (empty), 503 (too many uploads), 507, or the upload's own error.
   *
   * Destroys an upload that it refuses half-way, does not start reading one that it refuses before, and leaves the
   * connection alone.
   */
  receive<T>(
    upload: Readable,
    declaredBytes: number | undefined,
    work: (file: SpooledFile) => Promise<T>,
  ): Promise<T>
}

const SUFFIX = '.part'
const NO_SPACE: ReadonlySet<unknown> = new Set(['ENOSPC', 'EDQUOT'])

/** Removes what a killed process left and returns the number of files. Harmless to uploads of other live processes. */
export async function cleanSpool(dir: string): Promise<number> {
  await mkdir(dir, { recursive: true, mode: 0o700 })
  const left = (await readdir(dir)).filter((name) => name.endsWith(SUFFIX))
  for (const name of left) await rm(join(dir, name), { force: true })
  return left.length
}

export function createSpool(options: SpoolOptions): Spool {
  const slots = createSemaphore(options.maxUploads)

  return {
    async receive(upload, declaredBytes, work) {
      if (declaredBytes !== undefined && declaredBytes > options.maxBytes) throw tooLarge(options)
      const release = slots.tryAcquire()
      if (release === undefined) {
        throw new AppError('overloaded', 'Too many uploads at once. Send it again shortly.', {
          retryAfterS: 10,
        })
      }
      const path = join(options.dir, `${randomUUID()}${SUFFIX}`)
      try {
        return await withFile(path, options.dir, async (file) => {
          const { sizeBytes, sha256 } = await write(upload, file, options)
          return await work({ sizeBytes, sha256, source: fileSource(file, sizeBytes), path })
        })
      } finally {
        release()
      }
    },
  }
}

async function withFile<T>(path: string, dir: string, work: (file: FileHandle) => Promise<T>) {
  const file = await withSpace(async () => {
    await mkdir(dir, { recursive: true, mode: 0o700 })
    return await open(path, 'wx+', 0o600)
  })
  try {
    return await work(file)
  } finally {
    // A failure here must not undo a publication. cleanSpool() finds the file later.
    await file.close().catch(() => {})
    await rm(path, { force: true }).catch(() => {})
  }
}

async function write(upload: Readable, file: FileHandle, options: SpoolOptions) {
  const hash = createHash('sha256')
  let sizeBytes = 0
  const chunks: AsyncIterable<Buffer> = upload
  for await (const chunk of chunks) {
    sizeBytes += chunk.length
    if (sizeBytes > options.maxBytes) throw tooLarge(options)
    hash.update(chunk)
    await withSpace(() => file.appendFile(chunk))
  }
  if (sizeBytes === 0) {
    throw apkRefused('apk_invalid', 'The body is empty. Send the APK itself: curl -T app.apk.')
  }
  return { sizeBytes, sha256: hash.digest() }
}

async function withSpace<T>(step: () => Promise<T>): Promise<T> {
  try {
    return await step()
  } catch (cause) {
    const isFull = cause instanceof Error && 'code' in cause && NO_SPACE.has(cause.code)
    if (!isFull) throw cause
    throw new AppError('insufficient_storage', 'The disk is full. Nothing was kept.', { cause })
  }
}

function tooLarge({ maxBytes }: SpoolOptions): AppError {
  return new AppError('body_too_large', `An APK may have at most ${maxBytes} bytes.`)
}
