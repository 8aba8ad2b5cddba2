/** The log lines of a service under test, as they come. */
import type { Readable } from 'node:stream'

/** On every line, in this order (telemetry.md, common fields). */
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

/** One parsed line; every common field and the event's own. */
export type LogLine = Readonly<Record<string, unknown>> & { readonly event: string }

/** How many requests these terminal lines stand for: of a flood not each has its own. */
export function requestsOf(lines: readonly LogLine[]): number {
  return lines.reduce((sum, line) => sum + 1 + Number(line['suppressed'] ?? 0), 0)
}

export class Lines {
  readonly all: LogLine[] = []
  readonly raw: string[] = []
  readonly #waiting = new Set<() => void>()
  #rest = ''
  #hasEnded = false

  /** Reads `stdout` to its end; a line that is no JSON ends the test with an error. */
  constructor(stdout: Readable) {
    stdout.setEncoding('utf8')
    stdout.on('data', (text: string) => this.#take(text))
    stdout.on('end', () => {
      this.#hasEnded = true
      this.#wake()
    })
  }

  /** All that came, an unfinished last line too. */
  get text(): string {
    return [...this.raw, this.#rest].join('\n')
  }

  /** All lines of one event so far. */
  of(event: string): readonly LogLine[] {
    return this.all.filter((line) => line.event === event)
  }

  /** All lines of one event, once there are `count` of them. */
  async atLeast(count: number, event: string): Promise<readonly LogLine[]> {
    await this.waitFor(() => this.of(event).length >= count, `${count} × ${event}`)
    return this.of(event)
  }

  /** The first line, past or to come, that fits; rejects after `timeoutMs` or at the end of the output. */
  async waitFor(
    fits: (line: LogLine) => boolean,
    what = 'a log line',
    timeoutMs = 20_000,
  ): Promise<LogLine> {
    const deadlineAtMs = performance.now() + timeoutMs
    for (;;) {
      const found = this.all.find(fits)
      if (found !== undefined) return found
      const leftMs = deadlineAtMs - performance.now()
      if (this.#hasEnded || leftMs <= 0) {
        const last = this.raw.slice(-5).join('\n')
        throw new Error(`${what} did not come; the last lines:\n${last}`)
      }
      await this.#next(leftMs)
    }
  }

  /** The terminal line of the request with this ingress id. */
  terminalOf(requestId: string): Promise<LogLine> {
    return this.waitFor(
      (line) =>
        line['status_code'] !== null &&
        (line['request_id'] === requestId || line['http_request_id'] === requestId),
      `the terminal line of ${requestId}`,
    )
  }

  #next(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer)
        this.#waiting.delete(done)
        resolve()
      }
      const timer = setTimeout(done, timeoutMs)
      this.#waiting.add(done)
    })
  }

  #take(text: string): void {
    const parts = (this.#rest + text).split('\n')
    this.#rest = parts.pop() ?? ''
    for (const part of parts) {
      this.raw.push(part)
      this.all.push(JSON.parse(part))
    }
    this.#wake()
  }

  #wake(): void {
    for (const wake of this.#waiting) wake()
  }
}
