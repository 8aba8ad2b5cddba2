/** Repeats work: never twice at once, and a failure does not stop it. */

export interface Periodic {
  /** Starts no further run; resolves when the current one has ended. */
  stop(): Promise<void>
}

/** The first run begins after one interval, each further one an interval after the last has ended. */
export function startPeriodic(
  intervalMs: number,
  run: () => Promise<void>,
  onError: (error: unknown) => void,
): Periodic {
  let isStopped = false
  let running: Promise<void> = Promise.resolve()
  let timer = setTimeout(begin, intervalMs)

  function begin(): void {
    running = run()
      .catch(onError)
      .finally(() => {
        if (!isStopped) timer = setTimeout(begin, intervalMs)
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
