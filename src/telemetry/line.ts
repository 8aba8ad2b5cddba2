/** One log line: the common fields, then the event's own, in the order of spec and table. */
import {
  type Ending,
  EVENTS,
  type EventName,
  type Level,
  type Line,
  type LineContext,
} from './events.ts'
import { isPlain, jsonMilliseconds, jsonNumber, jsonString, jsonValue } from './json.ts'
import { createTimestamp } from './timestamp.ts'

/** UTF-16 units: the contract's number. */
const MAX_USER_AGENT = 256
/** UTF-16 units of any other string: a stack trace fits. */
const MAX_STRING = 8192
/** Its place in a line that would be longer than MAX_LINE with it. */
const SHORT_STRING = 256
/** UTF-16 units, at most 3 bytes each: every line stays below 64 KiB. */
const MAX_LINE = 20_000

/** The pieces of text in front of a value. */
interface Key {
  readonly key: string
  readonly keyQuote: string
  readonly keyNull: string
}

interface Field extends Key {
  readonly name: string
  readonly isMilliseconds: boolean
}

interface Template {
  readonly defaultLevel: Level
  /** The text between the timestamp and the value of request_id. */
  readonly prefixes: Readonly<Record<Level, string>>
  readonly fields: readonly Field[]
}

/** Builds the text of a line, newline included. */
export type LineBuilder = (
  line: Line,
  level: Level,
  context: LineContext,
  ending: Ending | undefined,
) => string

/** `now` answers epoch milliseconds. The builder never throws, whatever the fields hold. */
export function createLineBuilder(now: () => number): LineBuilder {
  const timestamp = createTimestamp()

  return (line, level, context, ending) => {
    const head = `{"ts":"${timestamp(now())}${TEMPLATES[line.event].prefixes[level]}`
    const text = head + rest(line, context, ending, MAX_STRING)
    return text.length <= MAX_LINE ? text : head + rest(line, context, ending, SHORT_STRING)
  }
}

/** The level of a line that names none. */
export function levelOf(line: Line): Level {
  return line.level ?? TEMPLATES[line.event].defaultLevel
}

function rest(
  line: Line,
  context: LineContext,
  ending: Ending | undefined,
  mostChars: number,
): string {
  let text = nullable(context.requestId, mostChars)
  text = member(text, ROUTE, context.route, mostChars)
  text = member(text, IP, context.ip, mostChars)
  text = member(text, USER_AGENT, context.userAgent, MAX_USER_AGENT)
  text = member(text, DEVICE_ID, context.deviceId, mostChars)
  text = member(text, ALIAS, context.alias, mostChars)
  text += endingText(ending)

  const values: Readonly<Record<string, unknown>> = line.fields
  for (const field of TEMPLATES[line.event].fields) {
    const value = values[field.name]
    if (typeof value === 'string' || value === null) text = member(text, field, value, mostChars)
    else if (typeof value !== 'number') text += field.key + jsonValue(value, mostChars)
    else text += field.key + (field.isMilliseconds ? jsonMilliseconds(value) : jsonNumber(value))
  }
  return `${text}}\n`
}

/** `text` and one more member; each concatenation saved here is a few percent of a line's cost. */
function member(text: string, key: Key, value: string | null, mostChars: number): string {
  if (typeof value !== 'string') return text + key.keyNull
  if (isPlain(value) && value.length <= mostChars) return `${text}${key.keyQuote}${value}"`
  return text + key.key + jsonString(value, mostChars)
}

function nullable(value: string | null, mostChars: number): string {
  return typeof value === 'string' ? jsonString(value, mostChars) : 'null'
}

function endingText(ending: Ending | undefined): string {
  if (ending === undefined) return ',"status_code":null,"latency_ms":null'
  return `,"status_code":${jsonNumber(ending.statusCode)},"latency_ms":${jsonMilliseconds(ending.latencyMs)}`
}

function keyOf(name: string): Key {
  return { key: `,"${name}":`, keyQuote: `,"${name}":"`, keyNull: `,"${name}":null` }
}

function template(event: EventName): Template {
  const shape = EVENTS[event]
  const prefix = (level: Level) => `","level":"${level}","event":"${event}","request_id":`
  return {
    defaultLevel: shape.levels[0],
    prefixes: {
      DEBUG: prefix('DEBUG'),
      INFO: prefix('INFO'),
      WARN: prefix('WARN'),
      ERROR: prefix('ERROR'),
    },
    fields: Object.entries(shape.fields).map(([name, kind]) => ({
      name,
      ...keyOf(name),
      isMilliseconds: kind === 'number',
    })),
  }
}

const ROUTE = keyOf('route')
const IP = keyOf('ip')
const USER_AGENT = keyOf('user_agent')
const DEVICE_ID = keyOf('device_id')
const ALIAS = keyOf('alias')

const TEMPLATES = Object.fromEntries(
  // Object.keys forgets what the keys are; EVENTS is a constant with exactly these.
  Object.keys(EVENTS).map((event) => [event, template(event as EventName)]),
) as Readonly<Record<EventName, Template>>
