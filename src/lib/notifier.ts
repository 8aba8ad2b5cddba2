/** Lets a request wait for a change of what its key names, for a limited time, without polling the database all the time. */
import { AppError } from '../domain/errors.ts'

export class Notifier {
  readonly #waiting = new Map<string, Set<() => void>>()

  /** Number of keys that have waiters. */
  get size(): number {
    return this.#waiting.size
  }

  /** Wakes those who wait for `key` in this process. */
  notify(key: string): void {
    for (const wake of this.#waiting.get(key) ?? []) wake()
  }

  /** Resolves at the next notify(), after `timeoutMs`, or when `signal` aborts; never rejects. */
  wait(key: string, timeoutMs: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return Promise.resolve()
    return new Promise((resolve) => {
      const wakers = this.#waiting.get(key) ?? new Set()
      this.#waiting.set(key, wakers)
      const done = () => {
        clearTimeout(timer)
        signal.removeEventListener('abort', done)
        wakers.delete(done)
        if (wakers.size === 0) this.#waiting.delete(key)
        resolve()
      }
      const timer = setTimeout(done, timeoutMs)
      signal.addEventListener('abort', done)
      wakers.add(done)
    })
  }
}

/** Changes made by another replica are found this often, by all who wait at the same moments. */
const POLL_MS = 250
/** Aims behind the moment: a timer that fires a little early would poll again 1 ms later. */
const MARGIN_MS = 2

/**
 * Reads until `isDone` holds or `waitMs` have passed, and returns the last value. A change made by this replica shows at
 * once, one made by another within POLL_MS. A later read that is refused as `overloaded` changes nothing. Throws 503
 * `overloaded` if it has to wait and too many others already do.
 */
export async function readUntil<T>(options: {
  readonly read: () => Promise<T>
  /** What is known before the first read. */
  readonly known?: T
  readonly isDone: (value: T) => boolean
  readonly waitMs: number
  /** Resolves when the value may have changed, or after `timeoutMs`. */
  readonly waitForChange: (timeoutMs: number) => Promise<void>
  /** Of the semaphore that bounds how many wait. */
  readonly tryAcquire: () => (() => void) | undefined
  readonly signal: AbortSignal
  readonly nowMs: () => number
}): Promise<T> {
  const deadlineAtMs = options.nowMs() + options.waitMs
  let release: (() => void) | undefined
  let last = options.known
  try {
    for (;;) {
      const value = await options.read().catch((error: unknown) => {
        if (last === undefined || !isOverload(error)) throw error
        return last
      })
      last = value
      const leftMs = deadlineAtMs - options.nowMs()
      if (options.isDone(value) || leftMs <= 0 || options.signal.aborted) return value
      release ??= options.tryAcquire()
      if (release === undefined) throw tooManyWait()
      const untilPollMs = Math.ceil(POLL_MS - (options.nowMs() % POLL_MS)) + MARGIN_MS
      await options.waitForChange(Math.min(leftMs, untilPollMs))
    }
  } finally {
    release?.()
  }
}

function isOverload(error: unknown): boolean {
  return error instanceof AppError && error.code === 'overloaded'
}

function tooManyWait(): AppError {
  return new AppError('overloaded', 'Too many requests wait. Ask without wait_ms, or later.')
}
