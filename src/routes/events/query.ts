/** What a reader of events asks for: from where on, which kinds, and in which form. */
import type { IncomingHttpHeaders } from 'node:http'
import { invalidField } from '../../domain/errors.ts'
import { EVENT_TYPES, type EventPosition, type EventType } from '../../domain/fleet-event.ts'
import { queryInt } from '../../http/fields.ts'
import { hint } from '../../http/known-names.ts'
import { decodeKey, encodeKey } from '../../http/page.ts'

export interface EventsQuery {
  /** `now`: from the newest event on. null: from the oldest that is kept. */
  readonly after: EventPosition | 'now' | null
  readonly types: readonly EventType[] | null
  readonly limit: number
  /** 0: responds at once. */
  readonly waitMs: number
}

/** Of the cursors. */
const LIST = 'events'
const LIMIT = { min: 1, max: 500 } as const
const DEFAULT_LIMIT = 100
const WAIT_MS = { min: 0, max: 30_000 } as const
/** event_id is a bigint that stays exact as a number: below 10 ** 15. */
const isEventId = (id: string) => /^\d{1,15}$/.test(id)

export function cursorOf({ at, id }: EventPosition): string {
  return encodeKey({ at, id: String(id) }, LIST)
}

/** `text/event-stream` is named in `Accept`, and not refused by a weight of 0; a wildcard means JSON. */
export function asksForStream({ accept = '' }: IncomingHttpHeaders): boolean {
  return accept.split(',').some((range) => {
    const [type, ...parameters] = range.split(';').map((part) => part.trim().toLowerCase())
    return (
      type === 'text/event-stream' && !parameters.some((each) => /^q=0(?:\.0{0,3})?$/.test(each))
    )
  })
}

export function readQuery(query: URLSearchParams): EventsQuery {
  const after = query.get('after')
  return {
    after: after === null || after === 'now' ? after : position(after, 'after'),
    types: readTypes(query.get('types')),
    limit: queryInt(query, 'limit', LIMIT, DEFAULT_LIMIT),
    waitMs: queryInt(query, 'wait_ms', WAIT_MS, 0),
  }
}

/** A stream that was cut off is resumed by `Last-Event-ID`, with the same `after` as before. */
export function readStreamQuery(query: URLSearchParams, headers: IncomingHttpHeaders): EventsQuery {
  for (const name of ['wait_ms', 'limit']) {
    if (query.has(name)) throw invalidField(name, 'is not for a stream, which has no end')
  }
  const asked = readQuery(query)
  const last = headers['last-event-id']
  if (typeof last !== 'string' || last === '') return asked
  return { ...asked, after: position(last, 'last-event-id') }
}

function position(cursor: string, field: string): EventPosition {
  const { at, id } = decodeKey(cursor, LIST, isEventId, field)
  return { at, id: Number(id) }
}

function readTypes(text: string | null): readonly EventType[] | null {
  if (text === null) return null
  return text.split(',').map((name) => {
    const type = EVENT_TYPES.find((known) => known === name)
    if (type !== undefined) return type
    const advice = hint(name, EVENT_TYPES)
    throw invalidField('types', `must be types of events, separated by commas. ${advice}`)
  })
}
