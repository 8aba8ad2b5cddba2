/** What a line of the log consists of, and the log that takes it. */
import type { EVENTS, EventName } from './events.ts'
import type { EventShape, Kinds } from './field-kinds.ts'

/** The own fields of one event: all of them, each possibly null, and no other. */
export type EventFields<E extends EventName> = FieldsOf<(typeof EVENTS)[E]['fields']>

/** Of an event without any, no field at all: TypeScript takes every object for a mere `{}`. */
type FieldsOf<Fields extends EventShape['fields']> = keyof Fields extends never
  ? Readonly<Record<string, never>>
  : { readonly [F in keyof Fields]: Kinds[Fields[F]] | null }

export type EventLevel<E extends EventName> = (typeof EVENTS)[E]['levels'][number]

/** What one line says besides its common fields: an event with its fields, and a level where it is not the first. */
export type Line = {
  [E in EventName]: {
    readonly event: E
    readonly fields: EventFields<E>
    readonly level?: EventLevel<E>
  }
}[EventName]

/** The common fields that a line takes from the request (or the command) it belongs to. */
export interface LineContext {
  readonly requestId: string | null
  /** The path template, `unmatched`, or null on background work. */
  readonly route: string | null
  readonly ip: string | null
  readonly userAgent: string | null
  readonly deviceId: string | null
  readonly alias: string | null
}

/** The context of background work that belongs to no request, device or command. */
export const BACKGROUND: LineContext = {
  requestId: null,
  route: null,
  ip: null,
  userAgent: null,
  deviceId: null,
  alias: null,
}

/** What the request ended with; only on terminal lines. */
export interface Ending {
  readonly statusCode: number
  readonly latencyMs: number
}

/** Who caused a line, and how many it stands for. */
export interface Cause {
  /** The caller has proven no credential: such lines never take the room of others (ring-buffer.ts). */
  readonly isAnonymous: boolean
  /** Lines of its kind that were left out before it. If above 0, it is the line's last field. */
  readonly suppressed: number
}

/** Where lines go. `write` only formats and appends to a bounded ring: it never blocks, throws or waits. */
export interface Log {
  /** Without `cause`: a line of our own or of a proven caller, which stands for itself only. */
  write(line: Line, context: LineContext, ending?: Ending, cause?: Cause): void
}

export interface RequestLog extends Log {
  /**
   * For lines that anybody can cause in any number. Calls `write` at most `mostPerS` times a second for each kind, at
   * once or up to a second later; `suppressed` counts the calls left out before it (line-limit.ts).
   */
  writeLimited(kind: string, mostPerS: number, write: (suppressed: number) => void): void
}
