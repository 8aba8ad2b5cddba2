/**
 * The input of one connection.
 *
 * direct (Node's parser reads the descriptor) ⇄ fed (the input comes through `#feed`, and the parser pauses at each head) →
 * ended (bytes that still come are discarded).
 */
import type { IncomingMessage } from 'node:http'
import { freeMemory } from '../../lib/free-memory.ts'
import { type HttpSocket, PAUSE_PARSER, type ParserError } from './node-parser.ts'
import { watchChunks } from './small-chunks.ts'

/** The parser gets this much at a time, as it cannot be stopped within a body. A larger rest of a body waits for its reader. */
const SLICE_BYTES = 2_048
const NO_BYTES: Buffer = Buffer.alloc(0)

export interface InputOptions {
  /** No further request may begin now. */
  readonly isFull: () => boolean
  /** Called when all input so far has been parsed. */
  readonly onFed: () => void
  /** Called when a body has too many small chunks, perhaps repeatedly. */
  readonly onSmallChunks: () => void
  /** Takes the input once it has ended. */
  readonly discard: (bytes: Buffer) => void
}

export class Input {
  readonly #socket: HttpSocket
  readonly #options: InputOptions
  /** Node's own `data` listener, while the input is fed. */
  #parse: ((bytes: Buffer) => void) | undefined
  /** The parser pauses at a head. */
  #isStepping = false
  /** The newest request whose body comes in chunks, until somebody begins to read it. */
  #unread: IncomingMessage | undefined
  #hasSmallChunks = false
  /** The bytes behind the head at which the parser has paused. */
  #rest: Buffer = NO_BYTES
  #hasEnded = false

  constructor(socket: HttpSocket, options: InputOptions) {
    this.#socket = socket
    this.#options = options
  }

  /** Nothing is parsed any more. */
  get hasEnded(): boolean {
    return this.#hasEnded
  }

  /** Node's parser does not read the descriptor itself. */
  get isTaken(): boolean {
    return this.#hasEnded || this.#parse !== undefined
  }

  /** A body had too many small chunks. */
  get hasSmallChunks(): boolean {
    return this.#hasSmallChunks
  }

  /** The parser pauses at this head and at each one behind it. Returns what its callback must return. */
  step(): number {
    this.#isStepping = true
    return PAUSE_PARSER
  }

  /** The body comes in chunks. A large one is not parsed before somebody reads it. */
  holdBody(request: IncomingMessage): void {
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

  /**
   * Node parses all of the 64 KiB that it reads at once, up to 2,400 requests of 27 bytes, or 10,900 chunks of one. After
   * the first pause that `step` causes, the input is fed. `error` is Node's report of the pause. For any other error, frees
   * its copy of the input and returns false.
   */
  meter(error: ParserError): boolean {
    const { bytesParsed, rawPacket = NO_BYTES } = error
    if (error.code !== 'HPE_PAUSED' || !this.#isStepping || this.#hasEnded) {
      freeMemory(rawPacket)
      return false
    }
    const socket = this.#socket
    socket.parser?.resume()
    const rest = rawPacket.subarray(bytesParsed)
    // Until the next byte the parser would treat the request as incomplete, and a half-close would cut it off.
    if (rest.length === 0 && rawPacket.length > 0) socket.parser?.execute(rest)
    if (this.#parse !== undefined) {
      this.#rest = rest // #feed continues with it
      return true
    }
    const [parse] = socket.listeners('data')
    this.#take(this.#feed)
    this.#parse = parse as (bytes: Buffer) => void
    if (rest.length > 0) socket.unshift(rest)
    this.resume()
    return true
  }

  /** Goes on with what `isFull` has stopped. */
  feedOn(): void {
    if (this.#parse !== undefined && !this.#hasEnded) this.#socket.resume()
  }

  /** Returns fed input to Node's parser, unless some still waits. False: nothing was returned. */
  giveBack(): boolean {
    if (this.#parse === undefined || this.#hasEnded || this.#socket.readableLength > 0) return false
    this.#take(this.#parse)
    this.#socket.resume()
    this.#parse = undefined
    this.#isStepping = false
    return true
  }

  /**
   * Takes the input from Node's parser, which reports an error for every chunk after its first one. Nothing is read before
   * `resume`. False: it had ended.
   */
  end(): boolean {
    if (this.#hasEnded) return false
    this.#hasEnded = true
    this.#socket.pause() // stops the descriptor, which Node's parser reads directly
    this.#take(this.#options.discard)
    this.#socket.removeAllListeners('end') // Node's own would finish the parser
    return true
  }

  /**
   * Resumes reading after the input was taken from Node's parser. The parser read the descriptor directly, so the stream
   * still waits for its first read; if Node stopped the descriptor meanwhile, only the end of that read starts it again.
   */
  resume(): void {
    this.#socket.resume()
    this.#socket.push('')
  }

  /**
   * Gives the input to `listener` from the next `resume` on. Node's parser reads the descriptor directly until a `data`
   * listener is added.
   */
  #take(listener: (bytes: Buffer) => void): void {
    this.#socket.removeAllListeners('data')
    this.#socket.on('data', listener)
    this.#socket.pause()
  }

  readonly #feed = (bytes: Buffer): void => {
    const socket = this.#socket
    for (let at = 0; at < bytes.length && !this.#hasEnded; ) {
      const isUnread = this.#unread?.complete === false && bytes.length - at > SLICE_BYTES
      if (this.#options.isFull() || isUnread || socket._paused || socket.isPaused()) {
        socket.pause()
        socket.unshift(bytes.subarray(at))
        return
      }
      const slice = bytes.subarray(at, at + SLICE_BYTES)
      this.#rest = NO_BYTES
      this.#parse?.(slice)
      at += slice.length - this.#rest.length
      if (this.#hasSmallChunks) this.#options.onSmallChunks()
    }
    freeMemory(bytes)
    this.#options.onFed()
  }
}
