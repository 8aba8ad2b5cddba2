/**
 * Start and stop of the service, step by step; server.ts makes the parts.
 *
 * start: listening → `service.start`, once the installation is known or 1.5 s have passed → prepared → `service.ready`
 * stop: /readyz 503 and `Connection: close`, still serving (SHUTDOWN_DRAIN_MS) → no new connections, requests in flight
 * end → heartbeat groups and pushes in flight end → pools → embedded database → `service.stop`
 * A hurry (a second signal) cuts each wait short: open requests get 503, and leases still go back.
 */
import { maskedConfig } from '../config/config.ts'
import type { Trouble } from '../db/health/trouble.ts'
import type { Listener } from '../http/listener.ts'
import { sleep, waitAtMost } from '../lib/timeouts.ts'
import { stopListening } from './listening.ts'
import type { JobReleases } from './parts/job-releases.ts'
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
  readonly jobReleases: JobReleases
  readonly heartbeats: { close(): Promise<void> }
  /** Writes the lines that a limit still holds back (telemetry/log/line-limit.ts). */
  readonly flushLog: () => void
  /** Closes pools within the time given and not after `hurry`, then gauges, then the embedded database. */
  readonly closeRest: (deadlineMs: number, hurry: AbortSignal) => Promise<void>
}

/** Longest wait of `service.start` for the id of the installation. */
export const START_LINE_WAIT_MS = 1_500
/**
 * The steps after the requests in flight get half of the time left, at most this much: a sixth each for the last lines of
 * requests that were cut off and for the log (process.ts), a third each for groups and pushes, and for closing the rest.
 */
const MAX_CLOSE_MS = 6_000
/** In a hurry: time to return leases, and again to close connections. */
const HURRIED_MS = 250

/** Resolves when requests are served; rejects with StartError if the service must not serve. */
export async function start(deps: LifecycleDeps): Promise<void> {
  let isAnnounced = false
  function announce(): void {
    if (isAnnounced) return
    isAnnounced = true
    const push = deps.sender === undefined ? 'off' : 'on'
    deps.logLine({
      event: 'service.start',
      fields: {
        version: deps.version,
        instance_id: deps.state.instanceId,
        database: deps.trouble() ?? null,
        config: { ...maskedConfig(deps.config), push },
      },
    })
  }

  await deps.sender?.checkKey()
  const preparing = prepareDatabase({
    ...deps,
    identified(instanceId) {
      deps.state.instanceId = instanceId
      announce()
    },
    makePartitions: deps.maintenance.partitionsOnce,
    closing: deps.closing.signal,
  })
  // The operator sees the configuration even while the database is away.
  await waitAtMost(preparing, START_LINE_WAIT_MS)
  announce()
  await preparing
  deps.state.isPrepared = true
  deps.maintenance.start()
  deps.sender?.dispatcher.start()
  deps.jobReleases.start()
  const startupMs = performance.now() - deps.startedAtMs
  deps.logLine({ event: 'service.ready', fields: { startup_ms: startupMs } })
}

/** `reason` goes into `service.stop`. */
export async function stop(deps: LifecycleDeps, reason: string, hurry: AbortSignal): Promise<void> {
  const { config } = deps
  const closingAtMs = performance.now()
  deps.closing.abort()
  // Keeps serving until a balancer has seen /readyz fail, so that none sends a request to a closed port. A service that never
  // was ready gets no requests.
  if (deps.state.isPrepared) await sleep(config.shutdownDrainMs, hurry)
  const leftMs = Math.max(0, config.shutdownGraceMs - (performance.now() - closingAtMs))
  const closeMs = Math.min(MAX_CLOSE_MS, leftMs / 2)
  await stopListening(deps.listener, leftMs - closeMs, closeMs / 6, hurry)
  deps.failpoint?.('mid_shutdown')
  const drained = Promise.all([
    deps.heartbeats.close(),
    deps.sender?.dispatcher.close(closeMs / 3, hurry),
    deps.maintenance.stop(),
    deps.jobReleases.stop(),
  ])
  await unhurried(drained, closeMs / 3, hurry)
  await unhurried(deps.closeRest(closeMs / 6, hurry), closeMs / 3, hurry)
  const drainedMs = performance.now() - closingAtMs
  deps.flushLog()
  deps.logLine({ event: 'service.stop', fields: { reason, drained_ms: drainedMs } })
}

/** Waits at most `ms`; in a hurry at most HURRIED_MS more. */
async function unhurried(work: Promise<unknown>, ms: number, hurry: AbortSignal): Promise<void> {
  await waitAtMost(work, ms, hurry)
  if (hurry.aborted) await waitAtMost(work, Math.min(ms, HURRIED_MS))
}
