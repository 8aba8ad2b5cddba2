/**
 * F5: what one observation costs through the handles that the service uses, and one scrape at full cardinality,
 * after few observations and after many.
 *
 *   npm run bench:metrics -- [--peer DIR] [--runs 9] [--observations 2000000]
 *
 * DIR is a copy of the peer bench (`metrics.mjs` with its node_modules): prom-client beside us, run by run.
 */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { createMetrics, type Metrics, type RouteMetrics } from '../src/telemetry/metrics/metrics.ts'
import { GAUGES } from '../src/telemetry/metrics/names.ts'
import { median } from '../testkit/statistics.ts'

const { values } = parseArgs({
  options: {
    peer: { type: 'string' },
    runs: { type: 'string', default: '9' },
    observations: { type: 'string', default: '2000000' },
  },
})
const RUNS = Number(values.runs)
const OBSERVATIONS = Number(values.observations)
const FEW = 1e3
const MANY = 1e7
const SCRAPES = 200
const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'BREW']
const STATUSES = [200, 304, 404, 503]
const ACTIONS = ['ping', 'launch_app', 'update', 'ring', 'reboot', 'restart_app', 'list_packages']
/** More than the build types with their own series. */
const BUILD_TYPES = Array.from({ length: 40 }, (_, index) => `type-${index}`)
/** Mostly fast, with a tail through every bucket; a power of two of them. */
const LATENCIES_MS = Float64Array.from({ length: 1024 }, (_, index) =>
  index % 8 === 0 ? 1.4 ** (index % 27) : 0.3 + (index % 37) / 10,
)

interface Full {
  readonly metrics: Metrics
  readonly routes: readonly RouteMetrics[]
}

/** Every series that the service can have with coarse status codes. */
function fullMetrics(): Full {
  const openapi = readFileSync(
    fileURLToPath(new URL('../../openapi.json', import.meta.url)),
    'utf8',
  )
  const { paths }: { paths: Record<string, unknown> } = JSON.parse(openapi)
  const metrics = createMetrics({
    actions: ACTIONS,
    statusMode: 'coarse',
    version: '1.2.3',
    gauges: {
      ...Object.assign({}, ...Object.keys(GAUGES).map((name) => ({ [name]: () => 0 }))),
      logLinesDropped: () => ({ DEBUG: 0, INFO: 0, WARN: 0, ERROR: 0 }),
    },
  })
  const routes = [...Object.keys(paths), 'unmatched'].map((path) => metrics.route(path))
  for (const route of routes) {
    for (const method of METHODS) for (const status of STATUSES) route.ended(method, status, 1)
  }
  for (const action of [...ACTIONS, 'another']) metrics.fcmDispatchLatency(action).observe(1)
  for (const type of BUILD_TYPES) metrics.apkDownload(type, 'ota').add()
  return { metrics, routes }
}

function latencyMs(index: number): number {
  return LATENCIES_MS[index & 1023] ?? 0
}

function endRequests({ routes }: Full, count: number): void {
  for (let index = 0; index < count; index++) {
    const status = STATUSES[index & 3] ?? 200
    routes[index % routes.length]?.ended(METHODS[index % 5] ?? 'GET', status, latencyMs(index))
  }
}

/** Each in its own loop, whose cost is included. */
function observationsOf(full: Full): Record<string, (count: number) => void> {
  const histogram = full.metrics.fcmDispatchLatency('ping')
  const counter = full.metrics.heartbeatsIngested
  return {
    'Counter.add': (count) => {
      for (let index = 0; index < count; index++) counter.add()
    },
    'Histogram.observe': (count) => {
      for (let index = 0; index < count; index++) histogram.observe(latencyMs(index))
    },
    'RouteMetrics.ended (a counter and a histogram)': (count) => endRequests(full, count),
  }
}

function nsEach(observe: (count: number) => void): number {
  const startMs = performance.now()
  observe(OBSERVATIONS)
  return ((performance.now() - startMs) * 1e6) / OBSERVATIONS
}

/** A scrape: the text and its bytes. */
function scrapeMs(metrics: Metrics): number {
  const startMs = performance.now()
  for (let scrape = 0; scrape < SCRAPES; scrape++) Buffer.from(metrics.render().text)
  return (performance.now() - startMs) / SCRAPES
}

function shown(figure: number): string {
  return figure.toPrecision(3).padStart(6)
}

const few = fullMetrics()
const many = fullMetrics()
endRequests(few, FEW)
endRequests(many, MANY)

const observed = fullMetrics()
const observations = Object.entries(observationsOf(observed))
const { series } = many.metrics.render()

/** By name, in the order of the first run. */
const figures = new Map<string, number[]>()
const keep = (what: string, figure: number) => {
  figures.set(what, [...(figures.get(what) ?? []), figure])
}
for (let run = -1; run < RUNS; run++) {
  if (run === 0) figures.clear() // the first one only warms up
  for (const [what, observe] of observations) keep(`${what}, ns`, nsEach(observe))
  keep(`scrape of ${series} series, after 1e3 requests, ms`, scrapeMs(few.metrics))
  keep(`scrape of ${series} series, after 1e7 requests, ms`, scrapeMs(many.metrics))
  if (values.peer === undefined) continue
  const peer = join(values.peer, 'metrics.mjs')
  const said = execFileSync(process.execPath, [peer], { encoding: 'utf8' })
  for (const [, what = '', figure, unit = ''] of said.matchAll(/^(.*) ([\d.]+) (ns|ms)$/gm)) {
    keep(`${what}, ${unit}`, Number(figure))
  }
}

for (const [what, found] of figures) {
  const [middle, low, high] = [median(found), Math.min(...found), Math.max(...found)]
  console.log(`${what.padEnd(62)} ${shown(middle)}  (${shown(low)}–${shown(high)})`)
}
console.log(
  `medians of ${RUNS} runs (least–most); F5: an observation at most 30 ns, a scrape at most 2 ms`,
)
for (const { metrics } of [few, many, observed]) metrics.close()
