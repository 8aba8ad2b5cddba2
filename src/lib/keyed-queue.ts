/**
 * Runs a limited number of tasks at once, and one at a time of each key. The others wait within bounds. The keys take turns,
 * so that one with few waiting tasks does not wait behind all those of another.
 */

export interface KeyedQueueOptions {
  readonly maxConcurrent: number
  /** When one more arrives, the one that would start last is refused: the newcomer at once, or another that waits already. */
  readonly maxWaiting: number
  readonly maxWaitingPerKey: number
  /** A caller that has waited this long is refused. */
  readonly maxWaitMs: number
  /** Makes the error of one that is refused. */
  readonly refusal: () => Error
  /** Monotonic clock. */
  readonly nowMs: () => number
}

export interface KeyedQueue {
  /** Settles as `work` does; rejects with `refusal()` if it was refused. */
  run<T>(key: string, work: () => Promise<T>): Promise<T>
  /** Rejects every caller that waits. */
  rejectAll(error: unknown): void
  readonly waiting: number
}

interface Waiter {
  readonly key: string
  /** Lower rounds start first: of each key, one task a round. */
  readonly round: number
  readonly deadlineAtMs: number
  start(): void
  refuse(error: unknown): void
}

export function createKeyedQueue(options: KeyedQueueOptions): KeyedQueue {
  const { maxConcurrent, maxWaiting, maxWaitingPerKey, maxWaitMs, refusal, nowMs } = options
  const runningKeys = new Set<string>()
  /** In order of arrival, which is the order of deadlines. */
  let waiters: Waiter[] = []
  let timer: NodeJS.Timeout | undefined
  /** The highest of those that have started. */
  let round = 0

  function wait(key: string): Promise<void> {
    const ofKey = waiters.filter((waiter) => waiter.key === key)
    if (ofKey.length >= maxWaitingPerKey) throw refusal()
    const ownRound = (ofKey.at(-1)?.round ?? round) + 1
    if (waiters.length >= maxWaiting) makeRoom(ownRound)
    return new Promise((start, refuse) => {
      const deadlineAtMs = nowMs() + maxWaitMs
      waiters.push({ key, round: ownRound, deadlineAtMs, start, refuse })
      watchDeadlines()
    })
  }

  /** Refuses the newest waiter of the last round, unless that is no later than `ownRound`. */
  function makeRoom(ownRound: number): void {
    const last = Math.max(...waiters.map((waiter) => waiter.round))
    if (last <= ownRound) throw refusal()
    const newest = waiters.findLastIndex((waiter) => waiter.round === last)
    waiters.splice(newest, 1)[0]?.refuse(refusal())
  }

  function startNext(): void {
    while (runningKeys.size < maxConcurrent) {
      const free = waiters.filter(({ key }) => !runningKeys.has(key))
      const lowest = Math.min(...free.map((waiter) => waiter.round))
      const waiter = free.find((one) => one.round === lowest)
      if (waiter === undefined) break
      waiters.splice(waiters.indexOf(waiter), 1)
      round = Math.max(round, waiter.round)
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
          waiters.shift()?.refuse(refusal())
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
