/** Counts responses, and measures latencies by route. */
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks'
import { bodyOf, type HttpRequest, type Send, textOf } from '../../testkit/http/client.ts'

/** Milliseconds, to 3 figures; 0 without any. */
export interface Latency {
  readonly count: number
  readonly p50: number
  readonly p95: number
  readonly p99: number
  readonly max: number
}

const US_PER_MS = 1_000

export class LatencyRecord {
  readonly #us: RecordableHistogram = createHistogram()

  add(latencyMs: number): void {
    this.#us.record(Math.max(1, Math.round(latencyMs * US_PER_MS)))
  }

  read(): Latency {
    const { count } = this.#us
    if (count === 0) return { count, p50: 0, p95: 0, p99: 0, max: 0 }
    const at = (percent: number) => this.#us.percentile(percent) / US_PER_MS
    return { count, p50: at(50), p95: at(95), p99: at(99), max: this.#us.max / US_PER_MS }
  }
}

export class Tally {
  readonly #answers = new Map<string, number>()
  readonly #latencies = new Map<string, LatencyRecord>()

  /** Counts and times requests: from the call to the whole response, including the connection. */
  watch(send: Send): Send {
    return async (request) => {
      const startedAtMs = performance.now()
      const response = await send(request).catch((error: unknown) => {
        this.#count(request, 'no answer')
        throw error
      })
      this.latencyOf(routeOf(request)).add(performance.now() - startedAtMs)
      const code = response.status < 400 ? '' : textOf(bodyOf(response), 'code')
      this.#count(request, `${response.status} ${code}`.trimEnd())
      return response
    }
  }

  /** By request and response: `POST /v1/heartbeat 200`, `… 401 token_unknown`, `… no answer`. */
  answers(): Readonly<Record<string, number>> {
    return sorted(this.#answers)
  }

  /** By method and route; only requests with a response. */
  latencies(): Readonly<Record<string, Latency>> {
    return sorted(new Map([...this.#latencies].map(([route, record]) => [route, record.read()])))
  }

  latencyOf(route: string): LatencyRecord {
    const known = this.#latencies.get(route)
    if (known !== undefined) return known
    const record = new LatencyRecord()
    this.#latencies.set(route, record)
    return record
  }

  #count(request: HttpRequest, what: string): void {
    const key = `${routeOf(request)} ${what}`
    this.#answers.set(key, (this.#answers.get(key) ?? 0) + 1)
  }
}

/** `POST /v1/heartbeat`, with the routes of the service's metrics. */
function routeOf({ method, path }: HttpRequest): string {
  const route = path
    .replace(/\?.*/, '')
    .replace(/\/{2,}/g, '/')
    .replace(/^\/v1\/devices\/[^/]+\/ack$/, '/v1/devices/{device_id}/ack')
    .replace(/^\/admin\/commands\/[^/]+$/, '/admin/commands/{request_id}')
  return `${method} ${route}`
}

function sorted<T>(map: ReadonlyMap<string, T>): Readonly<Record<string, T>> {
  return Object.fromEntries([...map].sort(([a], [b]) => (a < b ? -1 : 1)))
}
