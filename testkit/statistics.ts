/** Statistics of benches and drills. */

/** Mean of the two middle figures if their number is even; NaN of none. */
export function median(figures: readonly number[]): number {
  const sorted = [...figures].sort((a, b) => a - b)
  const middle = sorted.length / 2
  const [low, high] = [sorted[Math.ceil(middle) - 1], sorted[Math.floor(middle)]]
  return ((low ?? Number.NaN) + (high ?? Number.NaN)) / 2
}

/** The least figure that a share of `q`, 0 to 1, does not exceed; NaN of none. */
export function quantile(figures: readonly number[], q: number): number {
  const sorted = [...figures].sort((a, b) => a - b)
  return sorted[Math.ceil(q * sorted.length) - 1] ?? Number.NaN
}
