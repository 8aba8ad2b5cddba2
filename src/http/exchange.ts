/**
 * One request and its response, with its context, its one terminal line and its counters.
 *
 * open → responded (a reply or a problem was handed to `res`) → ended (the response has closed; line and counters are
 * written). If the client leaves, an open or responded exchange ends with 499.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { AppError } from '../domain/errors.ts'
import { failedCallOf } from '../domain/failed-call.ts'
import type { ListNode } from '../lib/linked-list.ts'
import { Denial } from '../security/denial.ts'
import type { Ending, Line, RequestLog } from '../telemetry/log/log.ts'
import type { RouteMetrics } from '../telemetry/metrics/metrics.ts'
import { abandonBody, hasUnreadBody } from './body/body.ts'
import { connectionOf } from './connection/connection.ts'
import type { LargeResponses } from './connection/large-responses.ts'
import { problemOf } from './errors.ts'
import { writeFault, writeLine, writeRefusal } from './request-lines.ts'
import { type ChunkTurns, sendProblem, sendReply } from './respond.ts'
import { httpRequestId, type Reply, type RequestContext, type Route } from './route.ts'
import { hasUnclearEnd } from './well-formed.ts'

export interface ExchangeDeps {
  readonly log: RequestLog
  /** Monotonic, milliseconds. */
  readonly nowMs: () => number
  readonly random: () => number
  /** Aborted when the shutdown begins. */
  readonly closing: AbortSignal
  readonly chunkTurns: ChunkTurns
  /** Shared by all responses. */
  readonly large: LargeResponses
  /** Called for each exchange; `onEnd` receives the node that it returns. */
  readonly onOpen: (exchange: Exchange) => ListNode<Exchange>
  /** Called once for each exchange: its response begins, or none comes any more. */
  readonly onResponse: () => void
  /** Called once the terminal line is written. */
  readonly onEnd: (exchange: Exchange, node: ListNode<Exchange>) => void
}

/** nginx's code for a client that left before the response; only in lines and counters. */
const CLIENT_CLOSED = 499

export class Exchange {
  readonly request: IncomingMessage
  readonly context: RequestContext
  /** undefined: the route table has no match. */
  readonly route: Route | undefined
  /** The client waits for `100 Continue` before it sends its body. */
  awaitsContinue = false
  /** Called when no older request of its connection is open any more, and when it has ended; perhaps repeatedly. */
  onOldest: () => void = ignored
  readonly #res: ServerResponse
  readonly #deps: ExchangeDeps
  readonly #metrics: RouteMetrics
  readonly #startedAtMs: number
  readonly #node: ListNode<Exchange>
  /** Made on demand: most requests never wait. */
  #waiting: AbortController | undefined
  #reply: Reply | undefined
  #error: AppError | undefined
  #bytesSent = 0
  #isEnded = false
  #hasResponded = false
  #closesConnection: boolean
  #isDropped = false

  constructor(
    deps: ExchangeDeps,
    metrics: RouteMetrics,
    request: IncomingMessage,
    res: ServerResponse,
    context: RequestContext,
    route: Route | undefined,
  ) {
    this.#deps = deps
    this.#metrics = metrics
    this.#startedAtMs = deps.nowMs()
    this.request = request
    this.#res = res
    this.context = context
    this.route = route
    // An upgrade is ignored, but Node's parser discards what comes behind it.
    this.#closesConnection = request.headers.upgrade !== undefined || hasUnclearEnd(request.headers)
    this.#node = deps.onOpen(this)
    res.on('error', ignored) // a write after the client left; 'close' follows
    res.once('close', () => this.#closed()) // `once`: connectionClosed may emit it again
  }

  /** Node emits `close` only on the response whose turn it is; those behind it would never get it. */
  connectionClosed(): void {
    if (this.#res.socket !== null || this.#isEnded) return
    this.#res.destroy()
    this.#res.emit('close') // also stops a stream into it
  }

  /** Aborted when the client leaves before the response is out, and when the server stops. */
  get signal(): AbortSignal {
    this.#waiting ??= new AbortController()
    if (this.#isEnded || this.#deps.closing.aborted) this.#waiting.abort()
    return this.#waiting.signal
  }

  /** The server stops: ends the waits of the handler. */
  stopWaiting(): void {
    this.#waiting?.abort()
  }

  get hasResponse(): boolean {
    return this.#res.headersSent || this.#res.destroyed
  }

  /** Nobody waits for its response any more. Its socket may be destroyed some time before the exchange ends. */
  get isOver(): boolean {
    return this.hasResponse || this.#isEnded || this.request.socket.destroyed
  }

  /** It was refused with a 4xx. */
  get wasRefused(): boolean {
    return this.#error !== undefined && this.#res.statusCode < 500
  }

  get isEnded(): boolean {
    return this.#isEnded
  }

  /** Nothing behind this request is served: its response closes the connection, or may do so. */
  get isLast(): boolean {
    // Node closes behind a body that came before its `100 Continue`, and behind a response to HTTP/1.0 of unknown length.
    return this.#closesConnection || this.awaitsContinue || this.request.httpVersion !== '1.1'
  }

  /** The service reads nothing behind this request, and closes the connection once its response is out. */
  closeAfterResponse(): void {
    this.#closesConnection = true
    this.#res.once('close', () => this.request.socket.destroySoon())
  }

  /** Sends `100 Continue` if the client waits for it. */
  continue(): void {
    if (!this.awaitsContinue || this.hasResponse) return
    this.awaitsContinue = false
    this.#res.writeContinue()
  }

  log(line: Line, requestId = this.context.requestId): void {
    writeLine(this.#deps.log, line, { ...this.context, requestId })
  }

  reply(reply: Reply): void {
    if (this.hasResponse) {
      // The line is written, but the reply must still release what it holds.
      const ending = { bytesSent: 0, isWhole: false, statusCode: CLIENT_CLOSED }
      if (reply.kind === 'stream') reply.ended(ending).catch(() => {})
      return
    }
    this.#responded()
    this.#reply = reply
    sendReply(this.#res, reply, this.#responseOptions(), {
      turns: this.#deps.chunkTurns,
      ip: this.context.ip,
      large: this.#deps.large,
      onBytes: (sizeBytes) => {
        this.#bytesSent += sizeBytes
      },
      onDropped: () => {
        this.#isDropped = true
      },
    })
  }

  refuse(error: AppError): void {
    if (this.hasResponse) return
    this.#responded()
    this.#error = error
    const problem = problemOf(error, this.context.ingressId, this.#deps.random)
    sendProblem(this.#res, problem, this.#responseOptions())
  }

  #responseOptions() {
    const { request } = this
    const connection = connectionOf(request.socket)
    // Requests behind this one may be durable: they get their own responses.
    const isStopping = this.#deps.closing.aborted && connection.newest === this
    this.#closesConnection ||= isStopping || hasUnreadBody(request)
    if (this.#closesConnection) connection.endInputWatching()
    return {
      requestId: this.context.ingressId,
      closesConnection: this.#closesConnection,
      isHead: request.method === 'HEAD',
    }
  }

  #responded(): void {
    if (this.#hasResponded) return
    this.#hasResponded = true
    this.#deps.onResponse()
  }

  #closed(): void {
    this.#isEnded = true
    this.#responded()
    connectionOf(this.request.socket).ended(this)
    abandonBody(this.request)
    // A destroyed socket fails its writes, and Node then calls the response finished.
    const isSent = this.#res.writableFinished && !this.request.socket.destroyed
    const isOut = isSent || this.#isLeftAlone()
    const statusCode = isOut ? this.#res.statusCode : CLIENT_CLOSED
    this.#waiting?.abort()
    const latencyMs = this.#deps.nowMs() - this.#startedAtMs
    this.#metrics.ended(this.request.method ?? '', statusCode, latencyMs)
    const ending = { statusCode, latencyMs }
    if (this.#reply?.kind !== 'stream') {
      this.#writeTerminal(ending)
      this.#deps.onEnd(this, this.#node)
      return
    }
    void this.#reply
      .ended({ bytesSent: this.#bytesSent, isWhole: isOut, statusCode })
      .then(
        (line) => writeLine(this.#deps.log, line, this.context, ending),
        (error: unknown) => this.#writeFault(error, ending),
      )
      .then(() => this.#deps.onEnd(this, this.#node))
  }

  /** Only its client ends a live response, by leaving. */
  #isLeftAlone(): boolean {
    return this.#reply?.kind === 'live' && this.#res.headersSent && !this.#isDropped
  }

  #writeTerminal(ending: Ending): void {
    const { log } = this.#deps
    const { statusCode } = ending
    const error = statusCode === CLIENT_CLOSED ? undefined : this.#error
    if (statusCode < 400) {
      const line = this.#replyLine() ?? this.#plainLine(statusCode, null)
      writeLine(log, line, this.context, ending)
      return
    }
    const reason = statusCode === CLIENT_CLOSED ? 'client_closed' : (error?.code ?? null)
    // A HEAD has no fail line: it does nothing that could fail.
    const route = this.request.method === 'HEAD' ? undefined : this.route
    const code = reason ?? String(statusCode)
    const failLine = route?.failLine?.(code, statusCode, this.context, failedCallOf(error))
    if (failLine === undefined && statusCode >= 500) {
      this.#writeFault(error, ending)
      return
    }
    const denial = lineOf(error)
    const own = statusCode === CLIENT_CLOSED ? undefined : this.#replyLine()
    const line = failLine ?? denial ?? own ?? this.#plainLine(statusCode, reason)
    const beside = failLine === undefined ? undefined : denial
    writeRefusal(log, { code, caller: this.context, ending, line: () => line, beside })
  }

  #replyLine(): Line | undefined {
    return this.#reply?.kind === 'stream' ? undefined : this.#reply?.line
  }

  #writeFault(error: unknown, ending: Ending): void {
    const code = error instanceof AppError ? error.code : (this.#error?.code ?? 'internal')
    const cause = error instanceof AppError ? error.cause : error
    const isOurs = code === 'internal' && cause instanceof Error
    const line = (): Line => ({
      event: 'http.error',
      fields: {
        method: this.request.method ?? null,
        error: code,
        stack: isOurs ? (cause.stack ?? null) : null,
        ...failedCallOf(error),
        http_request_id: httpRequestId(this.context),
      },
    })
    writeFault(this.#deps.log, { code, caller: this.context, ending, line, beside: lineOf(error) })
  }

  #plainLine(statusCode: number, reason: string | null): Line {
    const level = this.context.isProbe ? 'DEBUG' : statusCode >= 400 ? 'WARN' : 'INFO'
    const method = this.request.method ?? null
    return {
      event: 'http.request',
      fields: {
        method,
        reason,
        admin: this.context.admin,
        http_request_id: httpRequestId(this.context),
      },
      level,
    }
  }
}

function ignored(): void {}

/** The line of a Denial. */
function lineOf(error: unknown): Line | undefined {
  return error instanceof Denial ? error.line : undefined
}
