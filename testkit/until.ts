/** Polling, for what sends no event. */
import { setTimeout as wait } from 'node:timers/promises'

const POLL_MS = 10
const DEADLINE_MS = 30_000
const DAY_MS = 86_400_000
/** Longer than such a part of a test file takes; the wait and that part must fit into a file's 240 s. */
const BEFORE_MIDNIGHT_MS = 50_000

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

/** For what would see one day end and the next one begin, as heartbeats are stored by days: waits past midnight UTC if it is near. */
export async function untilMidnightIsFar(): Promise<void> {
  const leftMs = DAY_MS - (Date.now() % DAY_MS)
  if (leftMs < BEFORE_MIDNIGHT_MS) await wait(leftMs + 1_000)
}
