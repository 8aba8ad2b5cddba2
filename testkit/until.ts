/** Polling, for what sends no event. */
import { setTimeout as wait } from 'node:timers/promises'

const POLL_MS = 10
const DEADLINE_MS = 30_000

/** Rejects after half a minute. */
export async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  const endsAtMs = performance.now() + DEADLINE_MS
  while (!(await holds())) {
    if (performance.now() > endsAtMs) throw new Error('it never held')
    await wait(POLL_MS)
  }
}
