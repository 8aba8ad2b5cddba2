/** Bounds how many of something run at once. */

export interface Semaphore {
  /** Returns the function that gives the permit back (repeatable), or undefined if none is free. */
  tryAcquire(): (() => void) | undefined
  /** Runs `work` once a permit is free. Callers wait in order, and for as long as it takes. */
  run<T>(work: () => Promise<T>): Promise<T>
  /** Permits that are taken. */
  readonly inUse: number
  /** Callers of run() that wait. */
  readonly waiting: number
}

export function createSemaphore(max: number): Semaphore {
  const waiting: (() => void)[] = []
  let free = max

  function release(): void {
    const next = waiting.shift()
    if (next === undefined) free += 1
    else next() // takes over the permit
  }

  return {
    tryAcquire() {
      if (free === 0) return undefined
      free -= 1
      let isHeld = true
      return () => {
        if (isHeld) release()
        isHeld = false
      }
    },
    async run(work) {
      if (free > 0) free -= 1
      else await new Promise<void>((resolve) => waiting.push(resolve))
      try {
        return await work()
      } finally {
        release()
      }
    },
    get inUse() {
      return max - free
    },
    get waiting() {
      return waiting.length
    },
  }
}

export interface SharedSemaphore extends Pick<Semaphore, 'inUse'> {
  /** Like Semaphore's; also undefined if `key` holds `maxOfKey` permits. */
  tryAcquire(key: string): (() => void) | undefined
}

/** Of `max` permits one key holds at most `maxOfKey`. Keys must be few: each is kept. */
export function createSharedSemaphore(max: number, maxOfKey: number): SharedSemaphore {
  const all = createSemaphore(max)
  const byKey = new Map<string, Semaphore>()
  return {
    tryAcquire(key) {
      const own = byKey.get(key) ?? createSemaphore(maxOfKey)
      byKey.set(key, own)
      const releaseOwn = own.tryAcquire()
      if (releaseOwn === undefined) return undefined
      const release = all.tryAcquire()
      if (release === undefined) {
        releaseOwn()
        return undefined
      }
      return () => {
        releaseOwn()
        release()
      }
    },
    get inUse() {
      return all.inUse
    },
  }
}
