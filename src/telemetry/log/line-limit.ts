/**
 * Limits lines that anyone can cause in any number: at most `mostPerS` of each kind are written within any second. The next
 * line of the kind counts the suppressed ones. If none follows, the newest suppressed line is written as soon as the limit
 * allows and counts the others. So after a quiet second, or a flush, lines + suppressed = lines requested.
 */

/** Writes one line, which stands for `suppressed` others of its kind. */
export type WriteLine = (suppressed: number) => void

const WINDOW_MS = 1000

interface Kind {
  /** When the last lines were written: a ring buffer, its oldest entry at `oldest`. */
  readonly writtenAtMs: Float64Array
  oldest: number
  /** Lines suppressed since the last one was written. */
  suppressed: number
  /** Writes the newest suppressed line. */
  newest: WriteLine | undefined
  isTimed: boolean
}

export class LineLimit {
  readonly #nowMs: () => number
  readonly #later: (callback: () => void, delayMs: number) => void
  readonly #kinds = new Map<string, Kind>()

  /** `nowMs` is monotonic; `later` is setTimeout. */
  constructor(nowMs: () => number, later: (callback: () => void, delayMs: number) => void) {
    this.#nowMs = nowMs
    this.#later = later
  }

  /** Calls `write` now, within a second, or never. Kinds are never removed, so use few; `mostPerS` is fixed for each. */
  write(name: string, mostPerS: number, write: WriteLine): void {
    let kind = this.#kinds.get(name)
    if (kind === undefined) {
      const writtenAtMs = new Float64Array(mostPerS).fill(Number.NEGATIVE_INFINITY)
      kind = { writtenAtMs, oldest: 0, suppressed: 0, newest: undefined, isTimed: false }
      this.#kinds.set(name, kind)
    }
    const atMs = this.#nowMs()
    if (roomAtMs(kind) <= atMs) {
      this.#emit(kind, write, kind.suppressed)
      return
    }
    kind.suppressed++
    kind.newest = write
    if (!kind.isTimed) this.#wait(kind, atMs)
  }

  /** Writes the newest suppressed line of each kind at once. */
  flush(): void {
    for (const kind of this.#kinds.values()) this.#emitNewest(kind)
  }

  #wait(kind: Kind, atMs: number): void {
    kind.isTimed = true
    this.#later(() => {
      kind.isTimed = false
      if (kind.suppressed === 0) return // a newer line was written and has the count
      const nowMs = this.#nowMs()
      if (roomAtMs(kind) <= nowMs) this.#emitNewest(kind)
      else this.#wait(kind, nowMs)
    }, roomAtMs(kind) - atMs)
  }

  #emitNewest(kind: Kind): void {
    const { newest, suppressed } = kind
    if (newest !== undefined) this.#emit(kind, newest, suppressed - 1)
  }

  #emit(kind: Kind, write: WriteLine, suppressed: number): void {
    kind.suppressed = 0
    kind.newest = undefined
    write(suppressed)
    // Taken afterwards: building a line with a stack takes up to tens of milliseconds, and its `ts` is from that time.
    kind.writtenAtMs[kind.oldest] = this.#nowMs()
    kind.oldest = (kind.oldest + 1) % kind.writtenAtMs.length
  }
}

/** When one more line may be written. */
function roomAtMs({ writtenAtMs, oldest }: Kind): number {
  return (writtenAtMs[oldest] ?? 0) + WINDOW_MS
}
