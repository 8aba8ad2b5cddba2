/** One keep-alive socket of the load generator: one request at a time; each is settled exactly once. */
import { connect, type Socket } from 'node:net'
import { ResponseReader, type WireResponse } from '../../testkit/http/response-reader.ts'

/** undefined: without a whole response. */
export type Settle = (response: WireResponse | undefined) => void

export class LoadConnection {
  readonly #socket: Socket
  readonly #reader = new ResponseReader()
  #settle: Settle | undefined
  #isOpen = true

  /** `onClosed` is called once, after the current request was settled. */
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

  /** false: it takes no more requests. */
  get isOpen(): boolean {
    return this.#isOpen
  }

  /** Only if no request is under way. */
  send(request: string, settle: Settle): void {
    this.#settle = settle
    this.#socket.write(request)
  }

  /** Settles the current request without a response. */
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

/** undefined: incomplete so far. */
function readOf(reader: ResponseReader, piece: Buffer): WireResponse | 'no HTTP' | undefined {
  try {
    return reader.push(piece)
  } catch {
    return 'no HTTP'
  }
}
