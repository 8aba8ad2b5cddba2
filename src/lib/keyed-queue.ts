/** So many at once, of one key one at a time. The others wait in the order in which they came, so many and so long at most. */
import { AppError } from '../domain/errors.ts'

export interface KeyedQueueOptions {
  /** Of all keys together. */
  readonly maxConcurrent: number
  /** Callers that wait, of all keys together; one more is refused at once. */
  readonly maxWaiting: number
  /** The same, of one key. */
  readonly maxWaitingPerKey: number
  /** Whoever has no turn by then is refused. */
  readonly maxWaitMs: number
  /** Monotonic clock, milliseconds. */
  readonly nowMs: () => number
}

export interface KeyedQueue {
  /** As `work` settles; rejects with 503 `overloaded` where there is no turn for it. */
  run<T>(key: string, work: () => Promise<T>): Promise<T>
  /** Rejects all that wait. */
  rejectAll(error: unknown): void
  readonly waiting: number
}

interface Waiter {
  readonly key: string
  readonly deadlineAtMs: number
  begin(): void
  refuse(error: unknown): void
}

export function createKeyedQueue(options: KeyedQueueOptions): KeyedQueue {
  const {
    maxConcurrent: maxAtOnce,
    maxWaiting,
    maxWaitingPerKey: maxWaitingOfKey,
    maxWaitMs,
    nowMs,
  } = options
  /** Keys of those at work. */
  const atWork = new Set<string>()
  /** In the order of arrival, and so of deadlines. While there is room at work, all of them wait for one of their key. */
  let waiters: Waiter[] = []
  let timer: NodeJS.Timeout | undefined

  function wait(key: string): Promise<void> {
    const ofKey = waiters.filter((waiter) => waiter.key === key)
    if (waiters.length >= maxWaiting || ofKey.length >= maxWaitingOfKey) throw overloaded()
    return new Promise((begin, refuse) => {
      waiters.push({ key, deadlineAtMs: nowMs() + maxWaitMs, begin, refuse })
      watchDeadlines()
    })
  }

  function beginNext(): void {
    while (atWork.size < maxAtOnce) {
      const next = waiters.findIndex(({ key }) => !atWork.has(key))
      const [waiter] = next === -1 ? [] : waiters.splice(next, 1)
      if (waiter === undefined) break
      atWork.add(waiter.key)
      waiter.begin()
    }
    watchDeadlines()
  }

  /** The first of them is the next: the timer is its. */
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
      if (atWork.size < maxAtOnce && !atWork.has(key)) atWork.add(key)
      else await wait(key)
      try {
        return await work()
      } finally {
        atWork.delete(key)
        beginNext()
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
