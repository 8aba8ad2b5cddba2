/** Waits and retries. Timers and listeners are always cleaned up. */

/** Resolves after `ms`, or when `signal` aborts; never rejects. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  if (signal?.aborted || ms <= 0) return Promise.resolve()
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    signal?.addEventListener('abort', done)
  })
}

/** Settles as `work` does, but rejects with `refusal()` after `ms`. The work itself goes on. */
export function withTimeout<T>(work: Promise<T>, ms: number, refusal: () => Error): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(refusal()), Math.max(0, ms)) // Node 24 warns about negative values
    work.then(resolve, reject).finally(() => clearTimeout(timer))
  })
}

/**
 * Runs `work` until it succeeds. `pauseMs` judges each failure, `tries` counted from 1: how long to wait before the next
 * try, or undefined to reject with that error. `signal` ends a wait early.
 */
export async function retryWhile<T>(
  work: () => Promise<T>,
  pauseMs: (error: unknown, tries: number) => number | undefined,
  signal?: AbortSignal,
): Promise<T> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await work()
    } catch (error) {
      const ms = pauseMs(error, tries)
      if (ms === undefined) throw error
      await sleep(ms, signal)
    }
  }
}

/** Never runs `work` twice at once: callers during a run share its outcome. */
export function singleFlight<T>(work: () => Promise<T>): () => Promise<T> {
  let running: Promise<T> | undefined
  return () => {
    running ??= work().finally(() => {
      running = undefined
    })
    return running
  }
}

/**
 * Reads each key once at a time. All who call meanwhile share the next read, which begins after their calls, or the failure of
 * the one before it.
 */
export function joinReads<T>(read: (key: string) => Promise<T>): (key: string) => Promise<T> {
  const running = new Map<string, Promise<T>>()
  const next = new Map<string, Promise<T>>()

  async function readNext(key: string): Promise<T> {
    try {
      await running.get(key)
    } finally {
      next.delete(key)
    }
    const reading = read(key)
    running.set(key, reading)
    try {
      return await reading
    } finally {
      if (running.get(key) === reading) running.delete(key)
    }
  }

  return (key) => {
    const joined = next.get(key) ?? readNext(key)
    next.set(key, joined)
    return joined
  }
}

/** Resolves when `work` does, after `ms`, or when `signal` aborts. Rejects if `work` fails before that. */
export async function waitAtMost(
  work: Promise<unknown>,
  ms: number,
  signal?: AbortSignal,
): Promise<void> {
  const over = new AbortController()
  const end = () => over.abort()
  if (signal?.aborted) end()
  signal?.addEventListener('abort', end)
  try {
    await Promise.race([work, sleep(ms, over.signal)])
  } finally {
    signal?.removeEventListener('abort', end)
    end()
  }
}
