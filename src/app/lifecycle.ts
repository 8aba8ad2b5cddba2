/**
 * How the service begins and ends, in order (the parts are made in server.ts).
 *
 * listening → service.start (installation known, or the database is slow to come) → prepared → service.ready
 * closing: /readyz 503, `Connection: close`, still serving (SHUTDOWN_DRAIN_MS) → no new connections, requests
 * in flight end → groups drain, sends in flight are recorded → pools → embedded database → service.stop.
 * A hurry (a second signal) cuts every one of these waits: requests are answered 503, leases still go back.
 */
import { maskedConfig } from '../config/config.ts'
import type { Trouble } from '../db/health/trouble.ts'
import type { Listener } from '../http/listener.ts'
import { sleep, waitAtMost } from '../lib/timeouts.ts'
import { stopListening } from './listening.ts'
import type { Maintenance } from './parts/maintenance.ts'
import type { Sender } from './parts/push.ts'
import type { ServiceContext } from './service-context.ts'
import { prepareDatabase, type StartupDeps } from './startup.ts'

export interface LifecycleDeps
  extends ServiceContext,
    Pick<
      StartupDeps,
      'databaseUrl' | 'dialer' | 'verifyServer' | 'database' | 'secrets' | 'observe'
    > {
  readonly trouble: () => Trouble | undefined
  readonly listener: Listener
  readonly sender: Sender | undefined
  readonly maintenance: Maintenance
  readonly heartbeats: { close(): Promise<void> }
  /** Writes the lines that a limit still holds back (telemetry/log/line-limit.ts). */
  readonly flushLog: () => void
  /** Closes pools within the time given and not after `hurry`, then gauges, then the embedded database. */
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
