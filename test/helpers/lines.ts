/** What tests ask of log lines. */
import type { LogLine } from '../../testkit/log-book.ts'

/** On every line, in this order: the common fields of docs/reference/events.md. */
export const COMMON_KEYS: readonly string[] = [
  'ts',
  'level',
  'event',
  'request_id',
  'route',
  'ip',
  'user_agent',
  'device_id',
  'alias',
  'status_code',
  'latency_ms',
]

/** How many requests these terminal lines stand for: of a flood not each has its own. */
export function requestsOf(lines: readonly LogLine[]): number {
  return lines.reduce((sum, line) => sum + 1 + Number(line['suppressed'] ?? 0), 0)
}
