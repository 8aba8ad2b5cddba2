/** Parses RFC 3339 times. `new Date` would turn 30 February into 1 or 2 March and '1' into 2001. */

const RFC_3339 =
  /^((?:19[7-9]|2\d\d)\d-\d{2}-\d{2})T(\d{2}):(\d{2}):(\d{2})(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})$/i

/** undefined unless `text` is a string with an RFC 3339 time with a zone, from 1970 to 2999. */
export function parseInstant(text: unknown): Date | undefined {
  if (typeof text !== 'string') return undefined
  const match = RFC_3339.exec(text)
  if (match === null) return undefined
  const [, day = '', hour, minute, second] = match
  const isClock = Number(hour) < 24 && Number(minute) < 60 && Number(second) < 60
  const midnight = new Date(`${day}T00:00:00Z`)
  const isDay = midnight.getUTCDate() === Number(day.slice(8))
  const instant = new Date(text.toUpperCase())
  return isClock && isDay && !Number.isNaN(instant.getTime()) ? instant : undefined
}

/**
 * The same time in UTC with microseconds, as timeText (db/list-page.ts) writes it: a Date has milliseconds only. Further
 * digits are cut off. Such texts sort as their times do.
 */
export function parseMicroseconds(text: unknown): string | undefined {
  const instant = parseInstant(text)
  if (instant === undefined) return undefined
  const [, fraction = ''] = /\.(\d+)/.exec(String(text)) ?? []
  return `${instant.toISOString().slice(0, 19)}.${fraction.slice(0, 6).padEnd(6, '0')}Z`
}

/** A stretch of time, in UTC with microseconds; null: no bound. */
export interface TimeRange {
  readonly since: string | null
  /** Before this time. */
  readonly until: string | null
}
