/**
 * The vocabulary of the log: every event, its levels and its own fields in their order. The types,
 * the runtime order of keys and the table in docs/reference/events.md come from here; nothing else may be logged.
 */

export type Level = 'DEBUG' | 'INFO' | 'WARN' | 'ERROR'

interface Kinds {
  string: string
  integer: number
  /** A string that few lines have. */
  optional: string
  number: number
  boolean: boolean
  strings: readonly string[]
  object: Readonly<Record<string, unknown>>
}

type Kind = keyof Kinds

/** A field of these kinds is left out, not null, where it has no value. */
export const OPTIONAL_KINDS: ReadonlySet<string> = new Set<Kind>(['optional'])

interface EventShape {
  /** The level where the caller names none comes first; the others are allowed too. */
  readonly levels: readonly [Level, ...Level[]]
  readonly fields: Readonly<Record<string, Kind>>
}

const HEARTBEAT = {
  status: 'string',
  battery_pct: 'integer',
  network_type: 'string',
  uptime_s: 'integer',
  ignored: 'strings',
} as const
const REGISTER = { token_id: 'string', result: 'string' } as const
const DOWNLOAD = {
  build_id: 'string',
  version_code: 'integer',
  version_name: 'string',
  build_type: 'string',
  token_id: 'string',
  source: 'string',
  bytes_sent: 'integer',
} as const
/** Of a database call that failed. */
const FAILED_CALL = { statement: 'optional', cause: 'optional' } as const
const TOKEN_LIFE = { reason: 'string', token_id: 'string', admin: 'string' } as const
const DENIAL = { reason: 'string', token_id: 'string' } as const
const PARTITION = { partition: 'string', error: 'string' } as const
const PARTITIONS = { ...PARTITION, last: 'optional' } as const
const BUILD = {
  build_id: 'string',
  version_code: 'integer',
  version_name: 'string',
  build_type: 'string',
  admin: 'string',
  source: 'string',
} as const

export const EVENTS = {
  'register.request': { levels: ['INFO'], fields: REGISTER },
  'register.success': { levels: ['INFO'], fields: REGISTER },
  'register.fail': { levels: ['WARN'], fields: REGISTER },
  'heartbeat.ingest': { levels: ['INFO'], fields: HEARTBEAT },
  'heartbeat.dedup': { levels: ['INFO'], fields: HEARTBEAT },
  'dispatch.request': {
    levels: ['INFO'],
    fields: {
      action: 'string',
      fcm_http_code: 'integer',
      fcm_status: 'string',
      dispatch_latency_ms: 'number',
      admin: 'string',
      http_request_id: 'optional',
    },
  },
  'dispatch.sent': {
    levels: ['INFO'],
    fields: {
      action: 'string',
      fcm_http_code: 'integer',
      fcm_status: 'string',
      dispatch_latency_ms: 'number',
      attempt: 'integer',
    },
  },
  'dispatch.fail': {
    levels: ['WARN', 'ERROR'],
    fields: {
      action: 'string',
      fcm_http_code: 'integer',
      fcm_status: 'string',
      dispatch_latency_ms: 'number',
      attempt: 'integer',
      final: 'boolean',
      retry_in_ms: 'integer',
    },
  },
  'action_result.ingest': {
    levels: ['INFO'],
    fields: {
      action: 'string',
      outcome: 'string',
      duplicate: 'boolean',
      late: 'boolean',
      http_request_id: 'string',
    },
  },
  'apk.download': { levels: ['INFO'], fields: DOWNLOAD },
  'apk.download.fail': {
    levels: ['WARN', 'ERROR'],
    fields: { ...DOWNLOAD, reason: 'string', ...FAILED_CALL },
  },
  'metrics.scrape': { levels: ['INFO'], fields: { series: 'integer', bytes: 'integer' } },
  'sec.token.create': { levels: ['INFO'], fields: TOKEN_LIFE },
  'sec.token.consume': { levels: ['INFO'], fields: TOKEN_LIFE },
  'sec.token.revoke': { levels: ['INFO'], fields: TOKEN_LIFE },
  'sec.token.expired': { levels: ['WARN'], fields: DENIAL },
  'sec.token.ratelimit': { levels: ['WARN'], fields: DENIAL },
  'sec.hmac.invalid': { levels: ['WARN'], fields: DENIAL },
  'sec.https.enforced': { levels: ['WARN'], fields: DENIAL },
  'sec.auth.denied': { levels: ['WARN'], fields: DENIAL },
  'http.request': {
    levels: ['INFO', 'DEBUG', 'WARN'],
    fields: {
      method: 'string',
      reason: 'string',
      admin: 'string',
      http_request_id: 'optional',
    },
  },
  'http.error': {
    levels: ['ERROR'],
    fields: {
      method: 'string',
      error: 'string',
      stack: 'string',
      ...FAILED_CALL,
      http_request_id: 'optional',
    },
  },
  'service.start': {
    levels: ['INFO'],
    fields: { version: 'string', instance_id: 'string', database: 'string', config: 'object' },
  },
  'service.ready': { levels: ['INFO'], fields: { startup_ms: 'number' } },
  'service.stop': { levels: ['INFO'], fields: { reason: 'string', drained_ms: 'number' } },
  'db.unavailable': {
    levels: ['ERROR'],
    fields: { error: 'string', cause: 'string', statement: 'optional' },
  },
  'db.recovered': { levels: ['INFO'], fields: { down_ms: 'number' } },
  'db.sequence_advanced': {
    levels: ['WARN'],
    fields: { table: 'string', from: 'integer', to: 'integer' },
  },
  'db.statement.fail': {
    levels: ['ERROR'],
    fields: { task: 'string', error: 'string', cause: 'string', statement: 'optional' },
  },
  'db.rewound': {
    levels: ['ERROR'],
    fields: { reason: 'string', seen: 'string', found: 'string' },
  },
  'db.sync_standby_missing': {
    levels: ['WARN'],
    fields: { synchronous_standby_names: 'string' },
  },
  'db.sync_standby_attached': { levels: ['INFO'], fields: { missing_ms: 'number' } },
  'log.dropped': {
    levels: ['WARN'],
    fields: { dropped: 'integer', by_level: 'object', anonymous: 'integer' },
  },
  'push.paused': { levels: ['ERROR'], fields: { reason: 'string' } },
  'push.resumed': { levels: ['INFO'], fields: {} },
  'push.token_dead': { levels: ['WARN'], fields: { fcm_status: 'string' } },
  'command.expired': {
    levels: ['WARN'],
    fields: { action: 'string', admin: 'string', reason: 'string' },
  },
  'command.cancelled': {
    levels: ['INFO'],
    fields: { action: 'string', admin: 'string', reason: 'string' },
  },
  'partition.create': { levels: ['INFO'], fields: PARTITIONS },
  'partition.drop': { levels: ['INFO'], fields: PARTITIONS },
  'partition.fail': { levels: ['ERROR'], fields: PARTITION },
  'apk.publish': { levels: ['INFO'], fields: BUILD },
  'apk.withdraw': { levels: ['INFO'], fields: BUILD },
  'apk.cache.fail': {
    levels: ['WARN', 'ERROR'],
    fields: { build_id: 'string', reason: 'string', error: 'string' },
  },
  'device.delete': { levels: ['INFO'], fields: { admin: 'string' } },
  'device.unknown_to_database': { levels: ['ERROR'], fields: {} },
  'proxy.untrusted': { levels: ['WARN'], fields: {} },
} as const satisfies Record<string, EventShape>

export type EventName = keyof typeof EVENTS

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
