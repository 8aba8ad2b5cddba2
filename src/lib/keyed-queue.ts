/** Runs a limited number of tasks at once, and one at a time of each key. The others wait in order, within bounds. */
import { AppError } from '../domain/errors.ts'

export interface KeyedQueueOptions {
  readonly maxConcurrent: number
  /** One more caller is refused at once. */
  readonly maxWaiting: number
  readonly maxWaitingPerKey: number
  /** A caller that has waited this long is refused. */
  readonly maxWaitMs: number
  /** Monotonic clock. */
  readonly nowMs: () => number
}

export interface KeyedQueue {
  /** Settles as `work` does; rejects with 503 `overloaded` if it was refused. */
  run<T>(key: string, work: () => Promise<T>): Promise<T>
  /** Rejects every caller that waits. */
  rejectAll(error: unknown): void
  readonly waiting: number
}

interface Waiter {
  readonly key: string
  readonly deadlineAtMs: number
  start(): void
  refuse(error: unknown): void
}

export function createKeyedQueue(options: KeyedQueueOptions): KeyedQueue {
  const { maxConcurrent, maxWaiting, maxWaitingPerKey, maxWaitMs, nowMs } = options
  const runningKeys = new Set<string>()
  /** In order of arrival, which is the order of deadlines. */
  let waiters: Waiter[] = []
  let timer: NodeJS.Timeout | undefined

  function wait(key: string): Promise<void> {
    const ofKey = waiters.filter((waiter) => waiter.key === key)
    if (waiters.length >= maxWaiting || ofKey.length >= maxWaitingPerKey) throw overloaded()
    return new Promise((start, refuse) => {
      waiters.push({ key, deadlineAtMs: nowMs() + maxWaitMs, start, refuse })
      watchDeadlines()
    })
  }

  function startNext(): void {
    while (runningKeys.size < maxConcurrent) {
      const next = waiters.findIndex(({ key }) => !runningKeys.has(key))
      const [waiter] = next === -1 ? [] : waiters.splice(next, 1)
      if (waiter === undefined) break
      runningKeys.add(waiter.key)
      waiter.start()
    }
    watchDeadlines()
  }

  /** The first waiter is the next to expire. */
  function watchDeadlines(): void {
    clearTimeout(timer)
    const [first] = waiters
    if (first === undefined) return
    timer = setTimeout(
      () => {
        while (waiters[0] !== undefined && waiters[0].deadlineAtMs <= nowMs()) {
          waiters.shift()?.refuse(overloaded())
        }
        watchDeadlines()
      },
      Math.max(0, first.deadlineAtMs - nowMs()),
    )
  }

  return {
    async run(key, work) {
      if (runningKeys.size < maxConcurrent && !runningKeys.has(key)) runningKeys.add(key)
      else await wait(key)
      try {
        return await work()
      } finally {
        runningKeys.delete(key)
        startNext()
      }
    },
    rejectAll(error) {
      const refused = waiters
      waiters = []
      watchDeadlines()
      for (const waiter of refused) waiter.refuse(error)
    },
    get waiting() {
      return waiters.length
    },
  }
}

function overloaded(): AppError {
  return new AppError('overloaded', 'Too many requests of this kind at once. Try again shortly.')
}
