/** The log lines of a running service, as they arrive on its stdout. */
import type { Readable } from 'node:stream'
import { asJsonObject } from './http/client.ts'

/** One parsed line: the common fields and the event's own. */
export type LogLine = Readonly<Record<string, unknown>> & { readonly event: string }

const LINE_WAIT_MS = 20_000
const SHOWN_LINES = 5

export class LogBook {
  readonly all: LogLine[] = []
  readonly raw: string[] = []
  readonly #waiting = new Set<() => void>()
  readonly #onFault: (line: string) => void
  #rest = ''
  #hasEnded = false

  /**
   * Reads `stdout` to its end, at which waits reject; a line that is no event in JSON throws. With `onFault`, which
   * receives such a line, the caller watches for the end itself.
   */
  constructor(stdout: Readable, onFault?: (line: string) => void) {
    this.#onFault = onFault ?? throwFault
    stdout.setEncoding('utf8')
    stdout.on('data', (text: string) => this.#take(text))
    stdout.on('end', () => {
      this.#hasEnded = onFault === undefined
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

  /** Every line with this id, as its own or as that of the HTTP request behind it. */
  about(id: string): readonly LogLine[] {
    return this.all.filter((line) => isAbout(line, id))
  }

  /** The line that ends the HTTP request with this X-Request-ID. */
  terminalOf(requestId: string): Promise<LogLine> {
    return this.waitFor(
      (line) => line['status_code'] !== null && isAbout(line, requestId),
      `the terminal line of ${requestId}`,
    )
  }

  /** The first line that fits, past or to come; rejects after `timeoutMs` or at the end of the output. */
  async waitFor(
    fits: (line: LogLine) => boolean,
    what = 'a log line',
    timeoutMs = LINE_WAIT_MS,
  ): Promise<LogLine> {
    const deadlineAtMs = performance.now() + timeoutMs
    for (;;) {
      const found = this.all.find(fits)
      if (found !== undefined) return found
      const leftMs = deadlineAtMs - performance.now()
      if (this.#hasEnded || leftMs <= 0) {
        const last = this.raw.slice(-SHOWN_LINES).join('\n')
        throw new Error(`${what} did not come; the last lines:\n${last}`)
      }
      await this.#next(leftMs)
    }
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
      const line = parseLine(part)
      if (line === undefined) this.#onFault(part)
      else this.all.push(line)
    }
    this.#wake()
  }

  #wake(): void {
    for (const wake of this.#waiting) wake()
  }
}

function throwFault(line: string): never {
  throw new Error(`not a log line: ${line}`)
}

function isAbout(line: LogLine, id: string): boolean {
  return line['request_id'] === id || line['http_request_id'] === id
}

function parseLine(text: string): LogLine | undefined {
  try {
    const line = asJsonObject(JSON.parse(text))
    const event = line?.['event']
    return typeof event === 'string' ? { ...line, event } : undefined
  } catch {
    return undefined
  }
}
