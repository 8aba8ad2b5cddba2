/** Counts values in fixed buckets; counts are cumulated when read. */

/** Inclusive upper bounds in milliseconds, ascending; +Inf follows. A contract: graphs and alerts name them. */
export const LATENCY_BUCKETS_MS = [1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000] as const

/** Inclusive upper bounds in milliseconds of the delay of pushes: 100 ms to 6 hours. A contract as well. */
export const PUSH_DELAY_BUCKETS_MS = [
  100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 900_000, 3_600_000, 21_600_000,
] as const

export class Histogram {
  readonly #bounds: Float64Array
  /** One for each bound, then one for +Inf; exact up to 2^53. */
  readonly #counts: Float64Array
  #sum = 0

  constructor(bounds: readonly number[]) {
    this.#bounds = Float64Array.from(bounds)
    this.#counts = new Float64Array(bounds.length + 1)
  }

  get sum(): number {
    return this.#sum
  }

  /** Allocates nothing. Counts anything but a finite positive number as 0: a bad clock must not spoil the sum. */
  observe(value: number): void {
    const bounds = this.#bounds
    const counted = value > 0 && value < Number.POSITIVE_INFINITY ? value : 0
    let bucket = 0
    while (bucket < bounds.length && counted > (bounds[bucket] ?? 0)) bucket++
    this.#counts[bucket] = (this.#counts[bucket] ?? 0) + 1
    this.#sum += counted
  }

  /** For each bound, then +Inf: the number of values up to it. The last is the number of all values. */
  cumulated(): readonly number[] {
    let total = 0
    return Array.from(this.#counts, (count) => {
      total += count
      return total
    })
  }
}
