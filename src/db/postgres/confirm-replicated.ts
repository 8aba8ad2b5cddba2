/**
 * A commit that waits for a standby may be cut short, by our own cancel request or by a restart: it is durable and seen
 * here, and may be missing there. Who asks again must not be told that it is done, as long as a failover could undo it.
 */
import type { Query, Queryable } from './pool.ts'

/** Into the log and nowhere else: its commit waits for whatever was committed before. */
export const WRITE_NOTHING: Query = {
  name: 'settle.write_nothing',
  text: /* sql */ `select pg_logical_emit_message(true, 'fleetloop', '')`,
  isWrite: true,
}

/** Before a repeat is answered from what was read: resolves, or the transaction commits, once that cannot be undone. */
export async function confirmReplicated(database: Queryable): Promise<void> {
  await database.query(WRITE_NOTHING)
}
