/**
 * Every metric of the service: name, help, labels, buckets. Names are a contract, spec/telemetry.md.
 * The number of series is bounded by the route table, the configured actions and statusMode.
 */

import { LEVELS, type LevelCounts } from '../log/levels.ts'
import type { Counter } from './counter.ts'
import { measureEventLoopDelay } from './event-loop-delay.ts'
import { type Histogram, LATENCY_BUCKETS_MS } from './histogram.ts'
import type { Labels } from './prometheus.ts'
import { type Exposition, Registry } from './registry.ts'

export interface MetricsOptions {
  readonly actions: readonly string[]
  readonly statusMode: 'coarse' | 'exact'
  readonly version: string
  /** Read at every scrape; must not throw. */
  readonly gauges: {
    connectionsOpen(): number
    connectionsRefused(): number
    connectionsEvicted(): number
    logLinesDropped(): LevelCounts
    logRingBytes(): number
    heartbeatQueueDepth(): number
    dbPoolInUse(): number
    dbPoolWaiting(): number
    dbConnectAttempts(): number
    dbConnectFailures(): number
    dbConnectionsGivenUp(): number
    dbCancelRequests(): number
    /** NaN: not known. */
    dbSyncStandbys(): number
    untaggedTokensRefused(): number
    registrationsWaiting(): number
    backgroundWaiting(): number
    commandsWaiting(): number
  }
}

export type DownloadSource = 'enrollment' | 'ota' | 'manual'

export interface Metrics {
  /** The handles of a path template of the route table, or `unmatched`: resolve once, never from a raw path. */
  route(template: string): RouteMetrics
  /** One observation per HTTP attempt; an action that is not configured is `OTHER`. */
  fcmDispatchLatency(action: string): Histogram
  /** The first 32 build types have their own series, the rest is `OTHER`. */
  apkDownload(buildType: string, source: DownloadSource): Counter
  readonly heartbeatsIngested: Counter
  readonly heartbeatsDedupHits: Counter
  /** A scrape. Changes nothing. */
  render(): Exposition
  /** Stops the measurement of the event loop delay; render() still works. */
  close(): void
}

export interface RouteMetrics {
  /** A request ended. Allocates nothing but the counter of a new method and status. */
  ended(method: string, statusCode: number, latencyMs: number): void
}

const OTHER = 'OTHER'
const METHODS: readonly string[] = ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS']
const COARSE: readonly string[] = ['200', '3xx', '4xx', '5xx']
const MAX_BUILD_TYPES = 32

export function createMetrics(options: MetricsOptions): Metrics {
  const registry = new Registry()
  const requests = registry.counter('http_requests_total', 'HTTP requests that have ended.')
  const latency = registry.histogram(
    'http_request_latency_ms',
    'Milliseconds from the parsed request head to the end of the response.',
    LATENCY_BUCKETS_MS,
  )
  const dispatch = registry.histogram(
    'fcm_dispatch_latency_ms',
    'Milliseconds of one HTTP attempt at FCM, failed ones included, token fetch excluded.',
    LATENCY_BUCKETS_MS,
  )
  const downloads = registry.counter('apk_download_total', 'APK downloads that ended normally.')
  const heartbeatsIngested = registry.counter('heartbeats_ingested_total', 'Heartbeats stored.')({})
  const heartbeatsDedupHits = registry.counter(
    'heartbeats_dedup_hits_total',
    'Heartbeats inside the window of one already stored.',
  )({})
  const closeHealth = addHealth(registry, options)

  const routes = new Map<string, RouteMetrics>()
  function route(template: string): RouteMetrics {
    const known = routes.get(template)
    if (known !== undefined) return known
    const made = routeMetrics(template, options.statusMode, requests, latency({ route: template }))
    routes.set(template, made)
    return made
  }
  const known = new Set(options.actions.filter((action) => action !== OTHER))
  const actions = cells(known.size, (action) => dispatch({ action }))
  known.forEach(actions)
  const buildTypes = cells(MAX_BUILD_TYPES, (buildType) => ({
    enrollment: downloads({ build_type: buildType, source: 'enrollment' }),
    ota: downloads({ build_type: buildType, source: 'ota' }),
    manual: downloads({ build_type: buildType, source: 'manual' }),
  }))

  return {
    route,
    fcmDispatchLatency: actions,
    apkDownload: (buildType, source) => buildTypes(buildType)[source],
    heartbeatsIngested,
    heartbeatsDedupHits,
    render: () => registry.render(),
    close: closeHealth,
  }
}

/** The cell of a name, made at its first use; from the `most`+1st distinct name on, that of OTHER. */
function cells<T>(most: number, make: (name: string) => T): (name: string) => T {
  const made = new Map<string, T>()
  const cell = (name: string): T => {
    const known = made.get(name)
    if (known !== undefined) return known
    if (name !== OTHER && made.size - (made.has(OTHER) ? 1 : 0) >= most) return cell(OTHER)
    const created = make(name)
    made.set(name, created)
    return created
  }
  return cell
}

function routeMetrics(
  route: string,
  statusMode: 'coarse' | 'exact',
  requests: (labels: Labels) => Counter,
  latency: Histogram,
): RouteMetrics {
  const statuses = statusMode === 'coarse' ? COARSE.length : 500
  const slot = statusMode === 'coarse' ? coarseSlot : exactSlot
  /** method-major; undefined until the first request that ended so. */
  const counters: (Counter | undefined)[] = Array.from({ length: (METHODS.length + 1) * statuses })

  return {
    ended(method, statusCode, latencyMs) {
      const known = METHODS.indexOf(method)
      const methodSlot = known === -1 ? METHODS.length : known
      const statusSlot = slot(statusCode)
      const index = methodSlot * statuses + statusSlot
      let counter = counters[index]
      if (counter === undefined) {
        counter = requests({
          route,
          method: METHODS[methodSlot] ?? OTHER,
          status_code:
            statusMode === 'coarse' ? (COARSE[statusSlot] ?? '5xx') : `${statusSlot + 100}`,
        })
        counters[index] = counter
      }
      counter.add()
      latency.observe(latencyMs)
    },
  }
}

/** Index into COARSE; what is neither 2xx, 3xx nor 4xx is a fault. */
function coarseSlot(statusCode: number): number {
  const hundreds = Math.floor(statusCode / 100)
  return hundreds >= 2 && hundreds <= 4 ? hundreds - 2 : 3
}

/** 0 for 100 to 499 for 599; anything else counts as 500. */
function exactSlot(statusCode: number): number {
  return Number.isInteger(statusCode) && statusCode >= 100 && statusCode <= 599
    ? statusCode - 100
    : 400
}

/** What an operator needs to trust the rest. Answers how to stop the measurements. */
function addHealth(registry: Registry, { gauges, version }: MetricsOptions): () => void {
  const delay = measureEventLoopDelay()
  const { gauge, counter } = singlesOf(registry)

  gauge('fleetloop_connections_open', 'Open connections of clients.', () =>
    gauges.connectionsOpen(),
  )
  counter(
    'fleetloop_connections_refused_total',
    'Connections closed since too many were at work, or too many requests were open on one.',
    () => gauges.connectionsRefused(),
  )
  counter(
    'fleetloop_connections_evicted_total',
    'Idle connections closed to let another one in.',
    () => gauges.connectionsEvicted(),
  )
  registry.read(
    'fleetloop_log_lines_dropped_total',
    'Log lines that never reached stdout.',
    'counter',
    LEVELS.map((level) => ({ labels: { level }, value: () => gauges.logLinesDropped()[level] })),
  )
  gauge('fleetloop_log_ring_bytes', 'Bytes of log lines not yet written.', () =>
    gauges.logRingBytes(),
  )
  gauge('fleetloop_heartbeat_queue_depth', 'Heartbeats waiting to be stored.', () =>
    gauges.heartbeatQueueDepth(),
  )
  addDatabase(registry, gauges)
  counter(
    'fleetloop_untagged_tokens_refused_total',
    'Enrollment tokens without a tag of ours that nobody looked up, since too many waited.',
    () => gauges.untaggedTokensRefused(),
  )
  gauge('fleetloop_registrations_waiting', 'Registrations waiting for their turn.', () =>
    gauges.registrationsWaiting(),
  )
  gauge('fleetloop_background_waiting', 'Statements of background work that wait.', () =>
    gauges.backgroundWaiting(),
  )
  gauge('fleetloop_commands_waiting', 'Commands waiting for dispatch; 10000 stands for more.', () =>
    gauges.commandsWaiting(),
  )
  gauge(
    'fleetloop_event_loop_delay_p99_ms',
    'How late the event loop is, 99th percentile of the last 15 to 30 s.',
    () => delay.p99Ms(),
  )
  gauge('process_resident_memory_bytes', 'Resident memory size in bytes.', () =>
    process.memoryUsage.rss(),
  )
  gauge('fleetloop_build_info', 'Always 1.', () => 1, { version })

  return () => delay.close()
}

/** How series are added of which there is one. */
function singlesOf(registry: Registry) {
  const add =
    (kind: 'gauge' | 'counter') =>
    (name: string, help: string, value: () => number, labels: Labels = {}) =>
      registry.read(name, help, kind, [{ labels, value }])
  return { gauge: add('gauge'), counter: add('counter') }
}

function addDatabase(registry: Registry, gauges: MetricsOptions['gauges']): void {
  const { gauge, counter } = singlesOf(registry)
  gauge('fleetloop_db_pool_in_use', 'Database connections at work.', () => gauges.dbPoolInUse())
  gauge('fleetloop_db_pool_waiting', 'Callers waiting for a connection.', () =>
    gauges.dbPoolWaiting(),
  )
  gauge(
    'fleetloop_db_connections_given_up',
    'Database connections given up that the server has not closed yet.',
    () => gauges.dbConnectionsGivenUp(),
  )
  counter('fleetloop_db_connect_attempts_total', 'Attempts to connect to the database.', () =>
    gauges.dbConnectAttempts(),
  )
  counter(
    'fleetloop_db_connect_failures_total',
    'Attempts to connect to the database that failed.',
    () => gauges.dbConnectFailures(),
  )
  counter(
    'fleetloop_db_cancel_requests_total',
    'Requests to cancel a statement that was given up.',
    () => gauges.dbCancelRequests(),
  )
  gauge('fleetloop_db_sync_standbys', 'Synchronous standbys attached; NaN: not known.', () =>
    gauges.dbSyncStandbys(),
  )
}
