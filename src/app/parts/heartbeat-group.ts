/** The group commit of heartbeats, with its bounds and its statement. */

import {
  type HeartbeatItem,
  type HeartbeatResult,
  STORE_GROUP_NAME,
} from '../../db/heartbeats/heartbeats.ts'
import { groupFailureKind } from '../../db/postgres/sqlstate.ts'
import { HEARTBEAT_CONNECTIONS } from '../../db/stores.ts'
import type { AtFailpoint } from '../../domain/failpoint.ts'
import { GroupCommit } from '../../lib/group-commit.ts'
import { keyOfToken } from '../../security/token-turns.ts'

/** Of one heartbeat, from the moment when its body is parsed to its response. */
export const HEARTBEAT_DEADLINE_MS = 1_800
const MAX_GROUP = 256
const MAX_QUEUED_GROUPS = 4

export interface HeartbeatGroupDeps {
  /** Stores one group; the results are in the order of its items. */
  readonly store: (items: readonly HeartbeatItem[]) => Promise<readonly HeartbeatResult[]>
  readonly failpoint: AtFailpoint | undefined
  readonly nowMs: () => number
}

export function createHeartbeats({ store, failpoint, nowMs }: HeartbeatGroupDeps) {
  return new GroupCommit<HeartbeatItem, HeartbeatResult>({
    flush(group) {
      const stored = store(group)
      if (failpoint !== undefined) setImmediate(failpoint, 'mid_group')
      return stored
    },
    statement: STORE_GROUP_NAME,
    messages: {
      full: 'Too many heartbeats wait. Try again later.',
      late: 'The heartbeat was not stored in time. Try again.',
      unsure: 'The database is slow; the heartbeat may be stored. Try again.',
    },
    failureKind: groupFailureKind,
    keyOf: keyOfToken,
    maxGroup: MAX_GROUP,
    maxQueuedGroups: MAX_QUEUED_GROUPS,
    maxInFlight: HEARTBEAT_CONNECTIONS,
    deadlineMs: HEARTBEAT_DEADLINE_MS,
    nowMs,
  })
}
