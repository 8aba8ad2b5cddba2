/**
 * One client connection: its open requests, and the request behind which nothing is read.
 *
 * reading → metered (it pipelines) → input ended (a parser error, or a response that closes the connection) → closing
 * (half-closed; input is discarded for a moment) → closed. A state may be skipped, and only a metered connection goes back.
 */
import type { Socket } from 'node:net'
import type { Semaphore } from '../../lib/semaphore.ts'
import type { Exchange } from '../exchange.ts'
import { Input } from './input.ts'
import type { Linger } from './linger.ts'
import {
  type HttpSocket,
  type ParsedRequest,
  type ParserError,
  SKIP_BODY,
  STOP_PARSER,
} from './node-parser.ts'
import type { PacedCloses } from './paced-closes.ts'
import type { RefusedInput } from './raw-response.ts'

/**
 * Requests of one connection that are open at once. The next one makes it metered: the parser stops at each head, and gets
 * more only while fewer are open. Without a slot it is not metered, and the next request closes it after those that are open.
 */
const MAX_OPEN_EXCHANGES = 3
/** Open requests behind another one of their connection, on all connections. A further one closes its connection. */
const MAX_PIPELINED = 512
/** A client that has half-closed may still read (`nc -N`) or may have left; a response may then take this long, up to twice. */
const HALF_OPEN_MS = 1_000

export interface ConnectionOptions {
  /** How many open requests of all connections are behind another one of their connection. */
  readonly pipelined: { count: number }
  /** Takes a slot for a metered connection, which holds up to 128 KiB. */
  readonly tryAcquireMeter: Semaphore['tryAcquire']
  /** Called when a connection is closed because it pipelines more requests than may be open. */
  readonly onRefused: () => void
  readonly linger: Linger
  readonly closes: PacedCloses
  /** Called for input that must be refused although the parser reports no error, perhaps repeatedly. */
  readonly onRefusedInput: (code: RefusedInput, socket: Socket) => void
}

const CONNECTION = Symbol('connection')
type OwnSocket = HttpSocket & { [CONNECTION]?: Connection }

/** The connection of a socket that was passed to `new Connection`. */
export function connectionOf(socket: OwnSocket): Connection {
  const connection = socket[CONNECTION]
  if (connection === undefined) throw new Error('this socket is no connection of a client')
  return connection
}

export class Connection {
  readonly socket: HttpSocket
  /** Called after each request. */
  onIdle: () => void = () => {}
  readonly #options: ConnectionOptions
  readonly #input: Input
  /** Oldest first. */
  readonly #exchanges: Exchange[] = []
  /** Of a metered connection. */
  #releaseMeter: (() => void) | undefined
  #requests = 0
  /** It sent more requests than may be open. */
  #isRefused = false
  /** Address of the client whose request was refused last; undefined if the last one, apart from probes, was not refused. */
  #refusedIp: string | null | undefined

  constructor(socket: OwnSocket, options: ConnectionOptions) {
    this.socket = socket
    this.#options = options
    this.#input = new Input(socket, {
      // The older requests do not wait for the body of the newest, so one of them will end.
      isFull: () =>
        this.#releaseMeter !== undefined && this.#exchanges.length >= MAX_OPEN_EXCHANGES,
      onFed: () => this.#unmeterIdle(),
      onSmallChunks: () => options.onRefusedInput('SMALL_CHUNKS', socket),
      discard: options.linger.discarding(socket),
    })
    socket[CONNECTION] = this
    socket.on('error', ignored) // Node removes its own listener at an upgrade, and an error without one ends the process
    socket.once('close', () => {
      for (const exchange of this.#exchanges.slice()) exchange.connectionClosed()
      this.#releaseMeter?.()
    })
    socket.once('end', this.#clientEnded)
    options.closes.pace(socket, () => this.#input.isTaken || socket.isPaused())
    const { destroySoon } = socket
    // Node calls it behind a response with `Connection: close`. A client that was refused may be flooding: it is not read on.
    socket.destroySoon = () => (this.#isRefused ? destroySoon.call(socket) : this.lingeringClose())
    const { parser } = socket
    if (!parser) return
    const { onIncoming } = parser
    parser.onIncoming = (request, shouldKeepAlive) => {
      if (this.#isBehindLast(request)) return this.#stop(request)
      if (!this.#mayOpen()) {
        this.#isRefused = true
        options.onRefused()
        return this.#stop(request)
      }
      const isChunked = request.headers['transfer-encoding'] !== undefined
      const isUpgrade = request.headers.upgrade !== undefined
      if (isUpgrade || !shouldKeepAlive) this.#endInputBehind(request)
      if (isChunked && !isUpgrade) this.#input.holdBody(request)
      const result = onIncoming(request, shouldKeepAlive)
      if (result !== 0) return result // a CONNECT
      if (isUpgrade) return isChunked ? SKIP_BODY : result // the parser reports no pause
      return this.#mustMeter() || isChunked ? this.#input.step() : result
    }
  }

  /** A request began. */
  opened(exchange: Exchange): void {
    if (this.isBusy) this.#options.pipelined.count += 1
    this.#exchanges.push(exchange)
    this.#requests += 1
  }

  /** The newest request is its first one. */
  get isNew(): boolean {
    return this.#requests === 1
  }

  /** The client does not wait for the response to one request before it sends the next. */
  get isPipelining(): boolean {
    return this.#isRefused || this.#exchanges.length > 1
  }

  /** The last request, apart from probes, was refused with a 4xx and came from `ip`. A proxy's connection serves many clients. */
  wasRefused(ip: string | null): boolean {
    return this.#refusedIp === ip
  }

  /** The response has closed. */
  ended(exchange: Exchange): void {
    const index = this.#exchanges.lastIndexOf(exchange)
    if (index === -1) return
    this.#exchanges.splice(index, 1)
    const { ip, isProbe } = exchange.context
    if (!isProbe) this.#refusedIp = exchange.wasRefused ? ip : undefined // otherwise a probe between two would hide the first
    if (this.isBusy) this.#options.pipelined.count -= 1
    exchange.onOldest()
    this.#exchanges[0]?.onOldest()
    this.onIdle()
    this.#unmeterIdle()
    this.#input.feedOn()
  }

  /** A request is open. */
  get isBusy(): boolean {
    return this.#exchanges.length > 0
  }

  /** The oldest request has no response yet; the others wait behind it. */
  get isResponsePending(): boolean {
    return this.#exchanges[0]?.hasResponse === false
  }

  /** The newest request that has not ended. */
  get newest(): Exchange | undefined {
    return this.#exchanges.at(-1)
  }

  /** Another open request came before this one. */
  hasBefore(exchange: Exchange): boolean {
    return this.isBusy && this.#exchanges[0] !== exchange
  }

  /** Of a request behind another one: resolves when none is before it any more, or once it has ended. */
  untilOldest(exchange: Exchange): Promise<void> {
    return new Promise((resolve) => {
      exchange.onOldest = resolve
    })
  }

  /** Takes the pause that metering causes (Input). False: `error` is another one. */
  meter(error: ParserError): boolean {
    return this.#input.meter(error)
  }

  /**
   * Nothing is parsed any more, nor read before `lingeringClose`: the response to the newest request is the last one. False:
   * the input had ended before.
   */
  endInput(): boolean {
    return this.#input.end()
  }

  /** As `endInput`, for a client that may have sent nothing more: a little is read, to notice that it leaves. */
  endInputWatching(): void {
    if (!this.#input.end()) return
    this.socket.once('end', this.#clientEnded)
    this.#input.resume()
  }

  /** Half-closes; the client may still send for a moment. Repeatable. */
  lingeringClose(): void {
    const { socket } = this
    if (socket.writableEnded) return
    this.endInput()
    this.#options.linger.close(socket)
    this.#input.resume()
  }

  /** The client half-closed and may still read, but its departure would go unnoticed: a slow response is given up. */
  readonly #clientEnded = (): void => {
    let [before] = this.#exchanges
    if (before === undefined) return
    const check = () => {
      const [oldest] = this.#exchanges
      if (oldest === before && this.isResponsePending) this.socket.destroy()
      before = oldest
    }
    const timer = setInterval(check, HALF_OPEN_MS)
    this.socket.once('close', () => clearInterval(timer))
  }

  /**
   * Nothing behind an upgrade, or a request with `Connection: close`, is parsed: the parser would discard all behind the
   * one, and any number of empty lines behind the other, and report no error.
   */
  #endInputBehind(request: ParsedRequest): void {
    const { push } = request
    request.push = (chunk: Buffer | null) => {
      if (chunk === null) process.nextTick(() => this.endInputWatching()) // the parser is at work
      return push.call(request, chunk)
    }
  }

  /** The request must not begin: the response to the newest one closes the connection. */
  #isBehindLast({ method }: ParsedRequest): boolean {
    if (this.#input.hasEnded || this.#input.hasSmallChunks || this.socket.writableEnded) return true
    const { newest } = this
    // Node detaches the socket at a CONNECT, and would send no response to an older request.
    return newest !== undefined && (newest.isLast || method === 'CONNECT')
  }

  /** Fails the parser at a request that must not begin. Node hears of it only if the request is no upgrade. */
  #stop(request: ParsedRequest): number {
    if (request.upgrade) {
      request.upgrade = false
      process.nextTick(this.#options.onRefusedInput, 'NO_REQUEST', this.socket)
    }
    return STOP_PARSER
  }

  #mayOpen(): boolean {
    if (this.#exchanges.length >= MAX_OPEN_EXCHANGES) return false
    return !this.isBusy || this.#options.pipelined.count < MAX_PIPELINED
  }

  /** Whether the connection is metered from this request on. Takes the slot. */
  #mustMeter(): boolean {
    if (this.#releaseMeter !== undefined) return true
    if (this.#exchanges.length < MAX_OPEN_EXCHANGES) return false
    this.#releaseMeter = this.#options.tryAcquireMeter()
    return this.#releaseMeter !== undefined
  }

  /** Returns the input to Node, and the slot, if nothing waits any more. */
  #unmeterIdle(): void {
    if (this.isBusy || !this.#input.giveBack()) return
    this.#releaseMeter?.()
    this.#releaseMeter = undefined
  }
}

function ignored(): void {}
