/** Latencies of interleaved windows, and what their ratio is worth on this machine. */
import { median } from './statistics.ts'

export interface Comparison {
  readonly base: number
  readonly other: number
  /** other / base, both medians. */
  readonly ratio: number
  /** What the ratio of two medians is worth here: how far one half of the base windows is from the other half. */
  readonly noise: number
}

/** Of interleaved windows: `base` and `other` as they came. */
export function compare(base: readonly number[], other: readonly number[]): Comparison {
  const half = (odd: number) => median(base.filter((_, index) => index % 2 === odd))
  const [baseMedian, otherMedian] = [median(base), median(other)]
  return {
    base: baseMedian,
    other: otherMedian,
    ratio: otherMedian / baseMedian,
    noise: Math.abs(half(0) - half(1)) / baseMedian,
  }
}
