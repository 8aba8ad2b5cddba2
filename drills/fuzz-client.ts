/** One connection after another of the fuzzer: sends what it is given, however that ends, and judges what comes back. */
import { connect, type Socket } from 'node:net'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { isWholeHead, judge } from './fuzz-oracle.ts'
import { type FuzzAnswer, FuzzReader, MalformedAnswerError } from './fuzz-reader.ts'
import type { FuzzRequest } from './fuzz-requests.ts'

export interface FuzzListener {
  /** A whole answer, but 100. */
  onAnswer(request: FuzzRequest, answer: FuzzAnswer): void
  /** One more: damage had made more requests of one. */
  onFurtherAnswer(answer: FuzzAnswer): void
  /** A mutated request that was no whole one: closed without an answer. */
  onSilence(request: FuzzRequest): void
  onFault(request: FuzzRequest, what: string): void
}

/** A whole request is answered within this, on the slowest machine, also one that waits for news as long as it may. */
const ANSWER_MS = 60_000
/** What has no answer by then waits for more of the request: the end is sent. */
const PATIENCE_MS = 40
/** After an end, or after an answer that says so, the server closes within this. */
const CLOSE_MS = 8_000
const SPLIT = 0.15

export class FuzzClient {
  readonly #address: { readonly host: string; readonly port: number }
  readonly #listener: FuzzListener
  #socket: Socket | undefined
  #reader = new FuzzReader()
  /** The last answer said that the connection ends. */
  #isEnding = false
  #wake: () => void = () => {}

  constructor(origin: string, listener: FuzzListener) {
    const { hostname, port } = new URL(origin)
    this.#address = { host: hostname, port: Number(port) }
    this.#listener = listener
  }

  /** Never rejects. What is `behind` it goes out with it, before any answer; all are whole then. */
  async send(request: FuzzRequest, ...behind: readonly FuzzRequest[]): Promise<void> {
    try {
      await this.#write([request, ...behind])
      if (request.isAborted) await nextTurn()
      else if (request.isMutated) await this.#readMutated(request)
      else return await this.#readPlain(request, behind)
    } catch (error) {
      const isTheirs = error instanceof MalformedAnswerError
      this.#listener.onFault(request, isTheirs ? error.message : String(error))
    }
    this.close()
  }

  /** A reset, not an end: so many ends would leave no local port free. */
  close(): void {
    this.#socket?.resetAndDestroy()
    this.#socket = undefined
  }

  async #write(requests: readonly FuzzRequest[]): Promise<void> {
    const socket = this.#open()
    const bytes = Buffer.concat(requests.map((request) => request.bytes))
    const index = requests[0]?.index ?? 0
    if ((index % 100) / 100 >= SPLIT) {
      socket.write(bytes)
      return
    }
    const at = index % (bytes.length + 1)
    socket.write(bytes.subarray(0, at))
    await nextTurn()
    socket.write(bytes.subarray(at))
  }

  #open(): Socket {
    if (this.#socket !== undefined && !this.#socket.destroyed) return this.#socket
    const socket = connect({ ...this.#address, noDelay: true })
    this.#socket = socket
    this.#reader = new FuzzReader()
    const reader = this.#reader
    socket.on('data', (bytes: Buffer) => {
      reader.push(bytes)
      this.#wake()
    })
    socket.on('error', () => {}) // a reset is also a close
    socket.on('close', () => this.#wake())
    return socket
  }

  /** Exactly one answer each, in their order, and then a connection that serves or ends, as the last answer said. */
  async #readPlain(request: FuzzRequest, behind: readonly FuzzRequest[]): Promise<void> {
    const answer = await this.#answer(request.isHead, ANSWER_MS)
    if (answer === undefined) throw new Error('no answer to a whole request')
    this.#judge(request, answer)
    this.#isEnding = answer.headers.get('connection') === 'close'
    if (!this.#isEnding) {
      const [next, ...rest] = behind
      if (next !== undefined) return await this.#readBehind(next, rest)
    }
    // What the parser itself refuses is answered with a body, also to a HEAD.
    if (!this.#reader.isBetweenAnswers && !(this.#isEnding && request.isHead)) {
      throw new Error('bytes behind the answer')
    }
    if (!this.#isEnding) return
    if (!(await this.#until(() => this.#isClosed, CLOSE_MS))) {
      throw new Error(`not closed after ${answer.status}`)
    }
    for (const unserved of behind) await this.send(unserved)
  }

  /** What ends its connection may take away its place behind another, and only that. It is asked again, alone. */
  async #readBehind(request: FuzzRequest, behind: readonly FuzzRequest[]): Promise<void> {
    const isThere = () => !this.#reader.isBetweenAnswers || this.#isClosed
    await this.#until(isThere, ANSWER_MS)
    if (!this.#reader.isBetweenAnswers || !this.#isClosed) {
      try {
        return await this.#readPlain(request, behind)
      } catch (error) {
        this.#listener.onFault(request, `behind another: ${error}`)
        this.close()
        return
      }
    }
    await this.send(request)
    if (!this.#isEnding) this.#listener.onFault(request, 'no answer behind another request')
    for (const unserved of behind) await this.send(unserved)
  }

  async #readMutated(request: FuzzRequest): Promise<void> {
    const text = request.bytes.toString('latin1')
    const isHead = /^\s*HEAD /.test(text)
    const isWhole = isWholeHead(text)
    let answer = await this.#answer(isHead, isWhole ? ANSWER_MS : PATIENCE_MS)
    if (answer === undefined && isWhole) throw new Error('no answer to a whole request')
    if (answer === undefined && !this.#isClosed) {
      this.#socket?.end()
      answer = await this.#answer(isHead, CLOSE_MS)
      if (answer === undefined && !this.#isClosed) throw new Error('neither answered nor closed')
    }
    if (answer === undefined) return this.#listener.onSilence(request)
    this.#judge(request, answer)
    // Whose answers have a body only the bytes tell.
    if (!text.includes('HEAD ')) await this.#readFurther(request)
  }

  /** What else damage made of it: answers to their end, each well formed. */
  async #readFurther(request: FuzzRequest): Promise<void> {
    this.#socket?.end()
    for (;;) {
      const answer = await this.#answer(false, CLOSE_MS)
      if (answer === undefined) break
      this.#listener.onFurtherAnswer(answer)
      for (const fault of judge(request, answer)) this.#listener.onFault(request, fault)
    }
    if (!this.#isClosed) throw new Error('not closed after its end')
  }

  #judge(request: FuzzRequest, answer: FuzzAnswer): void {
    this.#listener.onAnswer(request, answer)
    for (const fault of judge(request, answer)) this.#listener.onFault(request, fault)
  }

  /** The next one that is final; undefined: none within so long, or before the close. */
  async #answer(isHead: boolean, timeoutMs: number): Promise<FuzzAnswer | undefined> {
    let answer: FuzzAnswer | undefined
    await this.#until(() => {
      do answer = this.#reader.next(isHead)
      while (answer !== undefined && answer.status < 200)
      return answer !== undefined || this.#isClosed
    }, timeoutMs)
    return answer
  }

  get #isClosed(): boolean {
    return this.#socket?.closed ?? true
  }

  /** Whether it held within so long. Rejects with what `holds` throws. */
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
