/** Builds one log line: the common fields, then the event's own in the order of EVENTS. */
import { EVENTS, type EventName } from './events.ts'
import { OPTIONAL_KINDS } from './field-kinds.ts'
import { JsonWriter } from './json-writer.ts'
import type { Level } from './levels.ts'
import type { Cause, Ending, Line, LineContext } from './log.ts'
import { createTimestamp } from './timestamp.ts'

/** UTF-16 units. */
const MAX_USER_AGENT = 256
/** UTF-16 units of any other string: a stack trace fits. */
const MAX_STRING = 8192
/** Limit for every string of a line that would otherwise exceed MAX_LINE_BYTES. */
const SHORT_STRING = 256
/** A line fits into one chunk of the sink. */
export const MAX_LINE_BYTES = 60_000

interface Field {
  readonly name: string
  /** `,"name":` */
  readonly key: Uint8Array
  readonly keyNull: Uint8Array
  readonly isMilliseconds: boolean
  /** Left out, not null, if it has no value. */
  readonly isOptional: boolean
}

interface Template {
  readonly defaultLevel: Level
  /** The text between the timestamp and the value of request_id. */
  readonly prefixes: Readonly<Record<Level, Uint8Array>>
  readonly fields: readonly Field[]
}

/** Writes a line with its newline and returns its size in bytes. Throws only if a getter of the fields does. */
export type LineBuilder = (
  line: Line,
  level: Level,
  context: LineContext,
  ending: Ending | undefined,
  cause?: Cause,
) => number

/** Each line overwrites the start of `draft` (at least MAX_LINE_BYTES). `now` returns epoch milliseconds. */
export function createLineBuilder(draft: Uint8Array, now: () => number): LineBuilder {
  const timestamp = createTimestamp()
  const json = new JsonWriter(draft.subarray(0, MAX_LINE_BYTES))

  return (line, level, context, ending, cause) => {
    const { prefixes, fields } = TEMPLATES[line.event]
    const ts = timestamp(now())
    let mostChars = MAX_STRING
    do {
      json.restart()
      json.raw(TS)
      json.string(ts, MAX_STRING)
      json.raw(prefixes[level])
      writeContext(json, context, mostChars)
      writeEnding(json, ending)
      writeFields(json, fields, line.fields, mostChars)
      writeSuppressed(json, cause)
      json.raw(END)
      mostChars -= MAX_STRING - SHORT_STRING
    } while (json.isCut && mostChars === SHORT_STRING)
    return json.sizeBytes
  }
}

/** The level of a line that names none. */
export function levelOf(line: Line): Level {
  return line.level ?? TEMPLATES[line.event].defaultLevel
}

function writeContext(json: JsonWriter, context: LineContext, mostChars: number): void {
  writeText(json, REQUEST_ID, context.requestId, mostChars)
  writeText(json, ROUTE, context.route, mostChars)
  writeText(json, IP, context.ip, mostChars)
  writeText(json, USER_AGENT, context.userAgent, MAX_USER_AGENT)
  writeText(json, DEVICE_ID, context.deviceId, mostChars)
  writeText(json, ALIAS, context.alias, mostChars)
}

function writeEnding(json: JsonWriter, ending: Ending | undefined): void {
  if (ending === undefined) {
    json.raw(NO_ENDING)
    return
  }
  json.raw(STATUS_CODE.key)
  json.number(ending.statusCode)
  json.raw(LATENCY_MS.key)
  json.milliseconds(ending.latencyMs)
}

function writeFields(
  json: JsonWriter,
  fields: readonly Field[],
  values: Readonly<Record<string, unknown>>,
  mostChars: number,
): void {
  for (const field of fields) {
    const value = values[field.name]
    if (typeof value === 'string' || value === null || value === undefined) {
      if (!field.isOptional || typeof value === 'string') writeText(json, field, value, mostChars)
      continue
    }
    json.raw(field.key)
    if (typeof value !== 'number') json.value(value, mostChars)
    else if (field.isMilliseconds) json.milliseconds(value)
    else json.number(value)
  }
}

/** Left out, not null, if there is nothing to count. */
function writeSuppressed(json: JsonWriter, cause: Cause | undefined): void {
  if (cause === undefined || cause.suppressed === 0) return
  json.raw(SUPPRESSED.key)
  json.number(cause.suppressed)
}

function writeText(json: JsonWriter, field: Field, value: unknown, mostChars: number): void {
  if (typeof value !== 'string') {
    json.raw(field.keyNull)
    return
  }
  json.raw(field.key)
  json.string(value, mostChars)
}

function fieldOf(name: string, kind = 'string'): Field {
  return {
    name,
    key: Buffer.from(`,"${name}":`),
    keyNull: Buffer.from(`,"${name}":null`),
    isMilliseconds: kind === 'number',
    isOptional: OPTIONAL_KINDS.has(kind),
  }
}

function template(event: EventName): Template {
  const shape = EVENTS[event]
  const prefix = (level: Level) => Buffer.from(`,"level":"${level}","event":"${event}"`)
  return {
    defaultLevel: shape.levels[0],
    prefixes: {
      DEBUG: prefix('DEBUG'),
      INFO: prefix('INFO'),
      WARN: prefix('WARN'),
      ERROR: prefix('ERROR'),
    },
    fields: Object.entries(shape.fields).map(([name, kind]) => fieldOf(name, kind)),
  }
}

const TS = Buffer.from('{"ts":')
const END = Buffer.from('}\n')
const REQUEST_ID = fieldOf('request_id')
const ROUTE = fieldOf('route')
const IP = fieldOf('ip')
const USER_AGENT = fieldOf('user_agent')
const DEVICE_ID = fieldOf('device_id')
const ALIAS = fieldOf('alias')
const STATUS_CODE = fieldOf('status_code')
const LATENCY_MS = fieldOf('latency_ms')
const SUPPRESSED = fieldOf('suppressed')
const NO_ENDING = Buffer.concat([STATUS_CODE.keyNull, LATENCY_MS.keyNull])

const TEMPLATES = Object.fromEntries(
  // Object.keys returns string[]; EVENTS is a constant with exactly these keys.
  Object.keys(EVENTS).map((event) => [event, template(event as EventName)]),
) as Readonly<Record<EventName, Template>>
