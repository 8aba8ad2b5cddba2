/** Durations for people. */

const UNITS = [
  ['d', 86_400],
  ['h', 3_600],
  ['min', 60],
] as const

/** `90 s`, `3 min`, `26 h`, `4 d`: rounded down, in the largest unit of which there are at least two. */
export function duration(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1_000))
  const [unit, size] = UNITS.find(([, size]) => seconds >= 2 * size) ?? ['s', 1]
  return `${Math.floor(seconds / size)} ${unit}`
}

/** `3 min ago`; `at` is a time from the API. */
export function ago(at: string, now: Date): string {
  return `${duration(now.getTime() - Date.parse(at))} ago`
}
