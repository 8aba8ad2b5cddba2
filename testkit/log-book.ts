/** The log lines of a running service, as they come on its stdout. */
import type { Readable } from 'node:stream'
import { asJsonObject, type JsonObject } from './http/client.ts'
import { WatchedList } from './watched-list.ts'

/** One parsed line: the common fields and the event's own. */
export type LogLine = JsonObject

const LINE_WAIT_MS = 10_000

export class LogBook {
  readonly #lines = new WatchedList<LogLine>()

  /** `onFault` is told of a line that is not one JSON object: nothing else may ever be on stdout. */
  constructor(stdout: Readable, onFault: (line: string) => void) {
    let rest = ''
    stdout.setEncoding('utf8')
    stdout.on('data', (text: string) => {
      const parts = (rest + text).split('\n')
      rest = parts.pop() ?? ''
      for (const part of parts) {
        const line = parseLine(part)
        if (line === undefined) onFault(part)
        else this.#lines.add(line)
      }
    })
  }

  get all(): readonly LogLine[] {
    return this.#lines.items
  }

  /** Every line that carries this id, as its own or as the one of the HTTP request behind it. */
  about(id: string): readonly LogLine[] {
    return this.all.filter((line) => line['request_id'] === id || line['http_request_id'] === id)
  }

  /** The first line that fits, past or to come; rejects after `timeoutMs`. */
  waitFor(
    fits: (line: LogLine) => boolean,
    what: string,
    timeoutMs = LINE_WAIT_MS,
  ): Promise<LogLine> {
    return this.#lines.waitFor(fits, `the log line ${what}`, timeoutMs)
  }

  /** The line that ends the HTTP request with this X-Request-ID. */
  endOf(id: string): Promise<LogLine> {
    const isEnd = (line: LogLine) =>
      line['status_code'] !== null && (line['http_request_id'] ?? line['request_id']) === id
    return this.waitFor(isEnd, `that ends request ${id}`)
  }
}

function parseLine(text: string): LogLine | undefined {
  try {
    return asJsonObject(JSON.parse(text))
  } catch {
    return undefined
  }
}
