/**
 * unknown → typed value. These strict readers refuse with 422 `invalid_field`; routes/devices/heartbeat-body.ts reads
 * heartbeats leniently.
 */
import type { IncomingHttpHeaders } from 'node:http'
import { AppError, invalidField } from '../domain/errors.ts'
import { isRequestId, isUuid, REQUEST_ID } from '../domain/ids.ts'
import { parseMicroseconds, type TimeRange } from '../domain/instants.ts'
import { LINES, unsafeCharacter } from '../lib/text.ts'

export type Fields = Readonly<Record<string, unknown>>

/** A JSON object, or 400 `bad_json`. */
export function asObject(body: unknown): Fields {
  if (!isObject(body)) {
    throw new AppError(
      'bad_json',
      'Send a JSON object as the body, with content-type: application/json.',
    )
  }
  return body
}

export function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** An own field, never one of the prototype; undefined if it is absent or null. */
export function field(body: Fields, name: string): unknown {
  return Object.hasOwn(body, name) ? (body[name] ?? undefined) : undefined
}

export function optionalString(
  body: Fields,
  name: string,
  maxLength: number,
  pattern?: RegExp,
): string | undefined {
  const value = textField(body, name, maxLength, '')
  if (value !== undefined && pattern?.test(value) === false) {
    throw invalidField(name, `must match ${pattern.source}`)
  }
  return value
}

/** Text that may have several lines. */
export function optionalText(body: Fields, name: string, maxLength: number): string | undefined {
  return textField(body, name, maxLength, LINES)
}

function textField(
  body: Fields,
  name: string,
  maxLength: number,
  allowed: string,
): string | undefined {
  const value = field(body, name)
  if (value === undefined) return undefined
  if (typeof value !== 'string') throw invalidField(name, 'must be a string')
  if (value.length > maxLength) throw invalidField(name, `must be at most ${maxLength} characters`)
  refuseUnsafe(name, value, allowed)
  return value
}

/** Throws for a control, direction or invisible character that is not in `allowed`. */
export function refuseUnsafe(name: string, text: string, allowed: string): void {
  const unsafe = unsafeCharacter(text, allowed)
  if (unsafe === undefined) return
  const kinds = 'control, direction and invisible characters are refused'
  throw invalidField(name, `holds ${unsafe}: ${kinds}`)
}

export function requiredString(
  body: Fields,
  name: string,
  maxLength: number,
  pattern?: RegExp,
): string {
  const value = optionalString(body, name, maxLength, pattern)
  if (value === undefined || value === '') throw invalidField(name, 'is required')
  return value
}

/** A whole number in [min, max]; `fallback` if absent. */
export function intField(
  body: Fields,
  name: string,
  range: { readonly min: number; readonly max: number },
  fallback: number,
): number {
  const value = field(body, name)
  if (value === undefined) return fallback
  if (typeof value !== 'number' || !Number.isSafeInteger(value)) {
    throw invalidField(name, 'must be a whole number')
  }
  if (value < range.min || value > range.max) {
    throw invalidField(name, `must be ${range.min} to ${range.max}`)
  }
  return value
}

/** undefined: absent. */
export function optionalInt(
  body: Fields,
  name: string,
  range: { readonly min: number; readonly max: number },
): number | undefined {
  return field(body, name) === undefined ? undefined : intField(body, name, range, range.min)
}

/** undefined: absent. */
export function booleanField(body: Fields, name: string): boolean | undefined {
  const value = field(body, name)
  if (value === undefined || typeof value === 'boolean') return value
  throw invalidField(name, 'must be true or false')
}

/** undefined: absent. */
export function idempotencyKey(headers: IncomingHttpHeaders): string | undefined {
  const key = headers['idempotency-key']
  if (key === undefined || (typeof key === 'string' && isRequestId(key))) return key
  throw invalidField('idempotency-key', `must match ${REQUEST_ID.source}`)
}

/** A whole number in the query; `fallback` if absent. */
export function queryInt(
  query: URLSearchParams,
  name: string,
  range: { readonly min: number; readonly max: number },
  fallback: number,
): number {
  const text = query.get(name)
  if (text === null) return fallback
  if (!/^\d{1,15}$/.test(text)) throw invalidField(name, 'must be a whole number')
  return intField({ [name]: Number(text) }, name, range, fallback)
}

export function queryString(
  query: URLSearchParams,
  name: string,
  maxLength: number,
  pattern?: RegExp,
): string | undefined {
  const text = query.get(name)
  return text === null ? undefined : optionalString({ [name]: text }, name, maxLength, pattern)
}

export function queryEnum<T extends string>(
  query: URLSearchParams,
  name: string,
  values: readonly T[],
): T | undefined {
  const text = query.get(name)
  if (text === null) return undefined
  const value = values.find((known) => known === text)
  if (value === undefined) throw invalidField(name, `must be one of ${values.join(', ')}`)
  return value
}

/** A UUID in the query. */
export function queryUuid(query: URLSearchParams, name: string): string | undefined {
  const text = query.get(name)
  if (text !== null && !isUuid(text)) throw invalidField(name, 'must be a UUID')
  return text ?? undefined
}

/** `since` and `until` of the query. Refuses an end before the beginning, which nothing can match. */
export function queryTimeRange(query: URLSearchParams): TimeRange {
  const [since, until] = ['since', 'until'].map((name) => asTime(name, query.get(name)))
  if (since && until && since > until) {
    throw new AppError('invalid_field', `since: ${since} is later than until: ${until}`, {
      errors: [
        { field: 'since', message: `is later than until, ${until}` },
        { field: 'until', message: `is earlier than since, ${since}` },
      ],
    })
  }
  return { since: since ?? null, until: until ?? null }
}

/** In UTC with microseconds. */
export function optionalTime(body: Fields, name: string): string | undefined {
  return asTime(name, field(body, name))
}

function asTime(name: string, value: unknown): string | undefined {
  const time = parseMicroseconds(value)
  if (value === undefined || value === null || time !== undefined) return time
  throw invalidField(name, 'must be a time such as 2026-01-31T09:15:00Z')
}
