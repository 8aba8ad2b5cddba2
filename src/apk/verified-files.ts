/** Files whose sum was right, for as long as that is believed: an hour, and only while they stay the very files that were summed up. */
import type { BigIntStats } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { openIfThere } from './cache-files.ts'

const VERIFIED_FOR_MS = 60 * 60_000

/** What changes whenever anyone writes to the file or puts another in its place. */
interface VerifiedFile extends Pick<BigIntStats, 'ino' | 'size' | 'mtimeNs'> {
  readonly untilMs: number
  usedAtMs: number
}

export class VerifiedFiles {
  /** By path; an entry stays when its file is removed: 200 bytes for each APK that this process ever served. */
  readonly #files = new Map<string, VerifiedFile>()
  readonly #nowMs: () => number

  /** `nowMs`: epoch. */
  constructor(nowMs: () => number) {
    this.#nowMs = nowMs
  }

  /** `stats` as they were before the sum was made, so that what changes meanwhile shows. */
  add(path: string, { ino, size, mtimeNs }: BigIntStats): void {
    const usedAtMs = this.#nowMs()
    this.#files.set(path, { ino, size, mtimeNs, usedAtMs, untilMs: usedAtMs + VERIFIED_FOR_MS })
  }

  /** For the caller to close; undefined where there is none, or none that may be believed. */
  async open(path: string): Promise<FileHandle | undefined> {
    const known = this.#files.get(path)
    if (known === undefined || this.#nowMs() >= known.untilMs) return undefined
    const file = await openIfThere(path)
    if (file === undefined) return undefined
    const { ino, size, mtimeNs } = await file.stat({ bigint: true })
    if (ino === known.ino && size === known.size && mtimeNs === known.mtimeNs) {
      known.usedAtMs = this.#nowMs()
      return file
    }
    await file.close()
    return undefined
  }

  /** When this process opened it last; undefined: never. */
  usedAtMs(path: string): number | undefined {
    return this.#files.get(path)?.usedAtMs
  }
}
