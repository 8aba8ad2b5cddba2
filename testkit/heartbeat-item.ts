/** Heartbeats as their group statement takes them, without a phone and without the wire. */

import type { HeartbeatItem } from '../src/db/heartbeats/heartbeats.ts'
import { EMPTY_HEARTBEAT, type Heartbeat } from '../src/domain/heartbeat.ts'

/** From the phone of this token, which says that it is well, and what is in `said`. */
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
