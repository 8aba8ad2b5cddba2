/** The text that Prometheus reads, and the bound on its series. */
import t from 'tap'
import { measureEventLoopDelay } from '../../src/telemetry/metrics/event-loop-delay.ts'
import { Histogram, LATENCY_BUCKETS_MS } from '../../src/telemetry/metrics/histogram.ts'
import {
  createMetrics,
  type Metrics,
  type MetricsOptions,
} from '../../src/telemetry/metrics/metrics.ts'
import { Registry } from '../../src/telemetry/metrics/registry.ts'
import { until } from '../../testkit/until.ts'

const GAUGES: MetricsOptions['gauges'] = {
  logLinesDropped: () => ({ DEBUG: 1, INFO: 2, WARN: 3, ERROR: 4 }),
  logRingBytes: () => 5,
  heartbeatQueueDepth: () => 6,
  dbPoolInUse: () => 7,
  dbPoolWaiting: () => 8,
  dbConnectAttempts: () => 15,
  dbConnectFailures: () => 16,
  dbConnectionsGivenUp: () => 17,
  dbCancelRequests: () => 18,
  dbSyncStandbys: () => 1,
  commandsWaiting: () => 9,
  jobsOpen: () => 19,
  eventReaders: () => 20,
  eventReadersRefused: () => 21,
  eventStreamsDropped: () => 22,
  eventsBehindS: () => 23,
  connectionsOpen: () => 10,
  connectionsRefused: () => 11,
  untaggedTokensRefused: () => 12,
  registrationsWaiting: () => 14,
  backgroundWaiting: () => 15,
  connectionsEvicted: () => 13,
}

function metricsFor(
  t: { teardown(end: () => void): void },
  options: Partial<MetricsOptions> = {},
): Metrics {
  const metrics = createMetrics({
    actions: ['PING'],
    statusMode: 'coarse',
    version: '1.2.3',
    gauges: GAUGES,
    ...options,
  })
  t.teardown(() => metrics.close())
  return metrics
}

t.test('a value on a bound belongs to that bucket', async (t) => {
  const cases: [number, number][] = [
    [0, 0],
    [1, 0],
    [1.001, 1],
    [2.5, 1],
    [5000, 11],
    [5000.1, 12],
    [1e300, 12],
    [-1, 0],
    [Number.NaN, 0],
    [Number.POSITIVE_INFINITY, 0],
  ]
  for (const [value, bucket] of cases) {
    const histogram = new Histogram(LATENCY_BUCKETS_MS)
    histogram.observe(value)
    t.equal(histogram.cumulated().indexOf(1), bucket, `${value}`)
    t.equal(histogram.cumulated().at(-1), 1)
    t.ok(Number.isFinite(histogram.sum))
  }
})

/** Of the contract, in milliseconds: graphs and alerts name them. */
const BOUNDS = [1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000]

t.test('a scrape has the buckets of the contract, each up to its bound', async (t) => {
  const metrics = metricsFor(t)
  const route = metrics.route('/v1/heartbeat')
  const push = metrics.fcmDispatchLatency('PING')
  for (const bound of BOUNDS) {
    for (const ms of [bound, bound + 0.001]) {
      route.ended('POST', 200, ms)
      push.observe(ms)
    }
  }
  const { text } = metrics.render()
  for (const series of [
    'http_request_latency_ms_bucket{route="/v1/heartbeat",',
    'fcm_dispatch_latency_ms_bucket{action="PING",',
  ]) {
    const buckets = text.split('\n').filter((line) => line.startsWith(series))
    t.same(buckets, [
      ...BOUNDS.map((bound, at) => `${series}le="${bound}"} ${2 * at + 1}`),
      `${series}le="+Inf"} ${2 * BOUNDS.length}`,
    ])
  }
})

t.test('a registry renders as the text format has it', async (t) => {
  const registry = new Registry()
  const counter = registry.counter('c_total', 'Back\\slash and\nnewline.')
  counter({}).add(3)
  counter({ a: 'q"b\\n\n', z: 'ä' }).add()
  const histogram = registry.histogram('h_ms', 'H.', [1, 2.5])({ route: '/x' })
  for (const value of [0.5, 1, 2, 100]) histogram.observe(value)
  registry.read('g', 'G.', 'gauge', [
    { labels: {}, value: () => Number.NaN },
    { labels: { i: '1' }, value: () => Number.POSITIVE_INFINITY },
    { labels: { i: '2' }, value: () => Number.NEGATIVE_INFINITY },
  ])
  t.same(registry.render(), {
    series: 10,
    text: `# HELP c_total Back\\\\slash and\\nnewline.
# TYPE c_total counter
c_total 3
c_total{a="q\\"b\\\\n\\n",z="ä"} 1
# HELP h_ms H.
# TYPE h_ms histogram
h_ms_bucket{route="/x",le="1"} 2
h_ms_bucket{route="/x",le="2.5"} 3
h_ms_bucket{route="/x",le="+Inf"} 4
h_ms_sum{route="/x"} 103.5
h_ms_count{route="/x"} 4
# HELP g G.
# TYPE g gauge
g NaN
g{i="1"} +Inf
g{i="2"} -Inf
`,
  })
})

t.test(
  'the first scrape has every label-less counter, at 0, and the health of the process',
  async (t) => {
    const metrics = metricsFor(t)
    metrics.route('unmatched')
    const { text, series } = metrics.render()
    const samples = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
    t.equal(series, samples.length)
    for (const sample of [
      'heartbeats_ingested_total 0',
      'heartbeats_dedup_hits_total 0',
      'http_request_latency_ms_count{route="unmatched"} 0',
      'fcm_dispatch_latency_ms_bucket{action="PING",le="+Inf"} 0',
      'fleetloop_connections_open 10',
      'fleetloop_connections_refused_total 11',
      'fleetloop_connections_evicted_total 13',
      'fleetloop_log_lines_dropped_total{level="WARN"} 3',
      'fleetloop_log_ring_bytes 5',
      'fleetloop_heartbeat_queue_depth 6',
      'fleetloop_db_pool_in_use 7',
      'fleetloop_db_pool_waiting 8',
      'fleetloop_db_connect_attempts_total 15',
      'fleetloop_db_connect_failures_total 16',
      'fleetloop_db_connections_given_up 17',
      'fleetloop_db_cancel_requests_total 18',
      'fleetloop_db_sync_standbys 1',
      'fleetloop_untagged_tokens_refused_total 12',
      'fleetloop_registrations_waiting 14',
      'fleetloop_background_waiting 15',
      'fleetloop_commands_waiting 9',
      'fleetloop_build_info{version="1.2.3"} 1',
    ]) {
      t.ok(samples.includes(sample), sample)
    }
    t.match(text, /^process_resident_memory_bytes \d+$/m)
    t.match(text, /^fleetloop_event_loop_delay_p99_ms [\d.]+$/m)
  },
)

t.test('a scrape changes nothing: every scraper reads the same', async (t) => {
  const metrics = metricsFor(t)
  const delayed = /^fleetloop_event_loop_delay_p99_ms (\d{3,})/m
  await until(async () => {
    const busyUntil = performance.now() + 200
    while (performance.now() < busyUntil);
    return delayed.test(metrics.render().text)
  })
  const withoutMemory = () => metrics.render().text.replace(/^process_resident.*$/m, '')
  t.equal(withoutMemory(), withoutMemory())
  t.match(metrics.render().text, delayed)
})

t.test('time moves the window of the event loop delay on', async (t) => {
  const delay = measureEventLoopDelay(1_000)
  t.teardown(() => delay.close())
  await until(async () => {
    const busyUntil = performance.now() + 400
    while (performance.now() < busyUntil);
    return delay.p99Ms() > 300
  })
  await until(async () => delay.p99Ms() < 300)
})

t.test('the help of the event loop delay names its window', async (t) => {
  const { text } = metricsFor(t).render()
  const { setInterval } = globalThis
  t.teardown(() => {
    globalThis.setInterval = setInterval
  })
  let halfMs = 0
  const noted = (run: () => void, ms: number) => {
    halfMs = ms
    return setInterval(run, ms)
  }
  globalThis.setInterval = Object.assign(noted, setInterval)
  measureEventLoopDelay().close()
  t.ok(text.includes(`99th percentile of the last ${halfMs / 1000} to ${halfMs / 500} s.`))
})

t.test('requests, dispatches and downloads land in their series', async (t) => {
  const metrics = metricsFor(t)
  const route = metrics.route('/v1/heartbeat')
  for (const [method, status] of [
    ['POST', 200],
    ['POST', 204],
    ['GET', 304],
    ['BREW', 418],
    ['POST', 499],
    ['POST', 503],
    ['POST', 0],
  ] as const) {
    route.ended(method, status, 3)
  }
  metrics.route('unmatched').ended('GET', 404, 1)
  metrics.fcmDispatchLatency('PING').observe(30)
  metrics.fcmDispatchLatency('RM -RF').observe(30)
  metrics.apkDownload('release', 'ota').add()
  metrics.heartbeatsIngested.add(2)
  const { text } = metrics.render()
  for (const sample of [
    'http_requests_total{route="/v1/heartbeat",method="POST",status_code="200"} 2',
    'http_requests_total{route="/v1/heartbeat",method="GET",status_code="3xx"} 1',
    'http_requests_total{route="/v1/heartbeat",method="OTHER",status_code="4xx"} 1',
    'http_requests_total{route="/v1/heartbeat",method="POST",status_code="4xx"} 1',
    'http_requests_total{route="/v1/heartbeat",method="POST",status_code="5xx"} 2',
    'http_requests_total{route="unmatched",method="GET",status_code="4xx"} 1',
    'http_request_latency_ms_sum{route="/v1/heartbeat"} 21',
    'fcm_dispatch_latency_ms_count{action="PING"} 1',
    'fcm_dispatch_latency_ms_count{action="OTHER"} 1',
    'apk_download_total{build_type="release",source="ota"} 1',
    'heartbeats_ingested_total 2',
  ]) {
    t.ok(text.split('\n').includes(sample), sample)
  }
})

t.test('a route resolved twice is one route', async (t) => {
  const metrics = metricsFor(t)
  t.equal(metrics.route('/v1/heartbeat'), metrics.route('/v1/heartbeat'))
})

t.test('exact status codes are those from 100 to 599', async (t) => {
  const metrics = metricsFor(t, { statusMode: 'exact' })
  const route = metrics.route('/v1/heartbeat')
  for (const status of [100, 204, 599, 600, 99, 200.5, Number.NaN]) route.ended('GET', status, 1)
  const codes = [...metrics.render().text.matchAll(/status_code="(\w+)"} (\d+)/g)]
  t.same(
    codes.map(([, code, count]) => `${code}: ${count}`),
    ['100: 1', '204: 1', '599: 1', '500: 4'],
  )
})

t.test('hostile methods, statuses, actions and build types stay under the bound', async (t) => {
  const metrics = metricsFor(t)
  // That no path of a client gets here is the listener's promise: it resolves routes once.
  const routes = ['/v1/heartbeat', 'unmatched'].map((template) => metrics.route(template))
  const before = metrics.render().series
  for (let n = 0; n < 10_000; n++) {
    const noise = `${n}"}\n{ä`
    for (const route of routes) {
      route.ended(['GET', '__proto__', noise][n % 3] ?? '', n - 500, n)
    }
    metrics.fcmDispatchLatency(noise).observe(n)
    metrics.apkDownload(noise, 'manual').add()
  }
  const { text, series } = metrics.render()
  // Seen on both routes: methods GET and OTHER with 4 statuses each. A histogram has 15 series.
  t.equal(series, before + 2 * 2 * 4 + (LATENCY_BUCKETS_MS.length + 3) + 33 * 3)
  t.match(text, 'apk_download_total{build_type="OTHER",source="manual"} 9968')
  t.equal(text.split('\n').filter((line) => line && !line.startsWith('#')).length, series)
})

t.test('an action named OTHER does not open the door to another', async (t) => {
  const metrics = metricsFor(t, { actions: ['OTHER', 'PING', 'PING'] })
  metrics.fcmDispatchLatency('X').observe(1)
  t.equal(metrics.fcmDispatchLatency('X'), metrics.fcmDispatchLatency('OTHER'))
  t.equal(metrics.render().text.match(/fcm_dispatch_latency_ms_count/g)?.length, 2)
})
