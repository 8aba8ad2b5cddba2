/**
 * What the service does by itself, on every replica, each task safe beside the others: heartbeat partitions
 * ahead and retention, expiry of commands, pruning of what is kept for so long, the number of commands that wait, and
 * whether a database that was away is back.
 */

import type { CommandQueue } from '../db/commands/queue.ts'
import type { ServerWatch } from '../db/health/server-watch.ts'
import { type Partitions, runsOfDays } from '../db/heartbeats/partitions.ts'
import type { Prune, Pruned } from '../db/retention.ts'
import { type Periodic, startPeriodic } from '../lib/periodic.ts'
import { BACKGROUND, type Log } from '../telemetry/log/log.ts'
import type { BackgroundTask, ReportFailure } from './background-failures.ts'

export interface MaintenanceDeps {
  readonly partitions: Partitions
  readonly queue: Pick<CommandQueue, 'expire' | 'hasMoreExpired' | 'countWaiting'>
  /** In this order: what refers to another row before that row. */
  readonly prunes: readonly Prune[]
  readonly log: Log
  readonly reportFailure: ReportFailure
  /** While the database is away: asks it whatever would prove that it is back. */
  readonly probe: () => Promise<void>
  /** Monotonic. */
  readonly nowMs: () => number
  readonly watch: Pick<ServerWatch, 'check' | 'stop'>
  /** How often commands are counted and expired. Default SWEEP_MS. */
  readonly sweepMs?: number
  /** A command has ended. */
  readonly commandChanged: (requestId: string) => void
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
/** While the database is away: nobody else may ask it anything. */
const PROBE_MS = 1_000
/** Between two checks of the database server. */
const WATCH_MS = 3_000
const PARTITIONS_MS = 60 * 60_000
const PRUNE_MS = 10 * 60_000
/** Of the time, for a gauge: under a snapshot that is held it reads whatever was due since. */
const COUNT_SHARE = 0.01
const BATCH = 500

export function createMaintenance(deps: MaintenanceDeps): Maintenance {
  let commandsWaiting = 0
  let countAtMs = 0
  let tasks: readonly Periodic[] = []
  let isStopping = false

  async function partitionsOnce(): Promise<void> {
    const { created, dropped, failed } = await deps.partitions.maintain()
    for (const run of runsOfDays(created)) {
      deps.log.write({ event: 'partition.create', fields: { ...run, error: null } }, BACKGROUND)
    }
    for (const run of runsOfDays(dropped)) {
      deps.log.write({ event: 'partition.drop', fields: { ...run, error: null } }, BACKGROUND)
    }
    for (const { partition, error } of failed) {
      deps.log.write({ event: 'partition.fail', fields: { partition, error } }, BACKGROUND)
    }
  }

  async function sweep(): Promise<void> {
    do {
      for (const { requestId, deviceId, alias, action, admin } of await deps.queue.expire(BATCH)) {
        const context = { ...BACKGROUND, requestId, deviceId, alias }
        const fields = { action, admin, reason: 'ttl' }
        deps.log.write({ event: 'command.expired', fields }, context)
        deps.commandChanged(requestId)
      }
    } while (deps.queue.hasMoreExpired() && !isStopping)
  }

  async function count(): Promise<void> {
    const startedAtMs = deps.nowMs()
    if (startedAtMs < countAtMs) return
    try {
      commandsWaiting = await deps.queue.countWaiting()
    } finally {
      countAtMs = startedAtMs + (deps.nowMs() - startedAtMs) / COUNT_SHARE
    }
  }

  async function prune(): Promise<void> {
    for (const pruneSome of deps.prunes) {
      let pruned: Pruned = { count: BATCH, last: null }
      while (pruned.count === BATCH && !isStopping) pruned = await pruneSome(BATCH, pruned.last)
    }
  }

  /** Its next turn comes anyway. */
  const reporting = (task: BackgroundTask) => (error: unknown) => deps.reportFailure(task, error)

  return {
    partitionsOnce,
    start() {
      tasks = [
        startPeriodic(deps.sweepMs ?? SWEEP_MS, sweep, reporting('sweep')),
        // Apart from the sweep, which must go on whatever a gauge costs.
        startPeriodic(deps.sweepMs ?? SWEEP_MS, count, reporting('count')),
        startPeriodic(PROBE_MS, deps.probe, () => {}), // that it fails is known
        startPeriodic(WATCH_MS, deps.watch.check, () => {}), // the pools notice as well
        startPeriodic(PARTITIONS_MS, partitionsOnce, reporting('partitions')),
        startPeriodic(PRUNE_MS, prune, reporting('prune')),
      ]
    },
    async stop() {
      isStopping = true
      deps.watch.stop()
      await Promise.all(tasks.map((task) => task.stop()))
    },
    get commandsWaiting() {
      return commandsWaiting
    },
  }
}
