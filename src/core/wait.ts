/** Waiting with an end: timers that leave nothing behind. */

/** Resolves after `ms`, or at once when `signal` aborts; never rejects. */
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

/** Waits for `work`, at most `ms`; rejects as it does when it fails within that time. */
export async function within(work: Promise<unknown>, ms: number): Promise<void> {
  const over = new AbortController()
  try {
    await Promise.race([work, sleep(ms, over.signal)])
  } finally {
    over.abort()
  }
}
