/** Reads words that phones send in any case: `ok`, `OK`, `Ok`. */

/** The word of the list that `value` equals, ignoring the case of ASCII letters. */
export function readWord<T extends string>(value: unknown, words: readonly T[]): T | undefined {
  // The pattern keeps out letters that only lower-case to ASCII, such as the Kelvin sign.
  if (typeof value !== 'string' || !/^[a-z_]+$/i.test(value)) return undefined
  const lower = value.toLowerCase()
  return words.find((word) => word === lower)
}
