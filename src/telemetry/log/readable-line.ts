/** Formats a JSON log line for people at a terminal. */

import type { Level } from './levels.ts'
import { createLineBuilder, type LineBuilder, MAX_LINE_BYTES } from './line.ts'

/** Left out, or shown at a fixed position. */
const PLACED: ReadonlySet<string> = new Set([
  ...['ts', 'level', 'event', 'status_code', 'latency_ms', 'method', 'route'],
  ...['alias', 'device_id', 'ip', 'user_agent', 'request_id', 'stack'],
])
const EVENT_WIDTH = 20
const LATENCY_WIDTH = 10
const STATUS_WIDTH = '200 '.length + LATENCY_WIDTH
/** Most characters of a list or an object; a longer one, such as the configuration, is not shown. */
const NESTED_WIDTH = 120
const LOOPBACK: ReadonlySet<unknown> = new Set(['127.0.0.1', '::1'])
/** Characters that act on a terminal or are invisible, except U+200C and U+200D, which scripts and emoji need. */
const UNSAFE = /(?![\u200c\u200d])[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Zl}\p{Zp}]/gu
/** SGR parameters, ECMA-48. */
const COLORS: Readonly<Record<Level, string>> = { DEBUG: '2', INFO: '36', WARN: '33', ERROR: '31' }
const DIM = '2'

/** `json` is one log line without its newline. The result has no character that moves the cursor or is invisible. */
export function readableLine(json: string, isColored: boolean): string {
  const line: Readonly<Record<string, unknown>> = JSON.parse(json)
  const paint = (text: string, sgr: string) =>
    isColored && text !== '' ? `\u001b[${sgr}m${text}\u001b[0m` : text
  const { level, status_code: status, latency_ms: latencyMs, stack } = line
  const isEnd = typeof status === 'number' && typeof latencyMs === 'number'
  const asked = [line['method'], line['route']].filter((part) => typeof part === 'string')
  const own = Object.entries(line)
    .filter(([name, value]) => !PLACED.has(name) && value !== null)
    .map(([name, value]) => `${name}=${readable(value)}`)
  const parts = [
    String(line['ts']).slice(11, 23),
    paint(String(level).padEnd(5), COLORS[level as Level] ?? DIM),
    readable(line['event']).padEnd(EVENT_WIDTH),
    isEnd
      ? `${status}${`${latencyMs.toFixed(1)} ms`.padStart(LATENCY_WIDTH)} `
      : ' '.repeat(asked.length === 0 ? 0 : STATUS_WIDTH),
    asked.map(readable).join(' '),
    readable(line['alias'] ?? line['device_id'] ?? ''),
    own.join(' '),
    LOOPBACK.has(line['ip']) ? '' : readable(line['ip'] ?? ''),
    paint(readable(line['request_id'] ?? ''), DIM),
  ]
  const trace =
    typeof stack === 'string' ? stack.split('\n').map((row) => `\n    ${safe(row)}`) : []
  return parts.filter((part) => part !== '').join(' ') + trace.join('')
}

/** Like createLineBuilder, but its lines are readable. */
export function createReadableBuilder(
  draft: Uint8Array,
  now: () => number,
  isColored: boolean,
): LineBuilder {
  const build = createLineBuilder(draft, now)
  const bytes = Buffer.from(draft.buffer, draft.byteOffset, MAX_LINE_BYTES)
  return (...line) => {
    const json = bytes.toString('latin1', 0, build(...line) - 1)
    return bytes.write(`${readableLine(json, isColored)}\n`)
  }
}

/** Quoted if it is not one word. */
function readable(value: unknown): string {
  if (typeof value !== 'object') {
    const text = String(value)
    return safe(/[\s"]/.test(text) ? JSON.stringify(text) : text)
  }
  const text = JSON.stringify(value)
  return text.length > NESTED_WIDTH ? '{…}' : safe(text)
}

function safe(text: string): string {
  return text.replace(
    UNSAFE,
    (character) => `\\u${(character.codePointAt(0) ?? 0).toString(16).padStart(4, '0')}`,
  )
}
