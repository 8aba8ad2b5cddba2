/** A share of a pool's connections: what waits for its turn here takes none from others. */
import { limitConcurrency } from '../../lib/semaphore.ts'
import type { Database } from './pool.ts'

export interface Share extends Database {
  /** Statements and transactions that wait for their turn, in the order in which they came. */
  readonly waiting: number
}

/** At most `most` connections of `database` at once. How many may wait is for its users to bound. */
export function shareOf(database: Database, most: number): Share {
  const inTurn = limitConcurrency(most)
  let waiting = 0

  function take<T>(work: () => Promise<T>): Promise<T> {
    waiting += 1
    return inTurn(() => {
      waiting -= 1
      return work()
    })
  }

  return {
    query: (query) => take(() => database.query(query)),
    transaction: (work) => take(() => database.transaction(work)),
    get waiting() {
      return waiting
    },
  }
}
