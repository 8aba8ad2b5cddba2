/** How often values fell into fixed buckets. Counts are stored per bucket and cumulated when read. */

/** Upper bounds, inclusive, milliseconds, ascending; +Inf follows. The contract's: spec/telemetry.md. */
export const LATENCY_BUCKETS_MS = [1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000] as const

export class Histogram {
  readonly #bounds: Float64Array
  /** One more than bounds: the last is +Inf. Doubles, exact up to 2^53. */
  readonly #counts: Float64Array
  #sum = 0

  constructor(bounds: readonly number[]) {
    this.#bounds = Float64Array.from(bounds)
    this.#counts = new Float64Array(bounds.length + 1)
  }

  get sum(): number {
    return this.#sum
  }

  /** Allocates nothing. What is no finite positive number counts as 0: one bad clock must not poison the sum. */
  observe(value: number): void {
    const bounds = this.#bounds
    const counted = value > 0 && value < Number.POSITIVE_INFINITY ? value : 0
    let bucket = 0
    while (bucket < bounds.length && counted > (bounds[bucket] ?? 0)) bucket++
    this.#counts[bucket] = (this.#counts[bucket] ?? 0) + 1
    this.#sum += counted
  }

  /** For each bound, then +Inf: observations not above it. The last is the count of all. */
  cumulated(): readonly number[] {
    let total = 0
    return Array.from(this.#counts, (count) => {
      total += count
      return total
    })
  }
}
