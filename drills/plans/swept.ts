/** Waits until the service has ended expired commands. */
import { setTimeout as wait } from 'node:timers/promises'
import type pg from 'pg'

const POLL_MS = 250
const DEADLINE_MS = 300_000

/** Polls rarely and by index, so that it does not disturb what is measured. */
export async function swept(db: pg.Client): Promise<void> {
  const endsAtMs = performance.now() + DEADLINE_MS
  while ((await db.query(UNSWEPT)).rowCount === 1) {
    if (performance.now() > endsAtMs) throw new Error('what has expired is still open')
    await wait(POLL_MS)
  }
}

const UNSWEPT = /* sql */ `
  select from commands where state = 'open' and expires_at <= now() and expires_at > '-infinity' limit 1`
