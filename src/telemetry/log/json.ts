/**
 * Formats the values of a log line as JSON. Any input gives valid JSON on one line; nothing here throws. The text is ASCII,
 * other characters become \uXXXX: its length is its size in bytes, and no terminal acts on it.
 */

/** Characters outside of printable ASCII that JSON.stringify does not escape. */
const ESCAPED_TOO = /[\u007f-\uffff]/g

/** Items of an array that are written, each up to a quarter of a string's length. */
const MAX_ITEMS = 32

/** A quoted string of at most `most` UTF-16 units of `value`; lone surrogates become \udXXX escapes. */
export function jsonString(value: string, most: number): string {
  const cut = value.length > most ? cutAt(value, most) : value
  return escapeToo(JSON.stringify(cut))
}

/** The number's text; null for NaN and the infinities. */
export function jsonNumber(value: number): string {
  return Number.isFinite(value) ? `${value}` : 'null'
}

/** Any value. Values that JSON cannot express, cycles and a throwing toJSON give null; a bigint is written as a number. */
export function jsonValue(value: unknown, most: number): string {
  switch (typeof value) {
    case 'string':
      return jsonString(value, most)
    case 'number':
      return jsonNumber(value)
    case 'boolean':
    case 'bigint':
      return value.toString().slice(0, most)
    case 'object':
      return jsonObject(value, most)
    default:
      return 'null'
  }
}

function jsonObject(value: object | null, most: number): string {
  if (value === null) return 'null'
  try {
    if (!Array.isArray(value)) return jsonDeep(value, most)
    const items = value
      .slice(0, MAX_ITEMS)
      .map((item: unknown) =>
        typeof item === 'object' && item !== null
          ? jsonDeep(item, most >>> 2)
          : jsonValue(item, most >>> 2),
      )
    return `[${items.join(',')}]`
  } catch {
    return 'null'
  }
}

/** Throws if JSON.stringify does: on a cycle, or if a getter or toJSON throws. */
function jsonDeep(value: object, most: number): string {
  // undefined if toJSON returns it; lib.es5.d.ts does not know.
  const text: string | undefined = JSON.stringify(value, exactBigint)
  return text === undefined || text.length > 2 * most ? 'null' : escapeToo(text)
}

/** A bigint inside an object: a number if that is exact, otherwise a string. */
function exactBigint(_key: string, value: unknown): unknown {
  if (typeof value !== 'bigint') return value
  return BigInt(Number(value)) === value ? Number(value) : `${value}`
}

function cutAt(value: string, most: number): string {
  const last = value.charCodeAt(most - 1)
  const isHighSurrogate = last >= 0xd800 && last <= 0xdbff
  return value.slice(0, isHighSurrogate ? most - 1 : most)
}

function escapeToo(json: string): string {
  return json.replace(
    ESCAPED_TOO,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}
