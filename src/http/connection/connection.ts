/**
 * One client connection: its open requests, and the point from which its input is ignored.
 *
 * reading → metered (it pipelines) → input ended (a parser error, or the connection closes) → closing (half-closed; input
 * is discarded for a moment) → closed. A state may be skipped, and none comes back.
 */
import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { freeMemory } from '../../lib/free-memory.ts'
import type { Semaphore } from '../../lib/semaphore.ts'
import type { Exchange } from '../exchange.ts'
import type { Linger } from './linger.ts'
import {
  type HttpSocket,
  PAUSE_PARSER,
  type ParsedRequest,
  type ParserError,
  SKIP_BODY,
  STOP_PARSER,
} from './node-parser.ts'
import type { RefusedInput } from './raw-response.ts'
import { watchChunks } from './small-chunks.ts'

/**
 * Requests of one connection that are open at once. From so many on it is metered: the parser stops at each head, and gets
 * more only while fewer are open. Without a slot it is not metered, and another request closes it after those that are open.
 */
const MAX_OPEN_EXCHANGES = 3
/** A client that has half-closed may still read (`nc -N`) or may have left; a response may then take this long, up to twice. */
const HALF_OPEN_MS = 1_000
/** The parser cannot be stopped within a body, so `#feed` gives it so much at a time; of an unread body, no more than that. */
const SLICE_BYTES = 2_048
const NO_BYTES: Buffer = Buffer.alloc(0)

export interface ConnectionOptions {
  /** No further request may wait behind another one, on any connection. */
  readonly isPipelineFull: () => boolean
  /** Takes a slot for a metered connection, which holds up to 128 KiB. */
  readonly tryAcquireMeter: Semaphore['tryAcquire']
  /** Called when a connection is closed because it pipelines more requests than may be open. */
  readonly onRefused: () => void
  readonly linger: Linger
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
  /** Oldest first. */
  readonly #exchanges: Exchange[] = []
  /** Node's own `data` listener, while ours replaces it. */
  #parse: ((bytes: Buffer) => void) | undefined
  /** Of a metered connection. */
  #releaseMeter: (() => void) | undefined
  /** The parser pauses at a head. */
  #isStepping = false
  #hasSmallChunks = false
  /** The newest request whose body comes in chunks, until somebody begins to read it. */
  #unread: IncomingMessage | undefined
  /** An unread body follows, and nothing behind it can be parsed. */
  #hasSkipped = false
  #requests = 0
  /** The bytes behind the head at which the parser has paused. */
  #rest: Buffer = NO_BYTES
  #hasInputEnded = false
  /** It sent more requests than may be open. */
  #isRefused = false

  constructor(socket: OwnSocket, options: ConnectionOptions) {
    this.socket = socket
    this.#options = options
    socket[CONNECTION] = this
    socket.on('error', ignored) // Node removes its own listener at an upgrade, and an error without one ends the process
    socket.once('close', () => {
      for (const exchange of this.#exchanges.slice()) exchange.connectionClosed()
      this.#releaseMeter?.()
    })
    socket.once('end', () => this.#clientEnded())
    const { destroySoon } = socket
    // Node calls it behind a response with `Connection: close`. Reading on for those who flood us would cost more than they pay.
    socket.destroySoon = () => (this.#isRefused ? destroySoon.call(socket) : this.lingeringClose())
    const { parser } = socket
    if (!parser) return
    const { onIncoming } = parser
    parser.onIncoming = (request, shouldKeepAlive) => {
      if (this.#hasInputEnded || this.#isLast || socket.writableEnded) return this.#stop(request)
      if (!this.#mayOpen()) {
        this.#isRefused = true
        options.onRefused()
        return this.#stop(request)
      }
      const isChunked = request.headers['transfer-encoding'] !== undefined
      if (isChunked) this.#holdBody(request)
      const result = onIncoming(request, shouldKeepAlive)
      // llhttp stops after an upgrade, so our response is the last one.
      const isUpgrade = result !== 0 || request.headers.upgrade !== undefined
      this.#hasSkipped = isUpgrade && isChunked
      if (isUpgrade) return isChunked ? SKIP_BODY : result
      if (!this.#mustMeter() && !isChunked) return result
      this.#isStepping = true
      return PAUSE_PARSER
    }
  }

  /** A request began. */
  opened(exchange: Exchange): void {
    this.#exchanges.push(exchange)
    this.#requests += 1
  }

  /** This is its first request. */
  get isNew(): boolean {
    return this.#requests === 1
  }

  /** The response has closed. */
  ended(exchange: Exchange): void {
    const index = this.#exchanges.lastIndexOf(exchange)
    if (index !== -1) this.#exchanges.splice(index, 1)
    this.onIdle()
    this.#unmeterIdle()
    if (this.#parse !== undefined && !this.#hasInputEnded) this.socket.resume()
  }

  /** The response to the newest request closes the connection, as Node does behind a body that came before its `100 Continue`. */
  get #isLast(): boolean {
    return this.#hasSkipped || this.#hasSmallChunks || this.newest?.awaitsContinue === true
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

  /**
   * Node parses all of the 64 KiB that it reads at once, up to 2,400 requests of 27 bytes, or 10,900 chunks of one. After
   * the first pause that PAUSE_PARSER causes, the input comes through `#feed`, and the parser pauses at each head. `error`
   * is Node's report of the pause. For any other error, frees its copy of the input and returns false.
   */
  meter(error: ParserError): boolean {
    const { bytesParsed, rawPacket = NO_BYTES } = error
    if (error.code !== 'HPE_PAUSED' || !this.#isStepping || this.#hasInputEnded) {
      freeMemory(rawPacket)
      return false
    }
    const { socket } = this
    socket.parser?.resume()
    const rest = rawPacket.subarray(bytesParsed)
    // Until the next byte the parser would treat the request as incomplete, and a half-close would cut it off.
    if (rest.length === 0 && rawPacket.length > 0) socket.parser?.execute(rest)
    if (this.#parse !== undefined) {
      this.#rest = rest // #feed continues with it
      return true
    }
    const [parse] = socket.listeners('data')
    this.#takeInput(this.#feed)
    this.#parse = parse as (bytes: Buffer) => void
    if (rest.length > 0) socket.unshift(rest)
    this.#resumeReading()
    return true
  }

  /**
   * Takes the input from Node's parser, which reports an error for every chunk after its first one. Later input is not read
   * before `lingeringClose`, and is never parsed. False: the input had ended before.
   */
  endInput(): boolean {
    if (this.#hasInputEnded) return false
    this.#hasInputEnded = true
    this.socket.pause() // stops the descriptor, which Node's parser reads directly
    this.#takeInput(ignored)
    this.socket.removeAllListeners('end') // the stream closes once both sides have ended
    return true
  }

  /** Half-closes; the client may still send for a moment. Repeatable. */
  lingeringClose(): void {
    const { socket } = this
    if (socket.writableEnded) return
    this.endInput()
    this.#options.linger(socket)
    this.#resumeReading()
  }

  /** The client half-closed and may still read, but its departure would go unnoticed: a slow response is given up. */
  #clientEnded(): void {
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

  /** A large body is not parsed before somebody reads it. */
  #holdBody(request: IncomingMessage): void {
    const { _read: read } = request
    this.#unread = request
    request._read = (sizeBytes) => {
      if (this.#unread === request) this.#unread = undefined
      read.call(request, sizeBytes) // it resumes the socket
    }
    watchChunks(request, () => {
      this.#hasSmallChunks = true
    })
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
    return this.newest === undefined || !this.#options.isPipelineFull()
  }

  #mustMeter(): boolean {
    if (this.#releaseMeter !== undefined) return true
    if (this.#exchanges.length < MAX_OPEN_EXCHANGES) return false
    this.#releaseMeter = this.#options.tryAcquireMeter()
    return this.#releaseMeter !== undefined
  }

  /** Returns the input to Node, and the slot, if nothing waits any more. */
  #unmeterIdle(): void {
    if (this.#parse === undefined || this.#hasInputEnded) return
    if (this.isBusy || this.socket.readableLength > 0) return
    this.#takeInput(this.#parse)
    this.socket.resume()
    this.#parse = undefined
    this.#isStepping = false
    this.#releaseMeter?.()
    this.#releaseMeter = undefined
  }

  /**
   * Gives the input to `listener` from the next `resume` on. Node's parser reads the descriptor directly until a `data`
   * listener is added.
   */
  #takeInput(listener: (bytes: Buffer) => void): void {
    this.socket.removeAllListeners('data')
    this.socket.on('data', listener)
    this.socket.pause()
  }

  /**
   * Resumes reading after the input was taken from Node's parser. The parser read the descriptor directly, so the stream
   * still waits for its first read; if Node stopped the descriptor meanwhile, only the end of that read starts it again.
   */
  #resumeReading(): void {
    this.socket.resume()
    this.socket.push('')
  }

  readonly #feed = (bytes: Buffer): void => {
    const { socket } = this
    for (let at = 0; at < bytes.length && !this.#hasInputEnded; ) {
      // The older requests do not wait for the body of the newest, so one of them will end.
      const isFull =
        this.#exchanges.length >= MAX_OPEN_EXCHANGES && this.#releaseMeter !== undefined
      const isUnread = this.#unread?.complete === false && bytes.length - at > SLICE_BYTES
      if (isFull || isUnread || socket._paused || socket.isPaused()) {
        socket.pause()
        socket.unshift(bytes.subarray(at))
        return
      }
      const slice = bytes.subarray(at, at + SLICE_BYTES)
      this.#rest = NO_BYTES
      this.#parse?.(slice)
      at += slice.length - this.#rest.length
      if (this.#hasSmallChunks) this.#options.onRefusedInput('SMALL_CHUNKS', socket)
    }
    freeMemory(bytes)
    this.#unmeterIdle()
  }
}

function ignored(): void {}
