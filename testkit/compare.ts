/** Compares latencies of interleaved windows, with the machine's noise. */
import { median } from './statistics.ts'

export interface Comparison {
  readonly base: number
  readonly other: number
  /** other / base, both medians. */
  readonly ratio: number
  /** Noise floor of the ratio: how far one half of the base windows is from the other half. */
  readonly noise: number
}

/** `base` and `other` in the order of measurement. */
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
