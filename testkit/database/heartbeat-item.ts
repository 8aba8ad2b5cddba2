/** Arguments of the group statement, without a phone and HTTP. */
import type { HeartbeatItem } from '../../src/db/heartbeats/heartbeats.ts'
import { EMPTY_HEARTBEAT, type Heartbeat } from '../../src/domain/heartbeat.ts'

/** A heartbeat with status ok and the fields of `said`. */
export function heartbeatItem(
  tokenHash: Buffer,
  requestId: string,
  said: Partial<Heartbeat> = {},
): HeartbeatItem {
  return {
    tokenHash,
    requestId,
    heartbeat: { ...EMPTY_HEARTBEAT, status: 'ok', ...said },
  }
}
