/**
 * What the service does by itself, on every replica, each task safe beside the others: heartbeat partitions
 * ahead and retention, expiry of commands, pruning of ended ones, and the number of those that wait.
 */
import { type Periodic, startPeriodic } from './core/periodic.ts'
import type { CommandQueue } from './db/command-queue.ts'
import type { Partitions } from './db/partitions.ts'
import { BACKGROUND, type Log } from './telemetry/events.ts'

export interface MaintenanceDeps {
  readonly partitions: Partitions
  readonly queue: Pick<CommandQueue, 'expire' | 'prune' | 'countWaiting'>
  /** Forgets accepted signatures whose time is over. */
  readonly pruneSignatures: () => Promise<void>
  readonly commandRetentionDays: number
  readonly log: Log
  /** A command has ended. */
  readonly onEnded: (requestId: string) => void
}

export interface Maintenance {
  /** Makes the partitions that are missing; at start, before the first heartbeat. */
  partitionsOnce(): Promise<void>
  start(): void
  stop(): Promise<void>
  /** Commands that are or will be due for push, as last counted. */
  readonly commandsWaiting: number
}

const SWEEP_MS = 5_000
const PARTITIONS_MS = 60 * 60_000
const PRUNE_MS = 10 * 60_000
const BATCH = 500

export function createMaintenance(deps: MaintenanceDeps): Maintenance {
  let commandsWaiting = 0
  let tasks: readonly Periodic[] = []

  async function partitionsOnce(): Promise<void> {
    const { created, dropped, failed } = await deps.partitions.maintain()
    for (const partition of created) {
      deps.log.write({ event: 'partition.create', fields: { partition, error: null } }, BACKGROUND)
    }
    for (const partition of dropped) {
      deps.log.write({ event: 'partition.drop', fields: { partition, error: null } }, BACKGROUND)
    }
    for (const { partition, error } of failed) {
      deps.log.write({ event: 'partition.fail', fields: { partition, error } }, BACKGROUND)
    }
  }

  async function sweep(): Promise<void> {
    commandsWaiting = await deps.queue.countWaiting()
    for (;;) {
      const expired = await deps.queue.expire(BATCH)
      for (const { requestId, deviceId, alias, action, admin } of expired) {
        const context = { ...BACKGROUND, requestId, deviceId, alias }
        const fields = { action, admin, reason: 'ttl' }
        deps.log.write({ event: 'command.expired', fields }, context)
        deps.onEnded(requestId)
      }
      if (expired.length < BATCH) return
    }
  }

  async function prune(): Promise<void> {
    await deps.pruneSignatures()
    while ((await deps.queue.prune(deps.commandRetentionDays, BATCH)) === BATCH);
  }

  return {
    partitionsOnce,
    start() {
      // A failing task has been reported as db.unavailable or as the partition's own line; its next turn comes.
      const ignore = () => {}
      tasks = [
        startPeriodic(SWEEP_MS, sweep, ignore),
        startPeriodic(PARTITIONS_MS, partitionsOnce, ignore),
        startPeriodic(PRUNE_MS, prune, ignore),
      ]
    },
    async stop() {
      await Promise.all(tasks.map((task) => task.stop()))
    },
    get commandsWaiting() {
      return commandsWaiting
    },
  }
}
