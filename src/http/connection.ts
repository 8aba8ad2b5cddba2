/**
 * One client connection: the requests that are open on it, and the point from which its input is ignored.
 *
 * reading → metered (it pipelines) → input ended (a parser error, or the connection closes) → closing (our end is sent,
 * input is discarded for a moment) → closed. Each state may be skipped, none comes back.
 */
import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { Exchange } from './exchange.ts'

/** Requests of one connection that are open at once; the socket is not read any further before one of them has ended. */
const MAX_OPEN_EXCHANGES = 16
/** A piece of metered input may complete a head that an earlier piece began, and bring one of its own. */
const METERED_FROM = MAX_OPEN_EXCHANGES - 2
/** A close under unread bytes resets the connection, and the reset may overtake the response: nginx calls it lingering_close. */
const LINGER_MS = 1_000
const LINGER_BYTES = 1024 * 1024
const HEAD_END = '\r\n\r\n'
/** What on_headers_complete returns to llhttp: stop in front of what follows (HPE_PAUSED), or for good (HPE_CB_HEADERS_COMPLETE). */
const PAUSE_PARSER = 21
const STOP_PARSER = -1

export interface ConnectionOptions {
  /** No further request may wait behind another one, on any connection. */
  readonly isCrowded: () => boolean
  /** Takes one of the places for metered connections, each of which holds up to 128 KiB; false: there is none. */
  readonly takeMeter: () => boolean
  readonly giveMeterBack: () => void
  /** Told when a connection is closed since it pipelines more than may be open. */
  readonly refused: () => void
}

/** Node's parser of one connection; no public type has it. */
interface RequestParser {
  onIncoming: (request: IncomingMessage, shouldKeepAlive: boolean) => number
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
  /** Of metered input: what is still to come of the newest request's body, where its length is known. */
  #bodyBytesLeft = 0
  #hasInputEnded = false
  #ignoredBytes = 0

  constructor(socket: HttpSocket, options: ConnectionOptions) {
    this.socket = socket
    this.#options = options
    socket[CONNECTION] = this
    socket.once('close', () => {
      for (const exchange of this.#exchanges.slice()) exchange.connectionClosed()
      if (this.#hasMeter) options.giveMeterBack()
    })
    const { parser } = socket
    if (!parser) return
    const { onIncoming } = parser
    parser.onIncoming = (request, shouldKeepAlive) => {
      if (this.#hasInputEnded || socket.writableEnded) return STOP_PARSER
      if (!this.#mayOpen()) {
        options.refused()
        return STOP_PARSER
      }
      const result = onIncoming(request, shouldKeepAlive)
      return result === 0 && this.#mustMeter() ? PAUSE_PARSER : result
    }
  }

  /** A request began. */
  opened(exchange: Exchange): void {
    this.#exchanges.push(exchange)
  }

  /** Its response ended, and its line is written. */
  ended(exchange: Exchange): void {
    const index = this.#exchanges.lastIndexOf(exchange)
    if (index !== -1) this.#exchanges.splice(index, 1)
    this.onIdle()
    if (this.#parse !== undefined && !this.#hasInputEnded) this.socket.resume()
  }

  /** A request is open. */
  get isBusy(): boolean {
    return this.#exchanges.length > 0
  }

  /** The client waits for us: its oldest request has no response yet. Those behind it wait for that one. */
  get isOurTurn(): boolean {
    return this.#exchanges[0]?.isAnswered === false
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
   * Node parses all of the 64 KiB that it reads at once, 2,400 requests of 27 bytes. From the pause on that
   * PAUSE_PARSER made, the input comes through `#feed`, head by head. `error` is what Node made of the pause; false: it
   * is another error.
   */
  meter(error: NodeJS.ErrnoException): boolean {
    if (error.code !== 'HPE_PAUSED' || !this.#hasMeter || this.#parse !== undefined) return false
    const { bytesParsed, rawPacket } = error as { bytesParsed?: number; rawPacket?: Buffer } // http, Event: 'clientError'
    const { socket } = this
    const [parse] = socket.listeners('data')
    this.#takeInput(this.#feed)
    this.#parse = parse as (bytes: Buffer) => void
    this.#bodyBytesLeft = bodyBytesOf(this.#exchanges.at(-1))
    socket.parser?.resume()
    const rest = rawPacket?.subarray(bytesParsed)
    if (rest !== undefined && rest.length > 0) socket.unshift(rest)
    socket.resume()
    return true
  }

  /**
   * Takes the input away from Node's parser, which makes an error of every chunk behind its first one; what still comes
   * is not read before `closeGently`, and never looked at. False: this has happened before.
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
  closeGently(): void {
    const { socket } = this
    if (socket.writableEnded) return
    this.endInput()
    socket.end()
    const timer = setTimeout(() => socket.destroy(), LINGER_MS)
    socket.once('close', () => clearTimeout(timer))
    socket.resume()
    socket.push('') // the stream waits for a read of its own that Node's parser took: starts the descriptor again
  }

  #mayOpen(): boolean {
    const open = this.#exchanges.length
    return open === 0 || (open < MAX_OPEN_EXCHANGES && !this.#options.isCrowded())
  }

  #mustMeter(): boolean {
    if (this.#hasMeter || this.#exchanges.length < METERED_FROM) return false
    this.#hasMeter = this.#options.takeMeter()
    return this.#hasMeter
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

  readonly #feed = (bytes: Buffer): void => {
    const { socket } = this
    let rest = bytes
    while (rest.length > 0 && !this.#hasInputEnded) {
      if (this.#isFull || socket._paused) {
        socket.pause()
        socket.unshift(rest)
        return
      }
      const piece = rest.subarray(0, this.#pieceBytes(rest))
      rest = rest.subarray(piece.length)
      this.#bodyBytesLeft = Math.max(0, this.#bodyBytesLeft - piece.length)
      const before = this.#exchanges.at(-1)
      this.#parse?.(piece)
      const newest = this.#exchanges.at(-1)
      if (newest !== before) this.#bodyBytesLeft = bodyBytesOf(newest)
    }
  }

  /** To the end of a body of known length, else to the end of a head or of a chunked body. */
  #pieceBytes(bytes: Buffer): number {
    if (this.#bodyBytesLeft > 0) return this.#bodyBytesLeft
    const headEnd = bytes.indexOf(HEAD_END)
    return headEnd === -1 ? bytes.length : headEnd + HEAD_END.length
  }

  /** No further request may be read; the body of the newest may. */
  get #isFull(): boolean {
    const isNewestWhole = this.#exchanges.at(-1)?.request.complete !== false
    return this.#exchanges.length >= METERED_FROM && isNewestWhole
  }

  readonly #ignore = ({ length }: Buffer): void => {
    this.#ignoredBytes += length
    if (this.#ignoredBytes > LINGER_BYTES) this.socket.destroy()
  }
}

function bodyBytesOf(exchange: Exchange | undefined): number {
  return Number(exchange?.request.headers['content-length'] ?? 0)
}

/** Call it before a response that closes the connection: an unread request body must not reset it and lose the response. */
export function closeGentlyAfter(request: IncomingMessage): void {
  const { socket } = request
  const { destroySoon } = socket
  // Node calls it behind a response with `Connection: close`.
  socket.destroySoon = () =>
    request.complete ? destroySoon.call(socket) : connectionOf(socket).closeGently()
}

/** Nobody reads a response any more: the client has left, or ended within a request. */
export function isCutOff({ code }: NodeJS.ErrnoException): boolean {
  return code === 'HPE_INVALID_EOF_STATE' || code === 'ECONNRESET'
}
