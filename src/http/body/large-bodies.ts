/**
 * Bodies that may take long to parse. JSON.parse holds the event loop and cannot be divided: 64 KiB of nested arrays, or of
 * objects with ever new names, take 8 to 14 ms, and up to 1.8 MiB. 100 of them a second delayed /healthz by 11.5 s. Honest
 * heartbeats have 0.9 KiB, honest results seldom more than 4.
 */
import { AppError } from '../../domain/errors.ts'
import { PAUSE_MS, Throttle } from '../../lib/throttle.ts'

const LARGE_BODY_BYTES = 4_096
/** Size of those of one phone that wait: one of the largest, or a few others. */
const MAX_WAITING_OF_KEY_BYTES = 64 * 1024
/** Of all phones: 1,600 of 5 KiB, which take two seconds, or 128 of the largest. */
const MAX_WAITING_LARGE_BYTES = 8 * 1024 * 1024
const LARGE_BODY_WAIT_MS = 2_000
/** They take at most a tenth of the time. */
const PAUSES_PER_WORK = 9
/** Where the process itself was held up while it parsed. */
const MAX_PAUSE_MS = 500

export interface Body {
  readonly sizeBytes: number
  /** Whose it is: large bodies of others do not wait for all of theirs. */
  readonly key: string
  /** Nobody waits for the response any more. */
  readonly isOver: () => boolean
}

export class LargeBodies {
  readonly #nowMs: () => number
  readonly #turns: Throttle
  #freeAtMs = Number.NEGATIVE_INFINITY
  readonly #waitingBytesOf = new Map<string, number>()
  #waitingBytes = 0

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
   * Settles as `work` does, whose synchronous part parses the body. A large body waits until it is its turn. Rejects with 503
   * `overloaded` if too many bytes of its key or of all wait, or if this one waits for too long.
   */
  run<T>(body: Body, work: () => Promise<T>): Promise<T> {
    return body.sizeBytes <= LARGE_BODY_BYTES ? work() : this.#inTurn(body, work)
  }

  async #inTurn<T>({ sizeBytes, key, isOver }: Body, work: () => Promise<T>): Promise<T> {
    const ofKeyBytes = sizeBytes + (this.#waitingBytesOf.get(key) ?? 0)
    if (ofKeyBytes > MAX_WAITING_OF_KEY_BYTES) throw tooMany()
    if (this.#waitingBytes + sizeBytes > MAX_WAITING_LARGE_BYTES) throw tooMany()
    this.#count(key, sizeBytes)
    const deadlineAtMs = this.#nowMs() + LARGE_BODY_WAIT_MS
    const isLate = () => this.#nowMs() > deadlineAtMs
    return await new Promise<T>((resolve, reject) => {
      const start = () => {
        this.#count(key, -sizeBytes)
        if (isLate()) reject(tooMany())
        else resolve(this.#timed(work))
      }
      this.#turns.add(start, () => isOver() || isLate(), key)
    })
  }

  #count(key: string, bytes: number): void {
    this.#waitingBytes += bytes
    const ofKeyBytes = bytes + (this.#waitingBytesOf.get(key) ?? 0)
    if (ofKeyBytes === 0) this.#waitingBytesOf.delete(key)
    else this.#waitingBytesOf.set(key, ofKeyBytes)
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

function tooMany(): AppError {
  return new AppError('overloaded', 'Too many large bodies wait. Send it again shortly.')
}
