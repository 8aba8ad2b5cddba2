/**
 * Closes connections one after another. The system frees in close(2) what nobody has read: 25,000 packets of one byte take 3 to
 * 5 ms, and up to 55 on a busy machine. Ten in one turn of the event loop delayed /healthz by 182 ms.
 */
import { PAUSE_MS } from '../../lib/throttle.ts'
import type { HttpSocket, SocketHandle } from './node-parser.ts'

/** Once closing has taken this long, there is a pause. */
const CLOSING_MS = 2

export class PacedCloses {
  readonly #nowMs: () => number
  readonly #pause: (run: () => void) => unknown
  /** Oldest first; at most one of each socket. */
  readonly #waiting: (() => unknown)[] = []

  /** `nowMs` is monotonic. `pause` calls `run` later. */
  constructor(
    nowMs: () => number,
    pause: (run: () => void) => unknown = (run) => setTimeout(run, PAUSE_MS),
  ) {
    this.#nowMs = nowMs
    this.#pause = pause
  }

  /**
   * Has the socket wait for its turn if `mayHoldInput` when it is destroyed. It is destroyed at once and reads nothing more; only
   * its descriptor closes later, and `close` is emitted then. To defer `_destroy` instead would leave Node to read for a
   * destroyed socket, which throws.
   */
  pace(socket: HttpSocket, mayHoldInput: () => boolean): void {
    const { _destroy: destroy } = socket
    socket._destroy = (error, done) => {
      const { _handle: handle } = socket
      if (handle && mayHoldInput()) this.#defer(handle)
      destroy.call(socket, error, done)
    }
  }

  #defer(handle: SocketHandle): void {
    const { close, reset } = handle
    handle.readStop()
    handle.close = (done) => this.#add(() => close.call(handle, done))
    handle.reset = (done) => {
      this.#add(() => reset.call(handle, done))
      return 0
    }
  }

  #add(close: () => unknown): void {
    if (this.#waiting.push(close) === 1) this.#pause(this.#run)
  }

  readonly #run = (): void => {
    const sinceMs = this.#nowMs()
    do this.#waiting.shift()?.()
    while (this.#waiting.length > 0 && this.#nowMs() - sinceMs < CLOSING_MS)
    if (this.#waiting.length > 0) this.#pause(this.#run)
  }
}
