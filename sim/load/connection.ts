/** One keep-alive socket of the load generator: one request at a time, and every request is settled exactly once. */
import { connect, type Socket } from 'node:net'
import { ResponseReader, type WireResponse } from '../../testkit/http/response-reader.ts'

/** undefined: no whole answer came. */
export type Settle = (response: WireResponse | undefined) => void

export class LoadConnection {
  readonly #socket: Socket
  readonly #reader = new ResponseReader()
  #settle: Settle | undefined
  #isOpen = true

  /** `onClosed` comes once, after the request under way was settled. */
  constructor(address: { host: string; port: number }, onClosed: (closed: LoadConnection) => void) {
    this.#socket = connect({ ...address, noDelay: true })
    this.#socket.on('data', (piece) => this.#read(piece))
    this.#socket.on('end', () => {
      this.#isOpen = false
      this.#finish(this.#reader.end())
    })
    this.#socket.on('error', () => {}) // 'close' follows
    this.#socket.on('close', () => {
      this.#isOpen = false
      this.#finish(undefined)
      onClosed(this)
    })
  }

  /** False: it takes no more requests. */
  get isOpen(): boolean {
    return this.#isOpen
  }

  /** Only where nothing is under way. */
  send(request: string, settle: Settle): void {
    this.#settle = settle
    this.#socket.write(request)
  }

  /** What is under way gets no answer. */
  destroy(): void {
    this.#isOpen = false
    this.#socket.destroy()
  }

  #read(piece: Buffer): void {
    const response = this.#settle === undefined ? 'unasked' : readOf(this.#reader, piece)
    if (response === undefined) return
    if (typeof response === 'string' || !response.keepsAlive) this.destroy()
    if (typeof response === 'object') this.#finish(response)
  }

  #finish(response: WireResponse | undefined): void {
    const settle = this.#settle
    this.#settle = undefined
    settle?.(response)
  }
}

/** undefined: it is not whole yet. */
function readOf(reader: ResponseReader, piece: Buffer): WireResponse | 'no HTTP' | undefined {
  try {
    return reader.push(piece)
  } catch {
    return 'no HTTP'
  }
}
