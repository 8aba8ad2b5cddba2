/**
 * One client connection: the requests that are open on it, and the point from which its input is ignored.
 *
 * reading → metered (it pipelines) → input ended (a parser error, or the connection closes) → closing (our end is sent,
 * input is discarded for a moment) → closed. Each state may be skipped, none comes back.
 */
import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { Exchange } from '../exchange.ts'

/** Requests of one connection that are open at once; the socket is not read any further before one of them has ended. */
const MAX_OPEN_EXCHANGES = 16
/** From so many on the parser stops at each head, and is given more only while fewer are open. */
const METERED_FROM = MAX_OPEN_EXCHANGES - 1
/** A close under unread bytes resets the connection, and the reset may overtake the response: nginx calls it lingering_close. */
const LINGER_MS = 1_000
const LINGER_BYTES = 1024 * 1024
/** Who has sent its end may read on (`nc -N`), or may have left: an answer may then keep us so long, up to twice. */
const HALF_OPEN_MS = 1_000
const NO_BYTES: Buffer = Buffer.alloc(0)
/** What on_headers_complete returns to llhttp: stop in front of what follows (HPE_PAUSED), or for good (HPE_CB_HEADERS_COMPLETE). */
const PAUSE_PARSER = 21
const STOP_PARSER = -1

export interface ConnectionOptions {
  /** No further request may wait behind another one, on any connection. */
  readonly isPipelineFull: () => boolean
  /** Takes one of the places for metered connections, each of which holds up to 128 KiB; false: there is none. */
  readonly tryAcquireMeter: () => boolean
  readonly releaseMeter: () => void
  /** Told when a connection is closed since it pipelines more than may be open. */
  readonly onRefused: () => void
}

/** Node's parser of one connection; no public type has it. */
interface RequestParser {
  onIncoming: (request: IncomingMessage, shouldKeepAlive: boolean) => number
  execute(bytes: Buffer): unknown
  resume(): void
}

const CONNECTION = Symbol('connection')
interface HttpSocket extends Socket {
  parser?: RequestParser | null
  /** Node waits for the client to take what is written; its parser asserts that nothing comes meanwhile. */
  _paused?: boolean
  [CONNECTION]?: Connection
}

/** The connection of a socket that was passed to `new Connection`. */
export function connectionOf(socket: HttpSocket): Connection {
  const connection = socket[CONNECTION]
  if (connection === undefined) throw new Error('this socket is no connection of a client')
  return connection
}

export class Connection {
  readonly socket: HttpSocket
  /** Called whenever a request has ended. */
  onIdle: () => void = () => {}
  readonly #options: ConnectionOptions
  /** Oldest first. */
  readonly #exchanges: Exchange[] = []
  /** Node's own listener to the input, where ours stands in front of it. */
  #parse: ((bytes: Buffer) => void) | undefined
  #hasMeter = false
  #requests = 0
  /** What stands behind the head at which the parser has stopped. */
  #rest: Buffer = NO_BYTES
  #hasInputEnded = false
  #ignoredBytes = 0

  constructor(socket: HttpSocket, options: ConnectionOptions) {
    this.socket = socket
    this.#options = options
    socket[CONNECTION] = this
    socket.once('close', () => {
      for (const exchange of this.#exchanges.slice()) exchange.connectionClosed()
      if (this.#hasMeter) options.releaseMeter()
    })
    socket.once('end', () => this.#clientEnded())
    const { parser } = socket
    if (!parser) return
    const { onIncoming } = parser
    parser.onIncoming = (request, shouldKeepAlive) => {
      if (this.#hasInputEnded || socket.writableEnded) return STOP_PARSER
      if (!this.#mayOpen()) {
        options.onRefused()
        return STOP_PARSER
      }
      const result = onIncoming(request, shouldKeepAlive)
      // Behind an upgrade llhttp stops by itself, and our response is the last one.
      const mayPause = result === 0 && request.headers.upgrade === undefined
      return mayPause && this.#mustMeter() ? PAUSE_PARSER : result
    }
  }

  /** A request began. */
  opened(exchange: Exchange): void {
    this.#exchanges.push(exchange)
    this.#requests += 1
  }

  /** One request has begun on it so far. */
  get isNew(): boolean {
    return this.#requests === 1
  }

  /** Its response ended, and its line is written. */
  ended(exchange: Exchange): void {
    // Nearly always it is the only one: no array is made of what is removed.
    if (this.#exchanges.at(-1) === exchange) this.#exchanges.pop()
    else {
      const index = this.#exchanges.lastIndexOf(exchange)
      if (index !== -1) this.#exchanges.splice(index, 1)
    }
    this.onIdle()
    if (this.#parse === undefined || this.#hasInputEnded) return
    if (!this.isBusy && this.socket.readableLength === 0) this.#unmeter(this.#parse)
    this.socket.resume()
  }

  /** A request is open. */
  get isBusy(): boolean {
    return this.#exchanges.length > 0
  }

  /** The client waits for us: its oldest request has no response yet. Those behind it wait for that one. */
  get isResponsePending(): boolean {
    return this.#exchanges[0]?.hasResponse === false
  }

  /** The newest request that has not ended. */
  get newest(): Exchange | undefined {
    return this.#exchanges.findLast(({ isEnded }) => !isEnded)
  }

  /** Another request on it was open before this one. */
  hasBefore(exchange: Exchange): boolean {
    return this.#exchanges.some((other) => other !== exchange && !other.isEnded)
  }

  /**
   * Node parses all of the 64 KiB that it reads at once, 2,400 requests of 27 bytes. From the first pause on that
   * PAUSE_PARSER made, the input comes through `#feed`, and the parser pauses at each head. `error` is what Node made of
   * the pause; false: it is another error.
   */
  meter(error: NodeJS.ErrnoException): boolean {
    if (error.code !== 'HPE_PAUSED' || !this.#hasMeter || this.#hasInputEnded) return false
    const { bytesParsed, rawPacket } = error as { bytesParsed?: number; rawPacket?: Buffer } // http, Event: 'clientError'
    const { socket } = this
    socket.parser?.resume()
    const rest = rawPacket?.subarray(bytesParsed) ?? NO_BYTES
    // Up to the next byte it would take the request for half of one, which the client's end then cuts off.
    if (rest.length === 0 && rawPacket !== undefined) socket.parser?.execute(rest)
    if (this.#parse !== undefined) {
      this.#rest = rest // #feed goes on with it
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
   * Takes the input away from Node's parser, which makes an error of every chunk behind its first one; what still comes
   * is not read before `lingeringClose`, and never looked at. False: this has happened before.
   */
  endInput(): boolean {
    if (this.#hasInputEnded) return false
    this.#hasInputEnded = true
    this.socket.pause() // stops the descriptor, where Node's parser reads it
    this.#takeInput(this.#ignore)
    this.socket.removeAllListeners('end') // the stream closes by itself once both ends have
    return true
  }

  /** Sends our end behind what was written, and closes once the client has ended too, or goes on for too long. Repeatable. */
  lingeringClose(): void {
    const { socket } = this
    if (socket.writableEnded) return
    this.endInput()
    socket.end()
    const timer = setTimeout(() => socket.destroy(), LINGER_MS)
    socket.once('close', () => clearTimeout(timer))
    this.#resumeReading()
  }

  /** It is owed what it has asked for, but nobody tells us when it has left: an answer that is long in coming is none. */
  #clientEnded(): void {
    let [before] = this.#exchanges
    if (before === undefined) return
    const look = () => {
      const [oldest] = this.#exchanges
      if (oldest === before && this.isResponsePending) this.socket.destroy()
      before = oldest
    }
    const timer = setInterval(look, HALF_OPEN_MS)
    this.socket.once('close', () => clearInterval(timer))
  }

  #mayOpen(): boolean {
    if (this.#exchanges.length >= MAX_OPEN_EXCHANGES) return false
    return this.newest === undefined || !this.#options.isPipelineFull()
  }

  #mustMeter(): boolean {
    if (this.#hasMeter) return true
    if (this.#exchanges.length < METERED_FROM) return false
    this.#hasMeter = this.#options.tryAcquireMeter()
    return this.#hasMeter
  }

  /** Nothing of it waits any more: gives the input back to Node, and the place to others. */
  #unmeter(parse: (bytes: Buffer) => void): void {
    this.#takeInput(parse)
    this.#parse = undefined
    this.#hasMeter = false
    this.#options.releaseMeter()
  }

  /**
   * Gives the input to `listener`, from the next `resume` on. Node's parser reads the descriptor itself until somebody
   * listens to `data`.
   */
  #takeInput(listener: (bytes: Buffer) => void): void {
    this.socket.removeAllListeners('data')
    this.socket.on('data', listener)
    this.socket.pause()
  }

  /**
   * Reads again after the input was taken from Node's parser. The parser read the descriptor itself, so the stream still
   * waits for its first read; where Node had stopped the descriptor meanwhile, only the end of that read starts it again.
   */
  #resumeReading(): void {
    this.socket.resume()
    this.socket.push('')
  }

  readonly #feed = (bytes: Buffer): void => {
    const { socket } = this
    let rest = bytes
    while (rest.length > 0 && !this.#hasInputEnded) {
      // The older ones end by themselves: they do not wait for the body of the newest.
      if (this.#exchanges.length >= METERED_FROM || socket._paused) {
        socket.pause()
        socket.unshift(rest)
        return
      }
      this.#rest = NO_BYTES
      this.#parse?.(rest)
      rest = this.#rest
    }
  }

  readonly #ignore = ({ length }: Buffer): void => {
    this.#ignoredBytes += length
    if (this.#ignoredBytes > LINGER_BYTES) this.socket.destroy()
  }
}

/** Call it before a response that closes the connection: an unread request body must not reset it and lose the response. */
export function lingeringCloseAfter(request: IncomingMessage): void {
  const { socket } = request
  const { destroySoon } = socket
  // Node calls it behind a response with `Connection: close`.
  socket.destroySoon = () =>
    request.complete ? destroySoon.call(socket) : connectionOf(socket).lingeringClose()
}

/** Nobody reads a response any more: the client has left, or ended within a request. */
export function isCutOff({ code }: NodeJS.ErrnoException): boolean {
  return code === 'HPE_INVALID_EOF_STATE' || code === 'ECONNRESET'
}
