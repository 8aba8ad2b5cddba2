/**
 * How the service begins and ends, in order (the parts are made in server.ts).
 *
 * listening → service.start (installation known, or the database is slow to come) → prepared → service.ready
 * closing: /readyz 503, `Connection: close`, still serving (SHUTDOWN_DRAIN_MS) → no new connections, requests
 * in flight end → groups drain, sends in flight are recorded → pools → embedded database → service.stop.
 * A hurry (a second signal) cuts every one of these waits: requests are answered 503, leases still go back.
 */
import { type Config, maskedConfig } from '../config/config.ts'
import { TROUBLES, type Trouble } from '../db/health/trouble.ts'
import type { AtFailpoint } from '../domain/failpoint.ts'
import type { Listener } from '../http/listener.ts'
import { sleep, waitAtMost, withTimeout } from '../lib/timeouts.ts'
import { stopListening } from './listening.ts'
import type { Maintenance } from './maintenance.ts'
import type { Sender } from './push.ts'
import { prepareDatabase, type StartupDeps } from './startup.ts'

/** What changes in the life of a process, and who reads it: the routes. */
export interface ServiceState {
  /** null until the database was first reached. */
  instanceId: string | null
  isPrepared: boolean
}

export interface LifecycleDeps
  extends Pick<
    StartupDeps,
    | 'databaseUrl'
    | 'dialer'
    | 'verifyServer'
    | 'database'
    | 'secrets'
    | 'observe'
    | 'printNotice'
    | 'log'
  > {
  readonly config: Config
  readonly version: string
  readonly startedAtMs: number
  readonly state: ServiceState
  readonly closing: AbortController
  readonly trouble: () => Trouble | undefined
  /** Writes at once the lines that a limit holds back (telemetry/log/line-limit.ts). */
  readonly flushLog: () => void
  readonly listener: Listener
  readonly sender: Sender | undefined
  readonly maintenance: Maintenance
  readonly heartbeats: { close(): Promise<void> }
  readonly failpoint?: AtFailpoint | undefined
  /** Ends what is left, in order: pools within the time given and not after `hurry`, gauges, embedded database. */
  readonly closeRest: (deadlineMs: number, hurry: AbortSignal) => Promise<void>
}

/** How long `service.start` waits to name the installation. */
const START_LINE_WAIT_MS = 1_500
/**
 * What follows the requests in flight gets half of the time left, at most this much: a sixth each for the last lines of
 * requests that were cut off and (process.ts) for the log, a third each for groups and sends, and for what is closed.
 */
const MAX_CLOSE_MS = 6_000
/** What a hurry leaves for leases to go back and for connections to be closed, each. */
const HURRIED_MS = 250
// All is said within the second that probes usually have, and a balancer that looks once a second learns within two that
// the database is frozen.
/** An answer proves for so long that the database is there. */
const FRESH_MS = 100
/** The same where all connections are busy, or were: each may wait for a lock (500 ms, db/postgres/client-options.ts) before it has an answer. */
const BUSY_FRESH_MS = 700
/** Longest wait for a ping. */
const PING_MS = 800
/** The same within an episode of trouble, where none is expected to come back. */
const DOWN_PING_MS = 300

/** Resolves when requests are served; rejects with StartError where they must not be. */
export async function start(deps: LifecycleDeps): Promise<void> {
  let isAnnounced = false
  function announce(): void {
    if (isAnnounced) return
    isAnnounced = true
    const push = deps.sender === undefined ? 'off' : 'on'
    deps.log({
      event: 'service.start',
      fields: {
        version: deps.version,
        instance_id: deps.state.instanceId,
        database: deps.trouble() ?? null,
        config: { ...maskedConfig(deps.config), push },
      },
    })
  }

  await deps.sender?.selfTest()
  const preparing = prepareDatabase({
    ...deps,
    identified(instanceId) {
      deps.state.instanceId = instanceId
      announce()
    },
    makePartitions: deps.maintenance.partitionsOnce,
    closing: deps.closing.signal,
  })
  // A database that is away must not keep the operator from reading how we were started.
  await waitAtMost(preparing, START_LINE_WAIT_MS)
  announce()
  await preparing
  deps.state.isPrepared = true
  deps.maintenance.start()
  deps.sender?.dispatcher.start()
  const startupMs = performance.now() - deps.startedAtMs
  deps.log({ event: 'service.ready', fields: { startup_ms: startupMs } })
}

/** The way to the database that nearly every request takes. */
export interface DatabaseView {
  /** Of the episode of trouble that it is in. */
  readonly trouble: () => Trouble | undefined
  /** Since it last answered a statement, ms. */
  readonly msSinceResponse: () => number
  /** Requests wait for a connection: so would a ping. */
  readonly isBusy: () => boolean
  /** May take 2 s. Joins one under way: anybody may ask, as often as they like. */
  readonly ping: () => Promise<unknown>
}

/**
 * What keeps the service from serving, and why; empty: nothing. A replica whose connections are all busy is slow, not
 * away: were it taken out of the balance, the others would have its load too, and go the same way.
 */
export async function unready(
  state: ServiceState,
  closing: AbortSignal,
  database: DatabaseView,
): Promise<Readonly<Record<string, string>>> {
  if (closing.aborted) return { service: 'stopping' }
  const reasonOf = (trouble: Trouble) => ({ database: `${trouble}: ${TROUBLES[trouble]}` })
  if (!state.isPrepared) {
    const trouble = database.trouble()
    return trouble === undefined ? { database: 'not migrated yet' } : reasonOf(trouble)
  }
  const isDown = () => database.trouble() !== undefined
  const hasResponded = (freshMs: number) => !isDown() && database.msSinceResponse() <= freshMs
  if (hasResponded(database.isBusy() ? BUSY_FRESH_MS : FRESH_MS)) return {}
  const isThere = await withTimeout(
    database.ping(),
    isDown() ? DOWN_PING_MS : PING_MS,
    () => new Error('the ping takes too long'),
  ).then(
    () => true,
    () => hasResponded(BUSY_FRESH_MS), // it may have waited for a connection in vain
  )
  if (closing.aborted) return { service: 'stopping' }
  return isThere ? {} : reasonOf(database.trouble() ?? 'silent')
}

/** `reason` goes into `service.stop`. */
export async function stop(deps: LifecycleDeps, reason: string, hurry: AbortSignal): Promise<void> {
  const { config } = deps
  const closingAtMs = performance.now()
  deps.closing.abort()
  // Still serving, so that a balancer that learns from /readyz sends no request to a closed port; it never
  // sent one to a service that never was ready.
  if (deps.state.isPrepared) await sleep(config.shutdownDrainMs, hurry)
  const leftMs = Math.max(0, config.shutdownGraceMs - (performance.now() - closingAtMs))
  const closeMs = Math.min(MAX_CLOSE_MS, leftMs / 2)
  await stopListening(deps.listener, leftMs - closeMs, closeMs / 6, hurry)
  deps.failpoint?.('mid_shutdown')
  const drained = Promise.all([
    deps.heartbeats.close(),
    deps.sender?.dispatcher.close(closeMs / 3, hurry),
    deps.maintenance.stop(),
  ])
  await unhurried(drained, closeMs / 3, hurry)
  await unhurried(deps.closeRest(closeMs / 6, hurry), closeMs / 3, hurry)
  const drainedMs = performance.now() - closingAtMs
  deps.flushLog()
  deps.log({ event: 'service.stop', fields: { reason, drained_ms: drainedMs } })
}

/** Waits at most `ms`, and for HURRIED_MS once there is a hurry. */
async function unhurried(work: Promise<unknown>, ms: number, hurry: AbortSignal): Promise<void> {
  await waitAtMost(work, ms, hurry)
  if (hurry.aborted) await waitAtMost(work, Math.min(ms, HURRIED_MS))
}
