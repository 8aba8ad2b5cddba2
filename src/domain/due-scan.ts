/**
 * Where to look for rows whose time has come, so that no look walks again over what came before. An index on that time
 * keeps an entry for each row that was due and no longer is until vacuum may remove it; under a snapshot that is held (a
 * running pg_dump) that is never, and each look from the beginning would read them all.
 *
 * Two ways, one look each in turn:
 *   front  from where its last look ended to now; after a full look, from the last row found. It goes back a little
 *          (NEAR_MS, each FAR_EVERY_MS `farMs`) for rows whose transaction committed late
 *   past   all that is due, for what the front cannot see: a clock that was set, a transaction that took longer, a row
 *          that was locked when the front passed. From now back to the beginning, then anew. Where nothing is in the way,
 *          that is one look, as often as FAR_EVERY_MS; it takes `pastShare` of the time at most, so it comes more rarely
 *          the longer it takes, and is cut into slices where it takes too long for a statement
 *
 * Times of rows are the database's: a look names them by their age, or by the row. `nowMs` is monotonic.
 */

/** A row's place in the index, exactly as the database gave it. */
export interface DueKey {
  readonly at: string
  readonly id: string
}

/** Rows behind `after`, else of at most `fromAgeMs` (null: of any age); all of them at least `toAgeMs` old. */
export interface ScanStep {
  readonly way: 'front' | 'past'
  readonly after: DueKey | null
  readonly fromAgeMs: number | null
  readonly toAgeMs: number
  readonly startedAtMs: number
}

/** `isFull`: as many as there may be in one look. `last`: the last of them in the order of the index. */
export interface Found {
  readonly isFull: boolean
  readonly last: DueKey | undefined
}

const NEAR_MS = 100
const FAR_EVERY_MS = 400
const LONGEST_PAUSE_MS = 300_000
/** A slice is made longer or shorter for the next to take about so long, FACTOR at once. */
const SLICE_TARGET_MS = 50
const FACTOR = 8
const MIN_SLICE_MS = 60_000
/** Whatever busy minutes make of the target, a round gets to its end. */
const MIN_GROWTH = 2
/** A command lives for a week: a slice that reaches so far back goes to the beginning. */
const OLDEST_MS = 8 * 86_400_000
/** The database's time of a statement is later than ours by the wait for a connection: slices overlap by more. */
const OVERLAP_MS = 5_000

export interface DueScanOptions {
  /** As a rule no transaction that makes a row due takes longer. */
  readonly farMs: number
  readonly pastShare: number
}

export class DueScan {
  readonly #options: DueScanOptions
  /** The front has seen all that was due then. */
  #frontAtMs: number | undefined
  #farAtMs = Number.NEGATIVE_INFINITY
  #frontAfter: DueKey | null = null
  /** Newest end of the next slice; null: it begins a round. */
  #pastToMs: number | null = null
  #pastAfter: DueKey | null = null
  #pastDueAtMs = Number.NEGATIVE_INFINITY
  /** At the start, and where the front left something behind, the past is looked through at once. */
  #isPastUnknown = true
  #sliceMs = OLDEST_MS
  /** What a round begins with, as the one before found out. */
  #firstSliceMs = OLDEST_MS
  #isFrontNext = false

  constructor(options: DueScanOptions) {
    this.#options = options
  }

  /** A further look now may find more. */
  get hasMore(): boolean {
    return this.#isFrontNext || this.#frontAfter !== null || this.#pastAfter !== null
  }

  next(nowMs: number): ScanStep {
    const isPast = !this.#isFrontNext && nowMs >= this.#pastDueAtMs
    return isPast ? this.#nextPast(nowMs) : this.#nextFront(nowMs)
  }

  found(step: ScanStep, { isFull, last }: Found, nowMs: number): void {
    const after = isFull ? (last ?? null) : null
    this.#isFrontNext = step.way === 'past'
    if (step.way === 'front') {
      this.#frontAfter = after
      if (after === null) this.#frontAtMs = step.startedAtMs
      return
    }
    this.#pastAfter = after
    if (after !== null) return
    const tookMs = nowMs - step.startedAtMs
    const pauseMs = this.#isPastUnknown ? 0 : tookMs / this.#options.pastShare
    this.#pastDueAtMs = nowMs + clamp(pauseMs, FAR_EVERY_MS, LONGEST_PAUSE_MS)
    // The last look at a slice with many rows says nothing of what all of it costs.
    const factor =
      step.after === null ? clamp(SLICE_TARGET_MS / Math.max(tookMs, 1), 1 / FACTOR, FACTOR) : 1
    this.#endSlice(step, factor)
  }

  /** True: nobody need be told, a smaller look follows. */
  failed(step: ScanStep, isTooSlow: boolean, nowMs: number): boolean {
    this.#isFrontNext = step.way === 'past'
    if (!isTooSlow) return false
    this.#pastAfter = null
    this.#pastDueAtMs = nowMs + FAR_EVERY_MS
    if (step.way === 'front') {
      // What it leaves behind is the past's.
      this.#frontAfter = null
      this.#frontAtMs = step.startedAtMs
      this.#pastToMs = null
      this.#isPastUnknown = true
      return false
    }
    const isSmallest = this.#sliceMs <= MIN_SLICE_MS
    if (isSmallest) this.#endSlice(step, 1)
    else this.#cutSlice()
    return !isSmallest
  }

  #nextFront(nowMs: number): ScanStep {
    const isFar = nowMs - this.#farAtMs >= FAR_EVERY_MS
    const after = this.#frontAfter
    if (isFar && after === null) this.#farAtMs = nowMs
    const backMs = isFar ? Math.max(this.#options.farMs, NEAR_MS) : NEAR_MS
    this.#frontAtMs ??= nowMs
    const fromAgeMs = nowMs - this.#frontAtMs + backMs
    return { way: 'front', after, fromAgeMs, toAgeMs: 0, startedAtMs: nowMs }
  }

  #nextPast(nowMs: number): ScanStep {
    if (this.#pastToMs === null) {
      this.#pastToMs = nowMs
      this.#sliceMs = this.#firstSliceMs
    }
    const toAgeMs = nowMs - this.#pastToMs
    const endAgeMs = toAgeMs + this.#sliceMs
    const fromAgeMs = endAgeMs >= OLDEST_MS ? null : endAgeMs + OVERLAP_MS
    return { way: 'past', after: this.#pastAfter, fromAgeMs, toAgeMs, startedAtMs: nowMs }
  }

  #endSlice({ startedAtMs, toAgeMs, fromAgeMs }: ScanStep, factor: number): void {
    if (toAgeMs === 0) this.#firstSliceMs = slice(this.#sliceMs * factor)
    this.#pastToMs = fromAgeMs === null ? null : startedAtMs - toAgeMs - this.#sliceMs
    if (fromAgeMs === null) this.#isPastUnknown = false
    this.#sliceMs = slice(this.#sliceMs * Math.max(factor, MIN_GROWTH))
  }

  #cutSlice(): void {
    this.#sliceMs = slice(this.#sliceMs / FACTOR)
    this.#firstSliceMs = Math.min(this.#firstSliceMs, this.#sliceMs)
  }
}

function slice(ms: number): number {
  return clamp(ms, MIN_SLICE_MS, OLDEST_MS)
}

function clamp(value: number, least: number, most: number): number {
  return Math.min(most, Math.max(least, value))
}
