/** Polling, for what sends no event. */
import { setTimeout as wait } from 'node:timers/promises'

const POLL_MS = 10
const DEADLINE_MS = 30_000

/** Rejects after half a minute, or the given time, naming `what`. */
export async function until(
  holds: () => boolean | Promise<boolean>,
  what = 'it',
  deadlineMs = DEADLINE_MS,
): Promise<void> {
  const endsAtMs = performance.now() + deadlineMs
  while (!(await holds())) {
    if (performance.now() > endsAtMs) throw new Error(`${what} never held`)
    await wait(POLL_MS)
  }
}
