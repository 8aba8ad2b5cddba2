/** Words that phones send: `ok`, `OK` and `Ok` are one. */

/** The word of the list in any case of ASCII letters; undefined for anything else, so that no caller takes it for one. */
export function readWord<T extends string>(value: unknown, words: readonly T[]): T | undefined {
  // Without the pattern a letter that only lower-cases to ASCII would count, such as the Kelvin sign.
  if (typeof value !== 'string' || !/^[a-z_]+$/i.test(value)) return undefined
  const lower = value.toLowerCase()
  return words.find((word) => word === lower)
}
