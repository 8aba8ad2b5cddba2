/**
 * Background work of every replica; each task may run on several replicas at once. It makes and drops heartbeat partitions,
 * expires commands, notices devices that went silent, prunes rows whose retention has passed, counts the waiting commands,
 * and probes a database that is away.
 */

import type { CommandOutbox } from '../../db/commands/outbox.ts'
import type { ServerWatch } from '../../db/health/server-watch.ts'
import { type Partitions, runsOfDays } from '../../db/heartbeats/partitions.ts'
import type { Prune, Pruned } from '../../db/retention.ts'
import { type Periodic, startPeriodic } from '../../lib/periodic.ts'
import { BACKGROUND, type Log } from '../../telemetry/log/log.ts'
import type { BackgroundTask, ReportFailure } from './background-failures.ts'

export interface MaintenanceDeps {
  readonly partitions: Partitions
  readonly outbox: Pick<CommandOutbox, 'expire' | 'hasMoreExpired' | 'countWaiting'>
  /** Marks devices that went silent, and returns how many. */
  readonly sweepOffline: () => Promise<number>
  /** In this order: a row that refers to another one goes first. */
  readonly prunes: readonly Prune[]
  readonly log: Log
  readonly reportFailure: ReportFailure
  /** While the database is away: runs a statement that proves that it is back. */
  readonly probe: () => Promise<void>
  /** Monotonic. */
  readonly nowMs: () => number
  /** Reads builds that a former release has stored without reading them. */
  readonly readBuilds: (signal: AbortSignal) => Promise<void>
  readonly watch: Pick<ServerWatch, 'check' | 'stop'>
  /** How often commands are counted and expired. Default SWEEP_MS. */
  readonly sweepMs?: number
  /** To be called when a command has ended. */
  readonly commandChanged: (requestId: string) => void
}

export interface Maintenance {
  /** Makes missing partitions; at the start, before the first heartbeat. */
  partitionsOnce(): Promise<void>
  start(): void
  stop(): Promise<void>
  /** Commands that are or will be due for push, as last counted. */
  readonly commandsWaiting: number
}

const SWEEP_MS = 5_000
/** While the database is away: no request may be there to notice its return. */
const PROBE_MS = 1_000
/** Between two checks of the database server. */
const WATCH_MS = 3_000
const PARTITIONS_MS = 60 * 60_000
const PRUNE_MS = 10 * 60_000
/** After the start, builds of a former release are read. */
const READ_BUILDS_MS = 5_000
/** A replica of that release may still publish some. */
const READ_AGAIN_MS = 10 * 60_000
/** Share of time spent on counting for a gauge: while another session holds a snapshot, the count reads every row that was due since. */
const COUNT_SHARE = 0.01
const BATCH = 500

export function createMaintenance(deps: MaintenanceDeps): Maintenance {
  let commandsWaiting = 0
  let countAtMs = 0
  let readAgainAtMs = 0
  let tasks: readonly Periodic[] = []
  let isStopping = false
  const stopping = new AbortController()

  const partitionsOnce = () => maintainPartitions(deps)

  async function sweep(): Promise<void> {
    do {
      for (const { requestId, deviceId, alias, action, admin } of await deps.outbox.expire(BATCH)) {
        const context = { ...BACKGROUND, requestId, deviceId, alias }
        const fields = { action, admin, reason: 'ttl' }
        deps.log.write({ event: 'command.expired', fields }, context)
        deps.commandChanged(requestId)
      }
    } while (deps.outbox.hasMoreExpired() && !isStopping)
  }

  async function count(): Promise<void> {
    const startedAtMs = deps.nowMs()
    if (startedAtMs < countAtMs) return
    try {
      commandsWaiting = await deps.outbox.countWaiting()
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

  async function readBuilds(): Promise<void> {
    if (deps.nowMs() < readAgainAtMs) return
    await deps.readBuilds(stopping.signal).catch((error: unknown) => {
      if (!stopping.signal.aborted) throw error
    })
    readAgainAtMs = deps.nowMs() + READ_AGAIN_MS
  }

  /** The next turn of the task comes anyway. */
  const reporting = (task: BackgroundTask) => (error: unknown) => deps.reportFailure(task, error)

  return {
    partitionsOnce,
    start() {
      tasks = [
        startPeriodic(deps.sweepMs ?? SWEEP_MS, sweep, reporting('sweep')),
        startPeriodic(
          deps.sweepMs ?? SWEEP_MS,
          async () => void (await deps.sweepOffline()),
          reporting('offline'),
        ),
        // Separate from the sweep, which must not wait for a gauge.
        startPeriodic(deps.sweepMs ?? SWEEP_MS, count, reporting('count')),
        startPeriodic(PROBE_MS, deps.probe, () => {}), // the outage is logged already
        startPeriodic(WATCH_MS, deps.watch.check, () => {}), // the pools notice as well
        startPeriodic(PARTITIONS_MS, partitionsOnce, reporting('partitions')),
        startPeriodic(PRUNE_MS, prune, reporting('prune')),
        startPeriodic(READ_BUILDS_MS, readBuilds, reporting('builds')),
      ]
    },
    async stop() {
      isStopping = true
      stopping.abort()
      deps.watch.stop()
      await Promise.all(tasks.map((task) => task.stop()))
    },
    get commandsWaiting() {
      return commandsWaiting
    },
  }
}

async function maintainPartitions({ partitions, log }: MaintenanceDeps): Promise<void> {
  const { created, dropped, failed } = await partitions.maintain()
  for (const run of runsOfDays(created)) {
    log.write({ event: 'partition.create', fields: { ...run, error: null } }, BACKGROUND)
  }
  for (const run of runsOfDays(dropped)) {
    log.write({ event: 'partition.drop', fields: { ...run, error: null } }, BACKGROUND)
  }
  for (const { partition, error } of failed) {
    log.write({ event: 'partition.fail', fields: { partition, error } }, BACKGROUND)
  }
}
