/** A line of the log, and the interface of the log. */
import type { EVENTS, EventName } from './events.ts'
import type { EventShape, Kinds } from './field-kinds.ts'

/** The own fields of one event: all of them, each possibly null, and no other. */
export type EventFields<E extends EventName> = FieldsOf<(typeof EVENTS)[E]['fields']>

/** An event without fields takes no field at all: TypeScript would accept any object for `{}`. */
type FieldsOf<Fields extends EventShape['fields']> = keyof Fields extends never
  ? Readonly<Record<string, never>>
  : { readonly [F in keyof Fields]: Kinds[Fields[F]] | null }

export type EventLevel<E extends EventName> = (typeof EVENTS)[E]['levels'][number]

/** One line without its common fields: an event, its fields, and the level if it is not the event's first. */
export type Line = {
  [E in EventName]: {
    readonly event: E
    readonly fields: EventFields<E>
    readonly level?: EventLevel<E>
  }
}[EventName]

/** The common fields of a line: those of its request or command. */
export interface LineContext {
  readonly requestId: string | null
  /** The path template, `unmatched`, or null for background work. */
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

/** How the request ended; only on the line that ends it. */
export interface Ending {
  readonly statusCode: number
  readonly latencyMs: number
}

/** Who caused a line, and how many lines it counts. */
export interface Cause {
  /** The caller has proven no credential. Such lines never take the room of other lines (ring-buffer.ts). */
  readonly isAnonymous: boolean
  /** Lines of its kind suppressed before it. If above 0, it is the line's last field. */
  readonly suppressed: number
}

/** `write` only formats and appends to a bounded ring: it never blocks, throws or waits. */
export interface Log {
  /** Without `cause`: a line of the service itself or of a proven caller, which counts no others. */
  write(line: Line, context: LineContext, ending?: Ending, cause?: Cause): void
}

export interface RequestLog extends Log {
  /**
   * For lines that anyone can cause in any number. Calls `write` at most `mostPerS` times a second for each kind, at once
   * or up to a second later; `suppressed` counts the calls skipped before it (line-limit.ts).
   */
  writeLimited(kind: string, mostPerS: number, write: (suppressed: number) => void): void
}
