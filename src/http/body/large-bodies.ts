/**
 * Bodies that may take long to parse. JSON.parse holds the event loop and cannot be divided: 64 KiB of arrays, or of objects
 * with ever new names, take 8 to 14 ms, and up to 1.8 MiB. 100 of them a second delayed /healthz by 11.5 s.
 */
import { AppError } from '../../domain/errors.ts'
import { PAUSE_MS, Throttle } from '../../lib/throttle.ts'
import { rateLimited } from '../../security/denial.ts'

/** A body with more bytes is large. So many bytes take up to 3 ms. */
const LARGE_BODY_BYTES = 16 * 1024
/** A body with more objects and arrays is large, too. So many take 0.5 ms. A heartbeat that names 128 apps has 137. */
const MANY_OBJECTS = 160
/** Device tokens have no more in their turns, so this bounds those of an enrollment token. */
const MAX_WAITING_OF_KEY = 4
/** Of all tokens: up to 8 MiB. */
const MAX_WAITING_BODIES = 128
const LARGE_BODY_WAIT_MS = 2_000
/** They take at most a tenth of the time. */
const PAUSES_PER_WORK = 9
/** Longer pauses would follow where something else held up the process while it parsed. */
const MAX_PAUSE_MS = 500

export interface Body {
  readonly bytes: Buffer
  /** Names its token: tokens take turns. */
  readonly key: string
  /** Nobody waits for the response any more. */
  readonly isOver: () => boolean
}

export class LargeBodies {
  readonly #nowMs: () => number
  readonly #turns: Throttle
  readonly #waitingOf = new Map<string, number>()
  #freeAtMs = Number.NEGATIVE_INFINITY

  /** `nowMs` is monotonic. `later` calls `run` after so many milliseconds. */
  constructor(
    nowMs: () => number,
    later = (run: () => void, ms: number): void => void setTimeout(run, ms),
  ) {
    this.#nowMs = nowMs
    // Called before the work of a turn, and how long that takes is known in the next turn of the event loop.
    const schedule = (run: () => void) =>
      void setImmediate(() => later(run, Math.max(PAUSE_MS, this.#freeAtMs - nowMs())))
    this.#turns = new Throttle(schedule, { perPause: 1, perExtra: Number.POSITIVE_INFINITY })
  }

  /**
   * Settles as `work` does, whose synchronous part parses the body. A large body waits until it is its turn. Rejects with 429
   * `rate_limited` if too many of its key wait, and with 503 `overloaded` if too many of all do, or if this one waits too long.
   */
  run<T>(body: Body, work: () => Promise<T>): Promise<T> {
    return isLarge(body.bytes) ? this.#inTurn(body, work) : work()
  }

  async #inTurn<T>({ key, isOver }: Body, work: () => Promise<T>): Promise<T> {
    const ofKey = this.#waitingOf.get(key) ?? 0
    if (ofKey >= MAX_WAITING_OF_KEY) throw tooManyOfKey()
    if (this.#turns.waiting >= MAX_WAITING_BODIES) throw tooMany()
    this.#waitingOf.set(key, ofKey + 1)
    const deadlineAtMs = this.#nowMs() + LARGE_BODY_WAIT_MS
    const isLate = () => this.#nowMs() > deadlineAtMs
    return await new Promise<T>((resolve, reject) => {
      const start = () => {
        this.#waitsNoMore(key)
        if (isLate()) reject(tooMany())
        else resolve(this.#timed(work))
      }
      this.#turns.add(start, () => isOver() || isLate(), key)
    })
  }

  #waitsNoMore(key: string): void {
    const others = (this.#waitingOf.get(key) ?? 0) - 1
    if (others > 0) this.#waitingOf.set(key, others)
    else this.#waitingOf.delete(key)
  }

  #timed<T>(work: () => Promise<T>): Promise<T> {
    const startedAtMs = this.#nowMs()
    const done = work()
    const endedAtMs = this.#nowMs()
    const pauseMs = PAUSES_PER_WORK * (endedAtMs - startedAtMs)
    this.#freeAtMs = endedAtMs + Math.min(pauseMs, MAX_PAUSE_MS)
    return done
  }
}

const [OBJECT, ARRAY] = Buffer.from('{[')

/** Counts `{` and `[` within texts as well: to tell them apart would cost more. */
function isLarge(bytes: Buffer): boolean {
  if (bytes.length > LARGE_BODY_BYTES) return true
  let objects = 0
  for (let at = 0; at < bytes.length; at += 1) {
    if (bytes[at] === OBJECT || bytes[at] === ARRAY) objects += 1
  }
  return objects > MANY_OBJECTS
}

function tooManyOfKey(): AppError {
  const counts = 'large bodies of this token'
  const reached = { name: 'at_once_per_token', limit: MAX_WAITING_OF_KEY, used: MAX_WAITING_OF_KEY }
  return rateLimited({ ...reached, counts, retryAfterS: 1 }, null)
}

function tooMany(): AppError {
  return new AppError('overloaded', 'Too many large bodies wait. Send it again shortly.')
}
