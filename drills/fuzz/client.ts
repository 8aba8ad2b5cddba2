/** The fuzzer's connections: each sends its requests in the given manner and judges the responses. */
import { connect, type Socket } from 'node:net'
import { setImmediate as nextTurn, setTimeout as wait } from 'node:timers/promises'
import {
  isLive,
  MalformedResponseError,
  StrictReader,
  type StrictResponse,
} from '../../testkit/http/strict-reader.ts'
import { type FuzzManner, MOST_OPEN, PLAIN } from './delivery.ts'
import { isWholeHead, judge } from './oracle.ts'
import type { FuzzRequest } from './requests.ts'

export interface FuzzListener {
  /** A complete response other than 100. */
  onAnswer(request: FuzzRequest, response: StrictResponse): void
  /** A further response, because damage split the request. */
  onFurtherAnswer(response: StrictResponse): void
  /** A mutated request that was incomplete: closed without a response. */
  onSilence(request: FuzzRequest): void
  onFault(request: FuzzRequest, what: string): void
}

/** Time-out for a whole request on the slowest machine, one that waits for a command included. */
const ANSWER_MS = 60_000
/** Without a response by then, the service waits for more of the request: the client half-closes. */
const PATIENCE_MS = 40
/** The server closes within this after a half-close, or after a response that announces it. */
const CLOSE_MS = 8_000
const MOST_WRITES = 100
const MOST_PIECE_BYTES = 20
const UNREAD_MS = 20

export class FuzzClient {
  readonly #address: { readonly host: string; readonly port: number }
  readonly #listener: FuzzListener
  #socket: Socket | undefined
  #reader = new StrictReader()
  /** The last response said that the connection ends. */
  #isEnding = false
  /** Requests under way that were sent together. */
  #together = 1
  #wake: () => void = () => {}

  constructor(origin: string, listener: FuzzListener) {
    const { hostname, port } = new URL(origin)
    this.#address = { host: hostname, port: Number(port) }
    this.#listener = listener
  }

  /** Never rejects. Sends all at once; several requests, or one with junk behind it, are each whole. */
  async send(requests: readonly FuzzRequest[], manner: FuzzManner = PLAIN): Promise<void> {
    const [request, ...behind] = requests
    if (request === undefined) return
    try {
      this.#together = requests.length
      await this.#write(requests, manner)
      if (request.isAborted) await nextTurn()
      else if (request.isMutated) await this.#readMutated(request)
      else return await this.#readPlain(request, behind, manner)
    } catch (error) {
      const isTheirs = error instanceof MalformedResponseError
      this.#listener.onFault(request, isTheirs ? error.message : String(error))
    }
    this.close()
  }

  /** Resets: that many half-closed connections would use up the local ports. */
  close(): void {
    this.#socket?.resetAndDestroy()
    this.#socket = undefined
  }

  async #write(requests: readonly FuzzRequest[], manner: FuzzManner): Promise<void> {
    const socket = this.#open()
    if (manner.isUnread) socket.pause()
    const bytes = Buffer.concat(requests.map((request) => request.bytes))
    const index = requests[0]?.index ?? 0
    const pieceBytes = {
      one: bytes.length,
      two: index % bytes.length,
      many: 1 + (index % MOST_PIECE_BYTES),
    }
    let at = 0
    for (let writes = 1; at < bytes.length; writes += 1) {
      const isRest = writes === (manner.writes === 'many' ? MOST_WRITES : 2)
      const size = isRest ? bytes.length : pieceBytes[manner.writes]
      socket.write(bytes.subarray(at, at + size))
      at += size
      if (at < bytes.length) await nextTurn()
    }
    if (manner.junk !== null) socket.write(manner.junk)
    if (!manner.isUnread) return
    await wait(UNREAD_MS)
    socket.resume()
  }

  #open(): Socket {
    if (this.#socket !== undefined && !this.#socket.destroyed) return this.#socket
    const socket = connect({ ...this.#address, noDelay: true })
    this.#socket = socket
    this.#reader = new StrictReader()
    const reader = this.#reader
    socket.on('data', (bytes: Buffer) => {
      reader.push(bytes)
      this.#wake()
    })
    socket.on('error', () => {}) // a reset is also a close
    socket.on('close', () => this.#wake())
    return socket
  }

  /** Reads exactly one response for each, in order; then the connection serves or ends, as the last response said. */
  async #readPlain(
    request: FuzzRequest,
    behind: readonly FuzzRequest[],
    manner: FuzzManner,
  ): Promise<void> {
    const response = await this.#answer(request.isHead, ANSWER_MS)
    if (response === undefined) throw this.#noAnswer()
    this.#judge(request, response)
    if (isLive(response) && !request.isHead) {
      this.close()
      for (const unserved of behind) await this.send([unserved])
      return
    }
    this.#isEnding = response.headers.get('connection') === 'close'
    const [next, ...rest] = behind
    if (!this.#isEnding && next !== undefined) return await this.#readBehind(next, rest, manner)
    if (manner.junk !== null) await this.#readRefusal(request)
    // The parser's own refusals have a body, even for a HEAD.
    else if (!this.#reader.isBetweenAnswers && !(this.#isEnding && request.isHead)) {
      throw new Error('bytes behind the answer')
    }
    if (!this.#isEnding && manner.junk === null) return
    if (!(await this.#until(() => this.#isClosed, CLOSE_MS))) {
      throw new Error(`not closed after ${response.status}`)
    }
    for (const unserved of behind) await this.send([unserved])
  }

  /** Bytes after the last request that are not HTTP get 400 or nothing. */
  async #readRefusal(request: FuzzRequest): Promise<void> {
    const refusal = await this.#answer(false, CLOSE_MS)
    if (refusal === undefined) return
    this.#listener.onFurtherAnswer(refusal)
    const isRight = [400, 431].includes(refusal.status)
    if (!isRight) throw new Error(`bytes that are no HTTP were answered with ${refusal.status}`)
    for (const fault of judge({ ...request, isMutated: true }, refusal)) {
      this.#listener.onFault(request, fault)
    }
  }

  /**
   * A response that ends its connection may cost the requests behind it; so may sending more than may be open. Such a
   * request is sent again, alone.
   */
  async #readBehind(
    request: FuzzRequest,
    behind: readonly FuzzRequest[],
    manner: FuzzManner,
  ): Promise<void> {
    const mayClose = this.#together > MOST_OPEN
    const isThere = () => !this.#reader.isBetweenAnswers || this.#isClosed
    await this.#until(isThere, ANSWER_MS)
    if (!this.#reader.isBetweenAnswers || !this.#isClosed) {
      try {
        return await this.#readPlain(request, behind, manner)
      } catch (error) {
        this.#listener.onFault(request, `behind another: ${error}`)
        this.close()
        return
      }
    }
    await this.send([request])
    if (!this.#isEnding && !mayClose)
      this.#listener.onFault(request, 'no answer behind another request')
    for (const unserved of behind) await this.send([unserved])
  }

  async #readMutated(request: FuzzRequest): Promise<void> {
    const text = request.bytes.toString('latin1')
    const isHead = /^\s*HEAD /.test(text)
    const isWhole = isWholeHead(text)
    let response = await this.#answer(isHead, isWhole ? ANSWER_MS : PATIENCE_MS)
    if (response === undefined && isWhole) throw this.#noAnswer()
    if (response === undefined && !this.#isClosed) {
      this.#socket?.end()
      response = await this.#answer(isHead, CLOSE_MS)
      if (response === undefined && !this.#isClosed) throw new Error('neither answered nor closed')
    }
    if (response === undefined) return this.#listener.onSilence(request)
    this.#judge(request, response)
    // Only the bytes tell which responses to a HEAD have a body.
    if (!text.includes('HEAD ') && !isLive(response)) await this.#readFurther(request)
  }

  #noAnswer(): Error {
    const end = this.#isClosed ? 'the connection was closed' : `${ANSWER_MS / 1_000} s passed`
    return new Error(`no answer to a whole request: ${end}`)
  }

  /** Reads all further responses; each must be well formed. */
  async #readFurther(request: FuzzRequest): Promise<void> {
    this.#socket?.end()
    for (;;) {
      const response = await this.#answer(false, CLOSE_MS)
      if (response === undefined) break
      this.#listener.onFurtherAnswer(response)
      for (const fault of judge(request, response)) this.#listener.onFault(request, fault)
    }
    if (!this.#isClosed) throw new Error('not closed after its end')
  }

  #judge(request: FuzzRequest, response: StrictResponse): void {
    this.#listener.onAnswer(request, response)
    for (const fault of judge(request, response)) this.#listener.onFault(request, fault)
  }

  /** The next final response; undefined if none comes in time or before the close. */
  async #answer(isHead: boolean, timeoutMs: number): Promise<StrictResponse | undefined> {
    let response: StrictResponse | undefined
    await this.#until(() => {
      do response = this.#reader.next(isHead)
      while (response !== undefined && response.status < 200)
      return response !== undefined || this.#isClosed
    }, timeoutMs)
    return response
  }

  get #isClosed(): boolean {
    return this.#socket?.closed ?? true
  }

  /** Whether it held in time. Rejects with what `holds` throws. */
  #until(holds: () => boolean, timeoutMs: number): Promise<boolean> {
    return new Promise((resolve, reject) => {
      const look = (isOver: boolean) => {
        try {
          const isHeld = holds()
          if (!isHeld && !isOver) return
          resolve(isHeld)
        } catch (error) {
          reject(error)
        }
        clearTimeout(timer)
        this.#wake = () => {}
      }
      const timer = setTimeout(() => look(true), timeoutMs)
      this.#wake = () => look(false)
      look(false)
    })
  }
}
