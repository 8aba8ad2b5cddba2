/** The criteria of one row, each with its evidence, and the one figure that they make together. */
import type { Figure } from '../drill.ts'

export interface Criterion {
  readonly bar: string
  readonly measured: string
  readonly isHeld: boolean
  /** A bound in time or memory, missed by so little that a busy machine may be the cause. */
  readonly isTimed?: boolean
}

/** A larger miss is not the machine's fault. */
export const GROSS = { stallMs: 10_000, grownMib: 128 } as const

/** `rest`: other observations, without a bound. */
export function figureOf(title: string, criteria: readonly Criterion[], rest = ''): Figure {
  const missed = criteria.filter(({ isHeld }) => !isHeld)
  return {
    promise: `${title}: ${criteria.map(({ bar }) => bar).join('; ')}`,
    measured: criteria
      .map(({ measured, isHeld }) => (isHeld ? measured : `MISSED: ${measured}`))
      .concat(rest === '' ? [] : [rest])
      .join('\n        '),
    isHeld: missed.length === 0,
    isTimed: missed.every(({ isTimed = false }) => isTimed),
  }
}

/** Formats counts as `answer 200 12, connected 100`. */
export function countsText(counts: Readonly<Record<string, number>>): string {
  const all = Object.entries(counts).map(([what, count]) => `${what} ${count}`)
  return all.join(', ') || 'nothing'
}
