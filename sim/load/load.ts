/**
 * An open-loop load generator: requests arrive at a fixed rate whatever the server does, as phones do, and latency
 * counts from the moment a request was due. So a stall shows in every request that it delayed (no coordinated omission).
 *
 * due = sent + shed; sent = answered (byStatus) + failed.
 */
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks'
import type { WireResponse } from '../../testkit/http/response-reader.ts'
import { LoadConnection } from './connection.ts'
import type { LoadJournal } from './journal.ts'

export interface LoadRequest {
  /** Written to the journal once acknowledged. */
  readonly id: string
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  readonly path: string
  /** `host` and `content-length` are added. */
  readonly headers: Readonly<Record<string, string>>
  readonly body?: string
}

export interface LoadResponse {
  readonly status: number
  /** Retry-After, seconds; null without one. */
  readonly retryAfterS: number | null
  /** Since it was due. */
  readonly latencyMs: number
  /** Valid during the call only; copy what you keep. */
  readonly body: Buffer
}

export interface LoadOptions {
  /** Plain `http:`, without a path. The server may be restarted. */
  readonly origin: string
  readonly ratePerS: number
  /** Maximum of keep-alive sockets, opened on demand, with one request at a time each. */
  readonly connections: number
  /** Called when a request is sent; `index` counts arrivals from 0, including those shed. */
  readonly next: (index: number) => LoadRequest
  /** Maximum of arrivals. Default: until `signal`. */
  readonly arrivals?: number
  /**
   * Ends the arrivals; due requests are still awaited. Not AbortSignal.any() with a timeout: Node 20 may lose that.
   */
  readonly signal: AbortSignal
  readonly onAnswer?: (request: LoadRequest, response: LoadResponse) => void
  /** Without a whole response. */
  readonly onFailure?: (request: LoadRequest) => void
  /** Receives the id of every 2xx, before onAnswer. */
  readonly journal?: LoadJournal
  /** Requests that may wait for a free socket; further arrivals are shed. Default 10,000. */
  readonly maxBacklog?: number
  /** Since it was due, in the backlog (then it is shed) or under way (then it failed). Default 10 s. */
  readonly timeoutMs?: number
}

export interface LoadReport {
  readonly due: number
  readonly sent: number
  /** Sent, without a whole response. */
  readonly failed: number
  /** Never sent: the backlog was full, or it waited too long there. */
  readonly shed: number
  readonly byStatus: Readonly<Record<string, number>>
  /** Of all responses of any status, to 3 figures; 0 without any. */
  readonly latencyMs: LatencyQuantiles
}

export interface LatencyQuantiles {
  readonly p50: number
  readonly p95: number
  readonly p99: number
  readonly max: number
}

const MAX_BACKLOG = 10_000
const TIMEOUT_MS = 10_000
const SWEEP_MS = 100
/** Below the 5 s after which many servers, including Node's, close idle connections. */
const MAX_IDLE_MS = 3_000
const US_PER_MS = 1_000

/** Resolves when all due requests are settled, at most `timeoutMs` after `signal`. */
export function runLoad(options: LoadOptions): Promise<LoadReport> {
  return new Promise((resolve) => new Load(options, resolve).start())
}

class Load {
  readonly #options: LoadOptions
  readonly #resolve: (report: LoadReport) => void
  readonly #address: { readonly host: string; readonly port: number }
  readonly #hostLine: string
  readonly #timeoutMs: number
  readonly #startMs = performance.now()
  /** Indexes of due requests that were not sent yet, oldest first. */
  readonly #backlog: number[] = []
  /** Longest idle first, with the start of idling. */
  #idle: { readonly connection: LoadConnection; readonly sinceMs: number }[] = []
  /** When each request under way was due. */
  readonly #busy = new Map<LoadConnection, number>()
  readonly #latencyUs: RecordableHistogram = createHistogram()
  readonly #byStatus: Record<string, number> = {}
  #due = 0
  #sent = 0
  #failed = 0
  #shed = 0
  #arrival: NodeJS.Timeout | undefined
  #sweeper: NodeJS.Timeout | undefined

  constructor(options: LoadOptions, resolve: (report: LoadReport) => void) {
    const { protocol, hostname, port, host } = new URL(options.origin)
    if (protocol !== 'http:') throw new Error(`load goes to http: origins, not ${protocol}`)
    this.#options = options
    this.#resolve = resolve
    this.#address = { host: hostname.replace(/^\[|\]$/g, ''), port: Number(port || 80) }
    this.#hostLine = `HTTP/1.1\r\nhost: ${host}\r\n`
    this.#timeoutMs = options.timeoutMs ?? TIMEOUT_MS
  }

  start(): void {
    const { signal } = this.#options
    signal.addEventListener('abort', () => this.#stopArrivals(), { once: true })
    this.#sweeper = setInterval(() => this.#sweep(), SWEEP_MS)
    if (signal.aborted) this.#stopArrivals()
    else this.#arrive()
  }

  #dueAtMs(index: number): number {
    return this.#startMs + (index * 1_000) / this.#options.ratePerS
  }

  /** Sends all that is due; a late timer delays requests, but never drops one. */
  #arrive(): void {
    const nowMs = performance.now()
    const maxBacklog = this.#options.maxBacklog ?? MAX_BACKLOG
    for (; this.#dueAtMs(this.#due) <= nowMs && !this.#isOver; this.#due++) {
      this.#backlog.push(this.#due)
      this.#pump()
      if (this.#backlog.length > maxBacklog) {
        this.#backlog.pop()
        this.#shed++
      }
    }
    if (this.#isOver) {
      this.#endWhenSettled() // the last arrival, or ended by `next`
      return
    }
    const waitMs = this.#dueAtMs(this.#due) - performance.now()
    this.#arrival = setTimeout(() => this.#arrive(), Math.max(0, waitMs))
  }

  get #isOver(): boolean {
    const { signal, arrivals = Number.POSITIVE_INFINITY } = this.#options
    return signal.aborted || this.#due >= arrivals
  }

  #stopArrivals(): void {
    clearTimeout(this.#arrival)
    this.#endWhenSettled()
  }

  #pump(): void {
    while (this.#backlog.length > 0) {
      const connection = this.#free()
      if (connection === undefined) return
      const index = this.#backlog.shift()
      if (index === undefined) return
      this.#send(index, connection)
    }
  }

  #free(): LoadConnection | undefined {
    const free = this.#idle.shift()
    if (free !== undefined) return free.connection
    if (this.#busy.size >= this.#options.connections) return undefined
    return new LoadConnection(this.#address, (closed) => {
      this.#idle = this.#idle.filter(({ connection }) => connection !== closed)
    })
  }

  #send(index: number, connection: LoadConnection): void {
    const dueAtMs = this.#dueAtMs(index)
    this.#sent++
    this.#busy.set(connection, dueAtMs)
    const request = this.#options.next(index)
    connection.send(this.#bytesOf(request), (response) => {
      this.#busy.delete(connection)
      if (connection.isOpen) this.#idle.push({ connection, sinceMs: performance.now() })
      if (response === undefined) {
        this.#failed++
        this.#options.onFailure?.(request)
      } else this.#answered(request, response, performance.now() - dueAtMs)
      this.#pump()
      this.#endWhenSettled()
    })
  }

  #bytesOf({ method, path, headers, body }: LoadRequest): string {
    let text = `${method} ${path} ${this.#hostLine}`
    for (const name in headers) text += `${name}: ${headers[name]}\r\n`
    if (body === undefined) return `${text}\r\n`
    return `${text}content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`
  }

  #answered(request: LoadRequest, response: WireResponse, latencyMs: number): void {
    const { status, retryAfterS, body } = response

    this.#latencyUs.record(Math.max(1, Math.round(latencyMs * US_PER_MS)))
    this.#byStatus[status] = (this.#byStatus[status] ?? 0) + 1
    if (status >= 200 && status < 300) this.#options.journal?.acknowledge(request.id)
    this.#options.onAnswer?.(request, { status, retryAfterS, latencyMs, body })
  }

  /** Gives up old requests, and closes sockets that the server may be about to close. */
  #sweep(): void {
    const nowMs = performance.now()
    for (const [connection, dueAtMs] of this.#busy) {
      if (nowMs - dueAtMs > this.#timeoutMs) connection.destroy()
    }
    for (;;) {
      const [oldest] = this.#backlog
      if (oldest === undefined || nowMs - this.#dueAtMs(oldest) <= this.#timeoutMs) break
      this.#backlog.shift()
      this.#shed++
    }
    for (const { connection, sinceMs } of this.#idle) {
      if (nowMs - sinceMs > MAX_IDLE_MS) connection.destroy()
    }
    this.#idle = this.#idle.filter(({ connection }) => connection.isOpen)
    this.#endWhenSettled()
  }

  #endWhenSettled(): void {
    const isUnderWay = this.#busy.size > 0 || this.#backlog.length > 0
    if (!this.#isOver || isUnderWay) return
    clearInterval(this.#sweeper)
    for (const { connection } of this.#idle) connection.destroy()
    this.#resolve({
      due: this.#due,
      sent: this.#sent,
      failed: this.#failed,
      shed: this.#shed,
      byStatus: this.#byStatus,
      latencyMs: quantiles(this.#latencyUs),
    })
  }
}

function quantiles(latencyUs: RecordableHistogram): LatencyQuantiles {
  const at = (percent: number) => latencyUs.percentile(percent) / US_PER_MS
  const isEmpty = latencyUs.count === 0
  return isEmpty
    ? { p50: 0, p95: 0, p99: 0, max: 0 }
    : { p50: at(50), p95: at(95), p99: at(99), max: latencyUs.max / US_PER_MS }
}
