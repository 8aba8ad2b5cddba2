/** Builders of lines, with a stopped clock. */
import { EVENTS, type EventName } from '../../src/telemetry/log/events.ts'
import { OPTIONAL_KINDS } from '../../src/telemetry/log/field-kinds.ts'
import { createLineBuilder, MAX_LINE_BYTES } from '../../src/telemetry/log/line.ts'
import type { Line } from '../../src/telemetry/log/log.ts'

export const NOW = Date.UTC(2026, 0, 31, 9, 15, 27, 42)
export const draft = Buffer.alloc(MAX_LINE_BYTES)

export function textBuilder(now: () => number) {
  const build = createLineBuilder(draft, now)
  return (...line: Parameters<typeof build>) => draft.toString('utf8', 0, build(...line))
}
export const build = textBuilder(() => NOW)

/** Hostile values have types that Line excludes; so do bugs. */
export const lineOf = (event: EventName, fields: Record<string, unknown>) =>
  ({ event, fields }) as Line
export const request = (reason: unknown) =>
  lineOf('http.request', { method: 'GET', reason, admin: null })

/** Its own fields; those that are left out where they have no value are not among them. */
export const alwaysThere = (event: EventName) =>
  Object.entries(EVENTS[event].fields).flatMap(([name, kind]) =>
    OPTIONAL_KINDS.has(kind) ? [] : [name],
  )

export function parsed(text: string): Record<string, unknown> {
  if (text.indexOf('\n') !== text.length - 1) throw new Error('not exactly one line')
  return JSON.parse(text)
}
