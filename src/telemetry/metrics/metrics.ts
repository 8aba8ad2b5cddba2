/**
 * The metrics of the service, by the tables of names.ts. The number of series is bounded by the route table, the configured
 * actions, statusMode and MAX_BUILD_TYPES.
 */
import { LEVELS } from '../log/levels.ts'
import type { Counter } from './counter.ts'
import { measureEventLoopDelay } from './event-loop-delay.ts'
import { type Histogram, LATENCY_BUCKETS_MS, PUSH_DELAY_BUCKETS_MS } from './histogram.ts'
import { GAUGES, type Gauges, METRICS } from './names.ts'
import type { Labels } from './prometheus.ts'
import { type Exposition, Registry } from './registry.ts'

export interface MetricsOptions {
  readonly actions: readonly string[]
  readonly statusMode: 'coarse' | 'exact'
  readonly version: string
  /** All but those of the process itself. */
  readonly gauges: Omit<Gauges, 'eventLoopDelayMs' | 'residentBytes' | 'buildInfo'>
}

export type DownloadSource = 'enrollment' | 'ota' | 'manual'

export interface Metrics {
  /** The metrics of a path template of the route table, or `unmatched`. Resolve once, never from a raw path. */
  route(template: string): RouteMetrics
  /** Observe each HTTP attempt; an action that is not configured counts as `OTHER`. */
  fcmDispatchLatency(action: string): Histogram
  /** The first MAX_BUILD_TYPES build types have a series each; the rest count as `OTHER`. */
  apkDownload(buildType: string, source: DownloadSource): Counter
  readonly heartbeatsIngested: Counter
  readonly heartbeatsDedupHits: Counter
  readonly push: {
    readonly delay: Histogram
    readonly delayUnknown: Counter
    readonly deprioritized: Counter
  }
  /** Changes nothing. */
  render(): Exposition
  /** Stops measuring the event loop delay; render() still works. */
  close(): void
}

export interface RouteMetrics {
  /** Counts a request that ended. Allocates only for a new method and status. */
  ended(method: string, statusCode: number, latencyMs: number): void
}

const OTHER = 'OTHER'
const METHODS: readonly string[] = ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS']
const COARSE: readonly string[] = ['200', '3xx', '4xx', '5xx']
const MAX_BUILD_TYPES = 32

export function createMetrics(options: MetricsOptions): Metrics {
  const registry = new Registry()
  const requests = registry.counter(...METRICS.requests)
  const latency = registry.histogram(...METRICS.latency, LATENCY_BUCKETS_MS)
  const dispatch = registry.histogram(...METRICS.dispatch, LATENCY_BUCKETS_MS)
  const downloads = registry.counter(...METRICS.downloads)
  const heartbeatsIngested = registry.counter(...METRICS.heartbeatsIngested)({})
  const heartbeatsDedupHits = registry.counter(...METRICS.heartbeatsDedupHits)({})
  const push = {
    delay: registry.histogram(...METRICS.pushDelay, PUSH_DELAY_BUCKETS_MS)({}),
    delayUnknown: registry.counter(...METRICS.pushDelayUnknown)({}),
    deprioritized: registry.counter(...METRICS.pushDeprioritized)({}),
  }
  const delay = measureEventLoopDelay()
  const sources: Gauges = {
    ...options.gauges,
    eventLoopDelayMs: delay.p99Ms,
    residentBytes: () => process.memoryUsage.rss(),
    buildInfo: () => 1,
  }
  addGauges(registry, sources, options.version)

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
    push,
    render: () => registry.render(),
    close: delay.close,
  }
}

/** Creates the cell of a name at its first use. After `most` distinct names, all others share the cell of OTHER. */
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
  /** By method, then status; undefined before the first such request. */
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

/** Index into COARSE; anything but 2xx, 3xx and 4xx counts as 5xx. */
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

/** Adds GAUGES in their order; `sources` holds a function for each. */
function addGauges(registry: Registry, sources: Gauges, version: string): void {
  for (const key of keysOf(GAUGES)) {
    const [name, type, help] = GAUGES[key]
    const cells =
      key === 'logLinesDropped'
        ? LEVELS.map((level) => ({ labels: { level }, value: () => sources[key]()[level] }))
        : [{ labels: key === 'buildInfo' ? { version } : {}, value: sources[key] }]
    registry.read(name, help, type, cells)
  }
}

function keysOf<T extends object>(table: T): Extract<keyof T, string>[] {
  const keys: Extract<keyof T, string>[] = []
  for (const key in table) keys.push(key)
  return keys
}
