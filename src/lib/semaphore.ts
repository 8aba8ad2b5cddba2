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
