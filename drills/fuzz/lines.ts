/** The log beside the answers: valid lines of the contract, and for each answer one that ends it, or its share of a count. */
import { EVENTS } from '../../src/telemetry/log/events.ts'
import { OPTIONAL_KINDS } from '../../src/telemetry/log/field-kinds.ts'
import type { StrictResponse } from '../../testkit/http/strict-reader.ts'

/** telemetry.md, common fields. */
const COMMON =
  'ts,level,event,request_id,route,ip,user_agent,device_id,alias,status_code,latency_ms'
const ASCII = /^\{"ts":"[ -~]+\}$/
/** Of a request of the fuzzer's whose answer is read (requests.ts). */
const OWN_ID = /^q\d+$/
const MAX_FAULTS = 20

export class LinesOracle {
  readonly faults: string[] = []
  /** Requests that ended, those included whose lines were too many of a kind to be written. */
  ended = 0
  readonly #routes: ReadonlySet<string>
  /** Answers without their line above 0, lines without their answer below: by id and status. */
  readonly #open = new Map<string, number>()
  /** Requests below 500 that lines of others count. */
  #suppressed = 0

  /** `routes`: the templates that `route` may name. */
  constructor(routes: readonly string[]) {
    this.#routes = new Set([...routes, 'unmatched'])
  }

  /** One line of stdout. */
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

  /** One whole answer. */
  answer(response: StrictResponse): void {
    const { status, headers } = response
    // Of a code with many 5xx a second the lines are counted into the next one.
    if (status < 200 || status >= 500) return
    this.#count(headers.get('x-request-id') ?? '', status, 1)
  }

  /** Once every line is in: what is left over. */
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
      const shape = EVENTS[line['event'] as keyof typeof EVENTS] // undefined: not of the vocabulary
      const own = Object.entries(shape?.fields ?? {}).flatMap(([name, kind]) =>
        OPTIONAL_KINDS.has(kind) && !(name in line) ? [] : [name],
      )
      if ('suppressed' in line) own.push('suppressed') // the last field, of a line that stands for others
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
