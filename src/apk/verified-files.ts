/** Files with a correct checksum. An entry is valid for an hour, and only while the file is unchanged. */
import type { BigIntStats } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { openIfThere } from './cache-files.ts'

const VERIFIED_FOR_MS = 60 * 60_000

/** Changes whenever the file is written to or replaced. */
interface VerifiedFile extends Pick<BigIntStats, 'ino' | 'size' | 'mtimeNs'> {
  readonly untilMs: number
  usedAtMs: number
}

export class VerifiedFiles {
  /** By path. An entry outlives its file: 200 bytes for each APK that this process served. */
  readonly #files = new Map<string, VerifiedFile>()
  readonly #nowMs: () => number

  /** `nowMs` is epoch time. */
  constructor(nowMs: () => number) {
    this.#nowMs = nowMs
  }

  /** `stats` from before the checksum was computed, so that a change during it shows. */
  add(path: string, { ino, size, mtimeNs }: BigIntStats): void {
    const usedAtMs = this.#nowMs()
    this.#files.set(path, { ino, size, mtimeNs, usedAtMs, untilMs: usedAtMs + VERIFIED_FOR_MS })
  }

  /** The caller closes it. undefined if there is no file or no valid entry. */
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

  /** When this process last opened it; undefined: never. */
  usedAtMs(path: string): number | undefined {
    return this.#files.get(path)?.usedAtMs
  }
}
