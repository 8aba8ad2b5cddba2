/** The figures of a drill beside what was promised, and the verdict. */
import { median } from '../bench/measure.ts'

export interface Figure {
  readonly promise: string
  readonly measured: string
  readonly isHeld: boolean
}

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

export function printFigures(figures: readonly Figure[], print: (line: string) => void): boolean {
  for (const { promise, measured, isHeld } of figures) {
    print(`${isHeld ? 'held  ' : 'MISSED'}  ${promise}\n        ${measured}`)
  }
  return figures.every(({ isHeld }) => isHeld)
}
