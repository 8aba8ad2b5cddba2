/**
 * Decides which part of an index on a due time to scan next, so that no scan repeats what earlier ones covered. The index
 * keeps an entry for each row that is no longer due until vacuum removes it. While a snapshot is held (a running pg_dump),
 * vacuum cannot, and a scan from the beginning would read all of them each time.
 *
 * Two scans alternate, one step each:
 *   front  from where its last step ended until now; after a full step, from the last row found. It goes back NEAR_MS, and
 *          every FAR_EVERY_MS `farMs`, for rows whose transaction committed late.
 *   past   everything that is due, for what the front misses: a clock that was set, a longer transaction, a row that was
 *          locked when the front passed. From now back to the beginning, then again. Usually that is one step every
 *          FAR_EVERY_MS. It takes at most `pastShare` of the time: the longer it takes, the rarer it is. If it takes too
 *          long for one statement, it is cut into slices.
 *
 * Rows carry the database's time, so a step names them by their age, or by a row. `nowMs` is monotonic.
 */

/** A row's position in the index, exactly as the database returned it. */
export interface DueKey {
  readonly at: string
  readonly id: string
}

/** Rows after `after`; if that is null, rows of at most `fromAgeMs` (null: any age). All are at least `toAgeMs` old. */
export interface ScanStep {
  readonly way: 'front' | 'past'
  readonly after: DueKey | null
  readonly fromAgeMs: number | null
  readonly toAgeMs: number
  readonly startedAtMs: number
}

/** `isFull`: the step returned as many rows as it may. `last` in the order of the index. */
export interface Found {
  readonly isFull: boolean
  readonly last: DueKey | undefined
}

const NEAR_MS = 100
const FAR_EVERY_MS = 400
const LONGEST_PAUSE_MS = 600_000
/** Slices are resized so that a step takes about this long, at most by FACTOR at once. */
const SLICE_TARGET_MS = 50
const FACTOR = 8
const MIN_SLICE_MS = 60_000
/** The next slice of a round grows at least by this, so that every round ends, even when steps are slow. */
const MIN_GROWTH = 2
/** A command lives for at most a week. A slice that reaches back this far includes everything older. */
const OLDEST_MS = 8 * 86_400_000
/** The database's time of a statement is later than ours by the wait for a connection; slices overlap by more than that. */
const OVERLAP_MS = 5_000

export interface DueScanOptions {
  /** Transactions that make a row due rarely take longer. */
  readonly farMs: number
  readonly pastShare: number
}

export class DueScan {
  readonly #options: DueScanOptions
  /** The front has seen everything that was due at that time. */
  #frontAtMs: number | undefined
  #farAtMs = Number.NEGATIVE_INFINITY
  #frontAfter: DueKey | null = null
  /** The newer end of the next slice; null: a new round begins. */
  #pastToMs: number | null = null
  #pastAfter: DueKey | null = null
  #pastDueAtMs = Number.NEGATIVE_INFINITY
  /** True at the start, and when the front left something behind: the past is then scanned without a pause. */
  #isPastUnknown = true
  #sliceMs = OLDEST_MS
  /** The first slice of a round, sized by the round before. */
  #firstSliceMs = OLDEST_MS
  #isFrontNext = false

  constructor(options: DueScanOptions) {
    this.#options = options
  }

  /** Another step right now may find more. */
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
    // Of a slice that took several steps, the last one does not show what the whole slice costs.
    const factor =
      step.after === null ? clamp(SLICE_TARGET_MS / Math.max(tookMs, 1), 1 / FACTOR, FACTOR) : 1
    this.#endSlice(step, factor)
  }

  /** Returns true if a smaller step will follow, so that the failure need not be reported. */
  failed(step: ScanStep, isTooSlow: boolean, nowMs: number): boolean {
    this.#isFrontNext = step.way === 'past'
    if (!isTooSlow) return false
    this.#pastAfter = null
    this.#pastDueAtMs = nowMs + FAR_EVERY_MS
    if (step.way === 'front') {
      // The past scan covers what the front leaves behind.
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
