/** A share of a pool's connections. Its statements wait here for their turn, and hold no connection meanwhile. */
import { createSemaphore } from '../../lib/semaphore.ts'
import type { Database } from './pool.ts'

export interface Share extends Database {
  /** Statements and transactions that wait for their turn. */
  readonly waiting: number
}

/** At most `most` connections of `database` at once. Callers bound how many may wait. */
export function shareOf(database: Database, most: number): Share {
  const semaphore = createSemaphore(most)
  return {
    query: (query) => semaphore.run(() => database.query(query)),
    transaction: (work) => semaphore.run(() => database.transaction(work)),
    get waiting() {
      return semaphore.waiting
    },
  }
}
