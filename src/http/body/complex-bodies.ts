/**
 * Bodies that take long to parse. JSON.parse holds the event loop and cannot be divided: 64 KiB of arrays, or of objects with
 * ever new names, take 8 to 14 ms, and up to 1.8 MiB. 100 of them a second delayed /healthz by 11.5 s. 64 KiB of text take
 * 0.1 ms.
 */
import { AppError } from '../../domain/errors.ts'
import { withFailedCall } from '../../domain/failed-call.ts'
import { createKeyedQueue, type KeyedQueue } from '../../lib/keyed-queue.ts'
import { sleep } from '../../lib/timeouts.ts'
import { type HashedToken, keyOfToken } from '../../security/token-turns.ts'

/**
 * A body is complex if it has more of the signs `{`, `[`, `:` and `,` outside of its texts; `{` and `[` count OPENING times. A
 * body with 1,536 takes 0.1 to 1 ms. A heartbeat that names 128 apps, with three fields each, has 1,450.
 */
const MANY_SIGNS = 1_536
/** An object with a new name takes 3 µs, a name of a flat object 0.6. */
const OPENING = 4
/** Device tokens have no more in their turns, so this bounds those of an enrollment token. */
const MAX_WAITING_OF_KEY = 4
/** Of all tokens: up to 2 MiB. */
const MAX_WAITING_BODIES = 32
/** Not counting the pause before its turn. */
const COMPLEX_BODY_WAIT_MS = 5_000
/**
 * The pause after one grows with the square of its parse time: twice as long a stall delays twice as many requests by twice as
 * much. After 0.2 ms it is 1 ms; after 4 ms, 400.
 */
const PAUSE_PER_SQUARE = 25
const MIN_PAUSE_MS = 1
/** Short enough for four turns within the wait: beside four tokens that send costly bodies, others have their turn in time. */
const MAX_PAUSE_MS = 1_000

export interface Body {
  readonly bytes: Buffer
  /** Tokens take turns. */
  readonly token: HashedToken
  /** Nobody waits for the response any more. */
  readonly isOver: () => boolean
}

export class ComplexBodies {
  readonly #nowMs: () => number
  readonly #pause: (ms: number) => Promise<unknown>
  readonly #queue: KeyedQueue
  #freeAtMs = Number.NEGATIVE_INFINITY

  /** `nowMs` is monotonic. `pause` settles after so many milliseconds. */
  constructor(nowMs: () => number, pause: (ms: number) => Promise<unknown> = sleep) {
    this.#nowMs = nowMs
    this.#pause = pause
    this.#queue = createKeyedQueue({
      maxConcurrent: 1,
      maxWaiting: MAX_WAITING_BODIES,
      maxWaitingPerKey: MAX_WAITING_OF_KEY,
      maxWaitMs: COMPLEX_BODY_WAIT_MS,
      refusal: tooMany,
      nowMs,
    })
  }

  /**
   * Settles as `work` does, whose synchronous part parses the body. A complex body waits until it is its turn; `work` is called
   * without a pause if the body `isOver`. Rejects with 503 `overloaded` if too many wait, or if this one waits for too long.
   */
  run<T>(body: Body, work: () => Promise<T>): Promise<T> {
    return isComplex(body.bytes) ? this.#inTurn(body, work) : work()
  }

  async #inTurn<T>({ token, isOver }: Body, work: () => Promise<T>): Promise<T> {
    const { done } = await this.#queue.run(String(keyOfToken(token)), async () => {
      const pauseMs = this.#freeAtMs - this.#nowMs()
      if (pauseMs > 0 && !isOver()) await this.#pause(pauseMs)
      // In an object: the turn ends with the synchronous part.
      return { done: this.#timed(work) }
    })
    return await done
  }

  #timed<T>(work: () => Promise<T>): Promise<T> {
    const startedAtMs = this.#nowMs()
    try {
      return work()
    } finally {
      const endedAtMs = this.#nowMs()
      const pauseMs = PAUSE_PER_SQUARE * (endedAtMs - startedAtMs) ** 2
      const freeAtMs = endedAtMs + Math.min(Math.max(pauseMs, MIN_PAUSE_MS), MAX_PAUSE_MS)
      // One that is over does not end the pause.
      this.#freeAtMs = Math.max(this.#freeAtMs, freeAtMs)
    }
  }
}

const [QUOTE, BACKSLASH, OBJECT, ARRAY, COLON, COMMA] = Buffer.from('"\\{[:,')

/** Counts at least the signs that JSON.parse reads, also where it finds an error. */
function isComplex(bytes: Buffer): boolean {
  if (OPENING * bytes.length <= MANY_SIGNS) return false
  let signs = 0
  let isText = false
  for (let at = 0; at < bytes.length && signs <= MANY_SIGNS; at += 1) {
    const byte = bytes[at]
    if (byte === QUOTE) isText = !isText
    else if (isText) at += byte === BACKSLASH ? 1 : 0
    else if (byte === OBJECT || byte === ARRAY) signs += OPENING
    else if (byte === COLON || byte === COMMA) signs += 1
  }
  return signs > MANY_SIGNS
}

function tooMany(): AppError {
  const error = new AppError(
    'overloaded',
    'Too many complex bodies at once. Send it again shortly.',
  )
  return withFailedCall(error, { statement: null, cause: 'complex_bodies' })
}
