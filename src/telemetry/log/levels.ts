/** The levels of the log, and counts by level. */

/** Ascending: the index is the rank. */
export const LEVELS = ['DEBUG', 'INFO', 'WARN', 'ERROR'] as const

export type Level = (typeof LEVELS)[number]

export const RANK = { DEBUG: 0, INFO: 1, WARN: 2, ERROR: 3 } as const satisfies Record<
  Level,
  number
>

/** Lines by level. */
export type LevelCounts = Readonly<Record<Level, number>>
