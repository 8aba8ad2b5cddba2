/** Real tools read /metrics: promtool parses the page, and a Prometheus scrapes it as docs/operate/monitoring.md says. */

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { runTruth } from '../../drills/fleet/truth.ts'
import {
  CONFIG_FILE,
  complaintsAbout,
  missingTools,
  startPrometheus,
  TOKEN_FILE,
} from '../../drills/shared/prometheus.ts'
import { until } from '../../testkit/until.ts'
import { writeFiles } from '../docs/prometheus-files.ts'
import { databaseEnvironment } from '../helpers/drill.ts'
import { documentedBlock } from '../helpers/pages.ts'
import { ADMIN, type Running, startService } from '../helpers/service.ts'

const SCRAPER = 'prometheus-token-Qd8vXr2kWz9mBt4sLh7cYp3n'
const ADMIN_TOKENS = `tester=${ADMIN},prometheus:metrics=${SCRAPER}`
/** The loop once, so that every family has samples. */
async function live(service: Running): Promise<void> {
  const { token } = await service.enroll('D01')
  for (let beat = 0; beat < 3; beat += 1) {
    await service.call('POST', '/v1/heartbeat', { token, body: { battery_pct: 87 } })
  }
  await service.call('GET', '/no"where\\')
  await service.call('GET', '/metrics')
}

t.test(
  'promtool parses the page and has only unit names to advise on',
  { skip: missingTools() },
  async (t) => {
    const service = await startService(t)
    await live(service)
    const { text, headers } = await service.call('GET', '/metrics')
    t.equal(headers.get('content-type'), 'text/plain; version=0.0.4; charset=utf-8')
    t.same(complaintsAbout(text), [])
    t.not(complaintsAbout(`${text}a{ 1\n`).length, 0, 'it would see a line that is none')
  },
)

t.test(
  'Prometheus scrapes it with a bearer token and gives the series by query',
  { skip: missingTools() },
  async (t) => {
    const service = await startService(t, { env: { ADMIN_TOKENS } })
    await live(service)
    const config = documentedBlock(CONFIG_FILE)
      .replace('127.0.0.1:8080', new URL(service.origin).host)
      .replaceAll('_interval: 15s', '_interval: 1s')
    t.not(config, documentedBlock(CONFIG_FILE))
    const directory = writeFiles(t, SCRAPER, config)
    const prometheus = await startPrometheus(directory)
    t.teardown(() => prometheus.stop())
    const { answer: query, origin } = prometheus
    const isUp = (value: string) => async () =>
      (await query('up{job="fleetloop"}'))[0]?.value === value
    await until(isUp('1'))
    const [beats] = await query('heartbeats_ingested_total + heartbeats_dedup_hits_total')
    t.equal(beats?.value, '3')
    t.match(await query('http_requests_total{route="/v1/heartbeat"}'), [
      { metric: { method: 'POST', status_code: '200', job: 'fleetloop' }, value: '3' },
    ])
    t.match(await query('http_requests_total{route="unmatched"}'), [{ value: '1' }])
    t.same(
      await familiesIn(origin),
      familiesOf((await service.call('GET', '/metrics')).text),
      'every family of the page is there',
    )
    const [p95] = await query(
      'histogram_quantile(0.95, http_request_latency_ms_bucket{route="/v1/heartbeat"})',
    )
    t.ok(Number(p95?.value) > 0, 'its buckets make a quantile')

    writeFileSync(join(directory, TOKEN_FILE), 'wrong-token-Qd8vXr2kWz9mBt4sLh7cYp3n')
    await until(isUp('0'))
    t.match(await service.lines.waitFor((line) => line['status_code'] === 401), {
      event: 'sec.auth.denied',
      route: '/metrics',
    })
    writeFileSync(join(directory, TOKEN_FILE), SCRAPER)
    await until(isUp('1'))
  },
)

t.test(
  'what Prometheus has scraped after a simulation is the ground truth, exactly',
  { skip: missingTools() },
  async (t) => {
    const figures = await runTruth({
      ...(await databaseEnvironment(t)),
      simulate: [
        ...['--devices', '12', '--heartbeats', '3', '--interval', '0.5', '--commands', '30'],
        ...['--commands-per-minute', '6000', '--late-by', '1', '--apk-share', '0.5'],
      ],
    })
    for (const { promise, measured, isHeld } of figures) t.ok(isHeld, `${promise}: ${measured}`)
  },
)

t.test(
  'a token for metrics alone reads nothing else, and METRICS_ENABLED=false is 404',
  async (t) => {
    const service = await startService(t, { env: { ADMIN_TOKENS } })
    const scraper = { token: SCRAPER }
    t.match(await service.call('GET', '/metrics', scraper), { status: 200 })
    t.match(await service.call('GET', '/admin/devices', scraper), { status: 403 })
    t.match(await service.call('GET', '/metrics', { token: null }), { status: 401 })
    const off = await startService(t, { env: { METRICS_ENABLED: 'false' } })
    t.match(await off.call('GET', '/metrics'), { status: 404 })
    t.match(await off.call('GET', '/readyz'), { status: 200 })
  },
)

/** The names of the target's families, as Prometheus keeps them. */
async function familiesIn(origin: string): Promise<readonly string[]> {
  const response = await fetch(`${origin}/api/v1/targets/metadata`)
  const { data } = Object(await response.json())
  return data.map(({ metric }: { metric: string }) => metric).toSorted()
}

function familiesOf(page: string): readonly string[] {
  return [...page.matchAll(/^# TYPE (\w+) /gm)].map(([, name = '']) => name).toSorted()
}
