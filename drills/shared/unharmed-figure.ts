/** The promise that trouble costs at most a tenth of latency, as interleaved windows show it. */
import type { Comparison } from '../../testkit/compare.ts'
import type { Figure } from '../drill.ts'

const MOST_RATIO = 1.1
/** With a higher noise floor the machine is too busy to measure. */
const MOST_NOISE = 0.15

/** `windows`: of each kind. */
export function unharmedFigure(
  latency: string,
  [calm, trouble]: readonly [string, string],
  { base, other, ratio, noise }: Comparison,
  windows: number,
): Figure {
  const ms = (value: number) => `${value.toFixed(2)} ms`
  return {
    promise: `${latency} with ${trouble} within 10 % + noise floor (of that, at most 15 %) of ${calm} (medians of ${windows} interleaved windows each)`,
    measured: `${ms(base)} ${calm}, ${ms(other)} with ${trouble}: ${((ratio - 1) * 100).toFixed(1)} %; noise floor ${(noise * 100).toFixed(1)} %`,
    isHeld: ratio <= MOST_RATIO + Math.min(noise, MOST_NOISE),
  }
}
