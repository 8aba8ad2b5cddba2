/**
 * Writes JSON as bytes into a buffer; a plain line allocates nothing. Building and encoding a string costs about half as
 * much again (docs/develop/measurements.md, F4).
 */
import { jsonNumber, jsonString, jsonValue } from './json.ts'

const QUOTE = 0x22
const BACKSLASH = 0x5c
const ZERO = 0x30
const POINT = 0x2e
const TEN_POWERS = [10, 100, 1_000, 10_000, 100_000, 1_000_000, 1e7, 1e8, 1e9] as const
const MAX_INT32 = 0x7fff_ffff
/** Below this, microseconds are exact enough in a double and fit an int32. */
const MAX_EXACT_MS = 2_000_000

export class JsonWriter {
  readonly #bytes: Uint8Array
  #at = 0

  /** Writes into `bytes`. Text that does not fit is lost; then `isCut` is true. */
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  /** Bytes written since `restart`. */
  get sizeBytes(): number {
    return this.#at
  }

  get isCut(): boolean {
    return this.#at > this.#bytes.length
  }

  restart(): void {
    this.#at = 0
  }

  /** Prepared JSON: keys, punctuation, constants. */
  raw(text: Uint8Array): void {
    const bytes = this.#bytes
    const at = this.#at
    const { length } = text
    for (let index = 0; index < length; index++) bytes[at + index] = text[index] ?? 0
    this.#at = at + length
  }

  /** A quoted string: at most `most` UTF-16 units of `value`. */
  string(value: string, most: number): void {
    const bytes = this.#bytes
    const { length } = value
    const at = this.#at + 1
    let index = length <= most ? 0 : -1
    for (; index >= 0 && index < length; index++) {
      const unit = value.charCodeAt(index)
      if (unit < 0x20 || unit > 0x7e || unit === QUOTE || unit === BACKSLASH) break
      bytes[at + index] = unit
    }
    if (index !== length) {
      this.#ascii(jsonString(value, most))
      return
    }
    bytes[at - 1] = QUOTE
    bytes[at + length] = QUOTE
    this.#at = at + length + 1
  }

  number(value: number): void {
    // Also -0, which is written as 0.
    if (value >= 0 && value <= MAX_INT32 && (value | 0) === value) this.#digits(value | 0)
    else this.#ascii(jsonNumber(value))
  }

  /** With 3 decimals. */
  milliseconds(ms: number): void {
    if (!(ms >= 0 && ms < MAX_EXACT_MS)) {
      this.#ascii(Number.isFinite(ms) ? ms.toFixed(3) : 'null')
      return
    }
    const microseconds = Math.round(ms * 1000)
    const whole = (microseconds / 1000) | 0
    const rest = microseconds - whole * 1000
    this.#digits(whole)
    const at = this.#at
    const bytes = this.#bytes
    bytes[at] = POINT
    bytes[at + 1] = ZERO + ((rest / 100) | 0)
    bytes[at + 2] = ZERO + (((rest / 10) | 0) % 10)
    bytes[at + 3] = ZERO + (rest % 10)
    this.#at = at + 4
  }

  /** Any value; null if JSON cannot express it. */
  value(value: unknown, most: number): void {
    this.#ascii(jsonValue(value, most))
  }

  #digits(value: number): void {
    let digits = 1
    while (digits < 10 && value >= (TEN_POWERS[digits - 1] ?? 0)) digits++
    let left = value
    for (let at = this.#at + digits - 1; at >= this.#at; at--) {
      const tenth = (left / 10) | 0
      this.#bytes[at] = ZERO + left - tenth * 10
      left = tenth
    }
    this.#at += digits
  }

  #ascii(text: string): void {
    for (let index = 0; index < text.length; index++) {
      this.#bytes[this.#at + index] = text.charCodeAt(index)
    }
    this.#at += text.length
  }
}
