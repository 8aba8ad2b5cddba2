/** "Something happened to X": lets a request wait for news of one command, at most so long, without asking the database all the time. */
import { AppError } from '../domain/errors.ts'

export class Notifier {
  readonly #waiting = new Map<string, Set<() => void>>()

  /** Keys that somebody waits for. */
  get size(): number {
    return this.#waiting.size
  }

  /** Wakes all who wait for `key` in this process. */
  notify(key: string): void {
    for (const wake of this.#waiting.get(key) ?? []) wake()
  }

  /** Resolves at the next notify, after `timeoutMs`, or when `signal` aborts; never rejects. */
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

/** How often another replica's news is looked for. */
const POLL_MS = 250

/**
 * Reads until `isDone` or `waitMs` have passed, and gives the last reading. Another replica's doing shows
 * within POLL_MS, this one's at once. Throws 503 `overloaded` where it would have to wait and too many do.
 */
export async function readUntil<T>(options: {
  readonly read: () => Promise<T>
  readonly isDone: (value: T) => boolean
  readonly waitMs: number
  /** Resolves when there may be news, at the latest after so many milliseconds. */
  readonly waitForChange: (timeoutMs: number) => Promise<void>
  /** A place among those who wait, given back by the call that it answers; undefined: all are taken. */
  readonly tryAcquire: () => (() => void) | undefined
  readonly signal: AbortSignal
  readonly nowMs: () => number
}): Promise<T> {
  const deadlineAtMs = options.nowMs() + options.waitMs
  let leave: (() => void) | undefined
  try {
    for (;;) {
      const value = await options.read()
      const leftMs = deadlineAtMs - options.nowMs()
      if (options.isDone(value) || leftMs <= 0 || options.signal.aborted) return value
      leave ??= options.tryAcquire()
      if (leave === undefined) throw tooManyWait()
      await options.waitForChange(Math.min(leftMs, POLL_MS))
    }
  } finally {
    leave?.()
  }
}

function tooManyWait(): AppError {
  return new AppError('overloaded', 'Too many requests wait. Ask without wait_ms, or later.')
}
