/**
 * Bodies that take long to parse. JSON.parse holds the event loop and cannot be divided: 64 KiB of arrays, or of objects with
 * ever new names, take 8 to 14 ms, and up to 1.8 MiB. 100 of them a second delayed /healthz by 11.5 s. 64 KiB of text take
 * 0.1 ms.
 */
import { AppError } from '../../domain/errors.ts'
import { PAUSE_MS, Throttle } from '../../lib/throttle.ts'
import { rateLimited } from '../../security/denial.ts'
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
const COMPLEX_BODY_WAIT_MS = 5_000
/**
 * The pause after one grows with the square of its parse time: twice as long a stall delays twice as many requests by twice as
 * much. After 0.2 ms it is 1 ms; after 4 ms, 400.
 */
const PAUSE_PER_SQUARE = 25
/** Short enough for four turns within the wait, so that complex bodies of others have theirs beside costly ones. */
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
  readonly #turns: Throttle
  #freeAtMs = Number.NEGATIVE_INFINITY

  /** `nowMs` is monotonic. `later` calls `run` after so many milliseconds. */
  constructor(
    nowMs: () => number,
    later = (run: () => void, ms: number): void => void setTimeout(run, ms),
  ) {
    this.#nowMs = nowMs
    // The throttle calls this before it runs the work. How long that takes is known in the next turn of the event loop.
    const schedule = (run: () => void) =>
      void setImmediate(() => later(run, Math.max(PAUSE_MS, this.#freeAtMs - nowMs())))
    this.#turns = new Throttle(schedule, { perPause: 1, perExtra: Number.POSITIVE_INFINITY })
  }

  /**
   * Settles as `work` does, whose synchronous part parses the body. A complex body waits until it is its turn. Rejects with 429
   * `rate_limited` if too many of its token wait, and with 503 `overloaded` if too many of all do, or if this one waits too long.
   */
  run<T>(body: Body, work: () => Promise<T>): Promise<T> {
    return isComplex(body.bytes) ? this.#inTurn(body, work) : work()
  }

  async #inTurn<T>({ token, isOver }: Body, work: () => Promise<T>): Promise<T> {
    const key = String(keyOfToken(token))
    if (this.#turns.waitingOf(key) >= MAX_WAITING_OF_KEY) throw tooManyOfKey()
    if (this.#turns.waiting >= MAX_WAITING_BODIES) throw tooMany()
    const deadlineAtMs = this.#nowMs() + COMPLEX_BODY_WAIT_MS
    const isLate = () => this.#nowMs() > deadlineAtMs
    return await new Promise<T>((resolve, reject) => {
      const start = () => {
        if (isLate()) reject(tooMany())
        else resolve(this.#timed(work))
      }
      this.#turns.add(start, () => isOver() || isLate(), key)
    })
  }

  #timed<T>(work: () => Promise<T>): Promise<T> {
    const startedAtMs = this.#nowMs()
    const done = work()
    const endedAtMs = this.#nowMs()
    const tookMs = endedAtMs - startedAtMs
    this.#freeAtMs = endedAtMs + Math.min(PAUSE_PER_SQUARE * tookMs ** 2, MAX_PAUSE_MS)
    return done
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

function tooManyOfKey(): AppError {
  const counts = 'complex bodies of this token'
  const reached = { name: 'at_once_per_token', limit: MAX_WAITING_OF_KEY, used: MAX_WAITING_OF_KEY }
  return rateLimited({ ...reached, counts, retryAfterS: 2 }, null)
}

function tooMany(): AppError {
  return new AppError('overloaded', 'Too many complex bodies wait. Send it again shortly.')
}
