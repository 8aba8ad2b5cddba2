/**
 * The bounded buffer between the request path and stdout: finished lines as bytes, oldest first.
 *
 * A new line that does not fit is *dropped*; stored lines stay. `release` removes the oldest bytes once they are written; a
 * line is *written* with its last byte. At any time, for each level: lines appended = written + dropped + stored.
 *
 * Lines of callers who have proven no credential are *anonymous*. Whatever their level, they fill at most ANONYMOUS_SHARE of
 * the ring and never the reserve, so a flood of them leaves three quarters to other lines.
 */

import { type Level, type LevelCounts, RANK } from './levels.ts'
import type { Cause } from './log.ts'

/** The rank of a line that reports drops. It gets the room of INFO and is not counted. */
export const REPORT_RANK = 4

/** Most bytes of one write, and so the most that a forced exit can leave half-written. */
export const CHUNK_BYTES = 64 * 1024

/** Reserved for WARN and ERROR, half of it for ERROR alone; a quarter of a small ring. */
const RESERVE_BYTES = 256 * 1024

/** A quarter of 4 MiB holds 2,500 lines: 50 s of a flood of one code (50 lines a second) without a reader. */
const ANONYMOUS_SHARE = 0.25

/** Flag in a slot, above the bits of the rank. */
const ANONYMOUS_BIT = 8

/** There are slots for lines of this size; the common fields alone take 190 bytes. */
const SHORTEST_LINE_BYTES = 64

const OURS: Cause = { isAnonymous: false, suppressed: 0 }

/** What was dropped since the last report. */
export interface Drops {
  readonly dropped: number
  readonly byLevel: LevelCounts
  /** How many of them were anonymous. */
  readonly anonymous: number
  /** Sum of their `suppressed` counts. */
  readonly suppressed: number
}

export class RingBuffer {
  readonly capacityBytes: number
  /** Where the next line is written before `append`. */
  readonly draft: Buffer
  /** The ring, then the draft. */
  readonly #memory: Buffer
  /** Highest fill, in bytes, to which a line of each rank may raise the ring. */
  readonly #limits: readonly number[]
  readonly #anonymousLimitBytes: number
  /** One entry for each stored line, oldest first from #firstSlot: bytes << 4 | ANONYMOUS_BIT or 0 | rank. */
  readonly #slots: Uint32Array
  #firstSlot = 0
  #lines = 0
  #head = 0
  #tail = 0
  #fillBytes = 0
  /** Size of the stored anonymous lines; a partly written line counts whole. */
  #anonymousBytes = 0
  /** Bytes of the oldest line that are already written. */
  #goneBytes = 0
  #written = 0
  /** By rank. */
  readonly #dropped = [0, 0, 0, 0, 0]
  /** Dropped lines that no report has counted yet, by rank. */
  readonly #unreported = [0, 0, 0, 0]
  #unreportedTotal = 0
  #unreportedAnonymous = 0
  #unreportedSuppressed = 0
  #isClosed = false

  constructor(
    capacityBytes: number,
    draftBytes: number,
    reserveBytes = Math.min(RESERVE_BYTES, Math.floor(capacityBytes / 4)),
  ) {
    const open = capacityBytes - reserveBytes
    const forWarn = capacityBytes - Math.floor(reserveBytes / 2)
    this.capacityBytes = capacityBytes
    this.#limits = [open, open, forWarn, capacityBytes, open]
    this.#anonymousLimitBytes = Math.floor(capacityBytes * ANONYMOUS_SHARE)
    this.#memory = Buffer.allocUnsafeSlow(capacityBytes + draftBytes)
    this.draft = this.#memory.subarray(capacityBytes)
    this.#slots = new Uint32Array(Math.ceil(capacityBytes / SHORTEST_LINE_BYTES))
  }

  get fillBytes(): number {
    return this.#fillBytes
  }

  /** Without the lines that report drops. */
  get linesWritten(): number {
    return this.#written
  }

  get linesDropped(): LevelCounts {
    return byLevel(this.#dropped)
  }

  get isClosed(): boolean {
    return this.#isClosed
  }

  /** Stores the line in the first `bytes` of the draft, newline included; false if there is no room and it was dropped. */
  append(bytes: number, rank: number, cause: Cause = OURS): boolean {
    const { isAnonymous } = cause
    if (!this.#hasRoom(bytes, rank, isAnonymous)) {
      this.refuse(rank, cause)
      return false
    }
    // Ring and draft share one buffer, because only copyWithin copies without an allocation.
    const { capacityBytes } = this
    const untilEnd = Math.min(bytes, capacityBytes - this.#head)
    this.#memory.copyWithin(this.#head, capacityBytes, capacityBytes + untilEnd)
    if (untilEnd < bytes) {
      this.#memory.copyWithin(0, capacityBytes + untilEnd, capacityBytes + bytes)
    }

    const slot = this.#firstSlot + this.#lines
    this.#slots[slot < this.#slots.length ? slot : slot - this.#slots.length] =
      (bytes << 4) | (isAnonymous ? ANONYMOUS_BIT : 0) | rank
    if (isAnonymous) this.#anonymousBytes += bytes
    this.#lines++
    this.#fillBytes += bytes
    this.#head += bytes
    if (this.#head >= this.capacityBytes) this.#head -= this.capacityBytes
    return true
  }

  /** Counts a line as dropped. */
  refuse(rank: number, { isAnonymous, suppressed }: Cause = OURS): void {
    this.#dropped[rank] = (this.#dropped[rank] ?? 0) + 1
    if (rank === REPORT_RANK) return
    this.#unreported[rank] = (this.#unreported[rank] ?? 0) + 1
    this.#unreportedTotal++
    if (isAnonymous) this.#unreportedAnonymous++
    this.#unreportedSuppressed += suppressed
  }

  /**
   * The oldest bytes, at most CHUNK_BYTES: whole lines if at least one fits. Empty if nothing is stored. A view, not a copy:
   * valid until these bytes are released.
   */
  oldest(): Buffer {
    const most = Math.min(CHUNK_BYTES, this.#fillBytes, this.capacityBytes - this.#tail)
    let bytes = -this.#goneBytes
    for (let index = 0; index < this.#lines; index++) {
      const next = bytes + (this.#slotAt(index) >>> 4)
      if (next > most) break
      bytes = next
    }
    return this.#memory.subarray(this.#tail, this.#tail + (bytes > 0 ? bytes : most))
  }

  /** Removes the oldest `bytes`, which are written; at most as many as are stored. */
  release(bytes: number): void {
    this.#fillBytes -= bytes
    this.#tail = (this.#tail + bytes) % this.capacityBytes
    this.#goneBytes += bytes
    while (this.#lines > 0) {
      const slot = this.#slotAt(0)
      if (this.#goneBytes < slot >>> 4) break
      this.#goneBytes -= slot >>> 4
      if ((slot & 7) !== REPORT_RANK) this.#written++
      this.#removeOldest()
    }
    if (this.#fillBytes === 0) {
      // Start over: a ring that is emptied in time touches only its first pages.
      this.#head = 0
      this.#tail = 0
    }
  }

  /** Appends a line about the drops since the last report, which `report` drafts. Without room, nothing changes. */
  reportDrops(report: (drops: Drops) => number): void {
    if (this.#unreportedTotal === 0) return
    const bytes = report({
      dropped: this.#unreportedTotal,
      byLevel: byLevel(this.#unreported),
      anonymous: this.#unreportedAnonymous,
      suppressed: this.#unreportedSuppressed,
    })
    if (!this.append(bytes, REPORT_RANK)) return
    this.#unreported.fill(0)
    this.#unreportedTotal = 0
    this.#unreportedAnonymous = 0
    this.#unreportedSuppressed = 0
  }

  /** Final. All stored and later lines count as dropped; the memory is not written any more. */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    while (this.#lines > 0) {
      const slot = this.#slotAt(0)
      this.refuse(slot & 7, { isAnonymous: (slot & ANONYMOUS_BIT) !== 0, suppressed: 0 })
      this.#removeOldest()
    }
    this.#fillBytes = 0
  }

  #hasRoom(bytes: number, rank: number, isAnonymous: boolean): boolean {
    if (this.#isClosed || this.#lines === this.#slots.length) return false
    if (isAnonymous && this.#anonymousBytes + bytes > this.#anonymousLimitBytes) return false
    const limit = this.#limits[isAnonymous ? RANK.DEBUG : rank]
    return this.#fillBytes + bytes <= (limit ?? 0)
  }

  #slotAt(index: number): number {
    const slot = this.#firstSlot + index
    return this.#slots[slot < this.#slots.length ? slot : slot - this.#slots.length] ?? 0
  }

  #removeOldest(): void {
    const slot = this.#slotAt(0)
    if ((slot & ANONYMOUS_BIT) !== 0) this.#anonymousBytes -= slot >>> 4
    this.#lines--
    this.#firstSlot = this.#firstSlot + 1 === this.#slots.length ? 0 : this.#firstSlot + 1
  }
}

function byLevel(counts: readonly number[]): Record<Level, number> {
  return {
    DEBUG: counts[RANK.DEBUG] ?? 0,
    INFO: counts[RANK.INFO] ?? 0,
    WARN: counts[RANK.WARN] ?? 0,
    ERROR: counts[RANK.ERROR] ?? 0,
  }
}
