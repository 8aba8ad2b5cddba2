/** Work that repeats by itself: never twice at once, and a failure leaves the next turn as it was. */

export interface Periodic {
  /** Runs no more; resolves when a run in progress has ended. */
  stop(): Promise<void>
}

/** The first run is one interval from now; the next one an interval after the end of the last. */
export function startPeriodic(
  intervalMs: number,
  run: () => Promise<void>,
  onError: (error: unknown) => void,
): Periodic {
  let isStopped = false
  let running: Promise<void> = Promise.resolve()
  let timer = setTimeout(turn, intervalMs)

  function turn(): void {
    running = run()
      .catch(onError)
      .finally(() => {
        if (!isStopped) timer = setTimeout(turn, intervalMs)
      })
  }

  return {
    stop() {
      isStopped = true
      clearTimeout(timer)
      return running
    },
  }
}
