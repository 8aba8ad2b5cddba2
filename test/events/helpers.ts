/** Whole log lines, compared: every key in its order, every value. What a theme promises to compare, it must. */
import { isDeepStrictEqual } from 'node:util'
import type { Test } from 'tap'
import type { EVENTS, EventName } from '../../src/telemetry/log/events.ts'
import type { EventLevel } from '../../src/telemetry/log/log.ts'
import type { LogLine } from '../../testkit/log-book.ts'
import type { TestResponse } from '../helpers/client.ts'
import { COMMON_KEYS } from '../helpers/lines.ts'
import type { Enrolled, Running } from '../helpers/service.ts'

/** A value exactly, a pattern of a string, or what a value must be where nothing determines it. */
export type Value =
  | string
  | number
  | boolean
  | null
  | readonly string[]
  | RegExp
  | ((value: unknown) => boolean)

/** The common fields but `ts`, `level` and `event`. */
export interface Common {
  readonly request_id: Value
  readonly route: string | null
  readonly ip: string | null
  readonly user_agent: string | null
  readonly device_id: Value
  readonly alias: string | null
  readonly status_code: number | null
  readonly latency_ms: Value
}

/** The event's own fields, in the order of the line. */
type Own<E extends EventName> = {
  readonly [F in keyof (typeof EVENTS)[E]['fields']]?: Value
}

/** What Node's fetch sends. */
const USER_AGENT = 'node'

export const isDuration = (value: unknown) =>
  typeof value === 'number' && value >= 0 && Number.isFinite(value)
export const isCount = (value: unknown) => isDuration(value) && Number.isInteger(value)

/** Of background work that belongs to no request, device or command. */
export const BACKGROUND: Common = {
  request_id: null,
  route: null,
  ip: null,
  user_agent: null,
  device_id: null,
  alias: null,
  status_code: null,
  latency_ms: null,
}

/** Of background work for a command. */
export function about(requestId: string, alias: string, { deviceId }: Enrolled): Common {
  return { ...BACKGROUND, request_id: requestId, device_id: deviceId, alias }
}

/** Of a line inside a request; `device` where it is known by then. */
export function inside(requestId: string, route: string, device: Device = {}): Common {
  return { ...BACKGROUND, request_id: requestId, route, ip: '127.0.0.1', ...CLIENT, ...of(device) }
}

/** Of the line that ends a request. */
export function end(
  { requestId, status }: Pick<TestResponse, 'requestId' | 'status'>,
  route: string,
  device: Device = {},
): Common {
  return { ...inside(requestId, route, device), status_code: status, latency_ms: isDuration }
}

const CLIENT = { user_agent: USER_AGENT } as const

interface Device {
  readonly deviceId?: string
  readonly alias?: string
}

const of = ({ deviceId, alias }: Device) => ({ device_id: deviceId ?? null, alias: alias ?? null })

/**
 * What a test file compares. One file has each event of the vocabulary. A variant is a level, or a level and the line's
 * `result`, `reason` or `error`.
 */
export type Variants = Readonly<Partial<Record<EventName, readonly string[]>>>

/** The comparison of a file's lines; the file fails unless it compares every variant that it promises. */
export function theme(t: Test, promised: Variants) {
  const left = new Set(
    Object.entries(promised).flatMap(([event, all]) => all.map((one) => `${event} ${one}`)),
  )
  t.teardown(() => {
    if (left.size > 0) throw new Error(`never compared: ${[...left].join(', ')}`)
  })

  /** One line as a whole. */
  function compare<E extends EventName>(
    t: Test,
    line: LogLine,
    event: E,
    level: EventLevel<E>,
    common: Common,
    own: Own<E>,
  ): void {
    const expected: Readonly<Record<string, Value>> = {
      ts: isTimestamp,
      level,
      event,
      ...common,
      ...own,
    }
    const title = `${event} ${level} ${variantOf(line) ?? ''}`
    t.same(Object.keys(line), [...COMMON_KEYS, ...Object.keys(own)], `${title}: keys in order`)
    const settled = Object.fromEntries(
      Object.entries(expected).map(([key, value]) => [key, settle(line[key], value)]),
    )
    t.strictSame(line, settled, title)
    left.delete(`${event} ${level}`)
    left.delete(`${event} ${level} ${variantOf(line)}`)
  }

  /** The one line of this event that a request or command has written, as a whole. */
  async function compareOnly<E extends EventName>(
    t: Test,
    { lines }: Pick<Running, 'lines'>,
    event: E,
    level: EventLevel<E>,
    common: Common,
    own: Own<E>,
  ): Promise<void> {
    const isIt = (line: LogLine) =>
      line.event === event && settle(line['request_id'], common.request_id) === line['request_id']
    compare(t, await lines.waitFor(isIt, event), event, level, common, own)
    t.equal(lines.all.filter(isIt).length, 1, `one ${event}`)
  }

  return { compare, compareOnly }
}

/** All lines of a request that has ended. */
export async function story(service: Running, requestId: string): Promise<readonly LogLine[]> {
  await service.lines.terminalOf(requestId)
  const fence = await service.call('GET', '/v1/nowhere')
  await service.lines.terminalOf(fence.requestId)
  return service.lines.all.filter(
    (line) => line['request_id'] === requestId || line['http_request_id'] === requestId,
  )
}

function isTimestamp(value: unknown): boolean {
  const text = String(value)
  return /^\d{4}-.{18}Z$/.test(text) && new Date(text).toISOString() === text
}

/** The actual value where it is as expected, else what was expected. */
function settle(actual: unknown, expected: Value): unknown {
  if (typeof expected === 'function') return expected(actual) ? actual : expected.toString()
  if (expected instanceof RegExp) return expected.test(String(actual)) ? actual : `${expected}`
  return isDeepStrictEqual(actual, expected) ? actual : expected
}

function variantOf(line: LogLine): unknown {
  return line['result'] ?? line['reason'] ?? line['error'] ?? undefined
}
