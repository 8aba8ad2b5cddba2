/**
 * A commit that waits for a standby can be cut short, by our cancel request or by a restart. It is then durable here
 * but possibly missing there. A repeated request must not succeed while a failover could still undo the first one.
 */
import type { Query, Queryable } from './pool.ts'

/** Writes only to the log; its commit waits for all earlier commits. */
export const WRITE_NOTHING: Query = {
  name: 'settle.write_nothing',
  text: /* sql */ `select pg_logical_emit_message(true, 'fleetloop', '')`,
  isWrite: true,
}

/** Call before reporting earlier data as done: after it, or after the transaction's commit, a failover cannot undo them. */
export async function confirmReplicated(database: Queryable): Promise<void> {
  await database.query(WRITE_NOTHING)
}
