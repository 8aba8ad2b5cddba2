/** Measures how late the event loop is. Reading does not reset the window, so all scrapers see the same value. */
import { monitorEventLoopDelay } from 'node:perf_hooks'

export interface EventLoopDelay {
  /** 99th percentile over the last half to whole window; 0 before the first sample. */
  p99Ms(): number
  close(): void
}

const RESOLUTION_MS = 20
/** Twice the interval of most scrapers, so that none misses a delay. */
const WINDOW_MS = 30_000

export function measureEventLoopDelay(windowMs = WINDOW_MS): EventLoopDelay {
  // Each is reset once a window, half a window apart; the one that has sampled for longer is read.
  let older = monitorEventLoopDelay({ resolution: RESOLUTION_MS })
  let newer = monitorEventLoopDelay({ resolution: RESOLUTION_MS })
  older.enable()
  newer.enable()
  const timer = setInterval(() => {
    older.reset()
    const emptied = older
    older = newer
    newer = emptied
  }, windowMs / 2).unref()

  return {
    p99Ms() {
      // The samples are whole intervals of the sampling timer.
      const lateMs = older.percentile(99) / 1e6 - RESOLUTION_MS
      return Math.max(0, Math.round(lateMs * 1000) / 1000)
    },
    close() {
      clearInterval(timer)
      older.disable()
      newer.disable()
    },
  }
}
