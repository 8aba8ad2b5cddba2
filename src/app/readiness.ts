/** Decides what /readyz responds, within the one-second timeout of common probes. */
import { TROUBLES, type Trouble } from '../db/health/trouble.ts'
import { withTimeout } from '../lib/timeouts.ts'
import type { Unready } from '../routes/operations/feature.ts'
import type { ServiceState } from './service-context.ts'

/** A response proves for this long that the database is there. */
const FRESH_MS = 100
/** The same while all connections are busy: each may wait for a lock (500 ms, db/postgres/client-options.ts) before it responds. */
const BUSY_FRESH_MS = 700
/** Longest wait for a ping. A balancer that probes once a second learns within two that the database is frozen. */
const PING_MS = 800
/** The same during an episode of trouble, when no response is expected. */
const DOWN_PING_MS = 300

/** The way to the database that nearly every request takes. */
export interface DatabaseView {
  /** Of the episode of trouble that it is in. */
  readonly trouble: () => Trouble | undefined
  /** Since it last responded to a statement, ms. */
  readonly msSinceResponse: () => number
  /** Requests wait for a connection: so would a ping. */
  readonly isBusy: () => boolean
  /** May take 2 s. Joins one under way, so any number of probes may ask. */
  readonly ping: () => Promise<unknown>
}

/**
 * Why the service cannot serve; empty while it can. A replica whose connections are all busy is slow, not away: taking it
 * out of the balance would move its load to the others, and they would go the same way.
 */
export async function unready(
  state: ServiceState,
  closing: AbortSignal,
  database: DatabaseView,
): Promise<Unready> {
  if (closing.aborted) return { service: 'stopping' }
  const reasonOf = (trouble: Trouble) => ({ database: `${trouble}: ${TROUBLES[trouble]}` })
  if (!state.isPrepared) {
    const trouble = database.trouble()
    return trouble === undefined ? { database: 'not migrated yet' } : reasonOf(trouble)
  }
  const isDown = () => database.trouble() !== undefined
  const hasResponded = (freshMs: number) => !isDown() && database.msSinceResponse() <= freshMs
  if (hasResponded(database.isBusy() ? BUSY_FRESH_MS : FRESH_MS)) return {}
  const isThere = await withTimeout(
    database.ping(),
    isDown() ? DOWN_PING_MS : PING_MS,
    () => new Error('the ping takes too long'),
  ).then(
    () => true,
    () => hasResponded(BUSY_FRESH_MS), // perhaps no connection was free for the ping
  )
  if (closing.aborted) return { service: 'stopping' }
  return isThere ? {} : reasonOf(database.trouble() ?? 'silent')
}
