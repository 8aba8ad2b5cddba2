/** Compares the log with the responses: valid lines, and for each response one that ends it, or a share of a count. */
import { EVENTS } from '../../src/telemetry/log/events.ts'
import { OPTIONAL_KINDS } from '../../src/telemetry/log/field-kinds.ts'
import type { StrictResponse } from '../../testkit/http/strict-reader.ts'

/** The common fields of docs/reference/events.md. */
const COMMON =
  'ts,level,event,request_id,route,ip,user_agent,device_id,alias,status_code,latency_ms'
const ASCII = /^\{"ts":"[ -~]+\}$/
/** The id of a fuzzed request whose response is read (requests.ts). */
const OWN_ID = /^q\d+$/
const MAX_FAULTS = 20

export class LinesOracle {
  readonly faults: string[] = []
  /** Requests that ended, including those counted in `suppressed`. */
  ended = 0
  readonly #routes: ReadonlySet<string>
  /** By id and status: above 0, responses without a line; below, lines without a response. */
  readonly #open = new Map<string, number>()
  /** Requests below 500 that other lines count. */
  #suppressed = 0

  /** `routes`: the templates that `route` may name. */
  constructor(routes: readonly string[]) {
    this.#routes = new Set([...routes, 'unmatched'])
  }

  line(text: string): void {
    const line = this.#parsed(text)
    if (line === undefined) return
    const { event, route, status_code: status } = line
    if (event === 'http.error' && line['error'] === 'internal') this.#fault(`500: ${text}`)
    if (event === 'log.dropped') this.#fault(text)
    if (route !== null && !this.#routes.has(String(route))) this.#fault(`a raw path: ${text}`)
    if (status === null) return
    const suppressed = Number(line['suppressed'] ?? 0)
    this.ended += 1 + suppressed
    if (Number(status) >= 500) return
    this.#suppressed += suppressed
    this.#count(String(line['http_request_id'] ?? line['request_id']), Number(status), -1)
  }

  answer(response: StrictResponse): void {
    const { status, headers } = response
    // Many 5xx a second with one code are counted in the next line.
    if (status < 200 || status >= 500) return
    this.#count(headers.get('x-request-id') ?? '', status, 1)
  }

  /** Reports what is left over, once every line was read. */
  finish(): void {
    let uncounted = -this.#suppressed
    for (const [key, count] of this.#open) {
      const [id = '', status = ''] = key.split(' ')
      if (count > 0 && status >= '4') uncounted += count
      else if (count > 0) this.#fault(`${count} answers without their line: ${key}`)
      if (count < 0 && OWN_ID.test(id) && status !== '499')
        this.#fault(`${-count} lines too many: ${key}`)
    }
    if (uncounted > 0) this.#fault(`${uncounted} answers 4xx that no line is about or counts`)
  }

  #count(id: string, status: number, by: 1 | -1): void {
    const key = `${id} ${status}`
    const count = (this.#open.get(key) ?? 0) + by
    if (count === 0) this.#open.delete(key)
    else this.#open.set(key, count)
  }

  #parsed(text: string): Readonly<Record<string, unknown>> | undefined {
    try {
      const line: Readonly<Record<string, unknown>> = JSON.parse(text)
      const shape = EVENTS[line['event'] as keyof typeof EVENTS] // undefined: an unknown event
      const own = Object.entries(shape?.fields ?? {}).flatMap(([name, kind]) =>
        OPTIONAL_KINDS.has(kind) && !(name in line) ? [] : [name],
      )
      if ('suppressed' in line) own.push('suppressed') // the last field of a line that stands for others
      const keys = Object.keys(line).join()
      if (!ASCII.test(text) || keys !== [COMMON, ...own].join()) this.#fault(text)
      return line
    } catch {
      this.#fault(`no JSON: ${text}`)
      return undefined
    }
  }

  #fault(what: string): void {
    if (this.faults.length < MAX_FAULTS) this.faults.push(`log: ${what.slice(0, 600)}`)
  }
}
