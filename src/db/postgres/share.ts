/** A share of a pool's connections. Its statements wait here for their turn, and hold no connection meanwhile. */
import { createKeyedQueue, type KeyedQueueOptions } from '../../lib/keyed-queue.ts'
import { createSemaphore } from '../../lib/semaphore.ts'
import { isDatabaseAway, overloaded, unavailable, withStatement } from './call-failure.ts'
import type { Database, Queryable } from './pool.ts'
import { OwnWaitError } from './sqlstate.ts'

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
  options: Omit<KeyedQueueOptions, 'maxWaitingPerKey' | 'refusal'>,
): Database {
  const queue = createKeyedQueue({
    ...options,
    maxWaitingPerKey: 1,
    refusal: () => new OwnWaitError(),
  })
  let calls = 0
  /** The database was away for the statement that ended last. */
  let isAway = false
  async function run<T>(name: string, work: () => Promise<T>): Promise<T> {
    calls += 1
    let hasStarted = false
    const start = async () => {
      hasStarted = true
      try {
        const value = await work()
        isAway = false
        return value
      } catch (error) {
        isAway = isDatabaseAway(error, Number.POSITIVE_INFINITY)
        throw error
      }
    }
    try {
      return await queue.run(`${calls}`, start)
    } catch (error) {
      if (hasStarted) throw error
      throw isAway ? withStatement(unavailable(error), name) : overloaded(name, error)
    }
  }
  return {
    query: (query) => run(query.name, () => database.query(query)),
    transaction: (work) => run('begin', () => database.transaction(work)),
  }
}

/** Gives the statements of a transaction `timeoutMs` from here on, instead of the pool's time. */
export async function prolong(tx: Queryable, timeoutMs: number): Promise<Queryable> {
  await tx.query({ name: '', text: `set local statement_timeout = ${timeoutMs}` })
  return { query: (query) => tx.query({ ...query, timeoutMs: timeoutMs + 1_000 }) }
}

/** The same for each statement and each transaction. */
export function prolonged(database: Database, timeoutMs: number): Database {
  const transaction: Database['transaction'] = (work) =>
    database.transaction(async (tx) => work(await prolong(tx, timeoutMs)))
  return { query: (query) => transaction((tx) => tx.query(query)), transaction }
}
