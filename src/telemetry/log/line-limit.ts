/**
 * Limits lines that anybody can cause in any number: of each kind, at most so many are written within any second. The
 * next line of the kind counts the others. If none follows, the newest of them is written as soon as the limit allows,
 * and counts those before it. So after a quiet second, or a flush, lines + suppressed = lines asked for.
 */

/** Writes one line, which stands for `suppressed` others of its kind. */
export type WriteLine = (suppressed: number) => void

const WINDOW_MS = 1000

interface Kind {
  /** When the last lines were written; a ring whose oldest entry is at `oldest`. */
  readonly writtenAtMs: Float64Array
  oldest: number
  /** Lines not written since the last one that was. */
  suppressed: number
  /** Writes the newest of them. */
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

  /** Calls `write` now, within a second, or never. A kind is kept for good, so there must be few; its `mostPerS` is fixed. */
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

  /** Writes at once what is held back. */
  flush(): void {
    for (const kind of this.#kinds.values()) this.#emitNewest(kind)
  }

  #wait(kind: Kind, atMs: number): void {
    kind.isTimed = true
    this.#later(() => {
      kind.isTimed = false
      if (kind.suppressed === 0) return // a line has come, and has the count
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
    // After it, since building a line with a stack can take tens of milliseconds, and its `ts` is taken meanwhile.
    kind.writtenAtMs[kind.oldest] = this.#nowMs()
    kind.oldest = (kind.oldest + 1) % kind.writtenAtMs.length
  }
}

/** When one more line may be written. */
function roomAtMs({ writtenAtMs, oldest }: Kind): number {
  return (writtenAtMs[oldest] ?? 0) + WINDOW_MS
}
