/** A share of a pool's connections. Its statements wait here for their turn, and hold no connection meanwhile. */
import { createKeyedQueue, type KeyedQueueOptions } from '../../lib/keyed-queue.ts'
import { createSemaphore } from '../../lib/semaphore.ts'
import { overloaded } from './call-failure.ts'
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

/** The same for statements of which anybody with a credential can ask for any number: one that waits too long is refused. */
export function boundedShareOf(
  database: Database,
  options: Omit<KeyedQueueOptions, 'maxWaitingPerKey'>,
): Database {
  const queue = createKeyedQueue({ ...options, maxWaitingPerKey: 1 })
  let calls = 0
  async function run<T>(name: string, work: () => Promise<T>): Promise<T> {
    calls += 1
    let hasStarted = false
    const start = () => {
      hasStarted = true
      return work()
    }
    try {
      return await queue.run(`${calls}`, start)
    } catch (error) {
      throw hasStarted ? error : overloaded(name, error)
    }
  }
  return {
    query: (query) => run(query.name, () => database.query(query)),
    transaction: (work) => run('begin', () => database.transaction(work)),
  }
}

/** Gives each statement and each transaction's statements `timeoutMs` instead of the pool's time. */
export function withTimeout(database: Database, timeoutMs: number): Database {
  const transaction: Database['transaction'] = (work) =>
    database.transaction(async (tx) => {
      await tx.query({ name: '', text: `set local statement_timeout = ${timeoutMs}` })
      return work({ query: (query) => tx.query({ ...query, timeoutMs: timeoutMs + 1_000 }) })
    })
  return { query: (query) => transaction((tx) => tx.query(query)), transaction }
}
