/**
 * One run of promise R12: a simulation against a service that a real Prometheus scrapes with a bearer token; then every
 * series that the simulation knows is compared, as Prometheus has it, with what the simulation counted itself.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { makeApk } from '../sim/apk.ts'
import { type FcmStandIn, startFcmStandIn } from '../sim/fcm-stand-in.ts'
import { createSend, type Send } from '../sim/http.ts'
import { readCommandLine } from '../sim/simulate-options.ts'
import { createSimulation } from '../sim/simulate-run.ts'
import type { Summary } from '../sim/simulate-summary.ts'
import { differences, expectedSeries, type Series, seriesOf } from '../sim/simulate-truth.ts'
import type { Figure } from './drill.ts'
import { withClient } from './postgres.ts'
import {
  complaintsAbout,
  missingTools,
  type Prometheus,
  startPrometheus,
  writeConfig,
} from './prometheus.ts'
import { startReplica } from './replica.ts'
import { until } from './until.ts'

export interface TruthRun {
  readonly databaseUrl: string
  /** Empty. */
  readonly dir: string
  /** Arguments of `npm run simulate`, besides where the service is. */
  readonly simulate: readonly string[]
  readonly print: (line: string) => void
}

const ADMIN_TOKEN = 'drill-admin-token-0123456789abcdef'
const METRICS_TOKEN = 'drill-metrics-token-0123456789abcdef'
const APK_BYTES = 100_000

export async function runTruth(run: TruthRun): Promise<readonly Figure[]> {
  const missing = missingTools()
  if (missing !== false) throw new Error(missing)
  const fcm = await startFcmStandIn()
  const service = startReplica({
    settings: {
      DATABASE_URL: run.databaseUrl,
      DATA_DIR: join(run.dir, 'data'),
      ADMIN_TOKENS: `drill=${ADMIN_TOKEN},prometheus:metrics=${METRICS_TOKEN}`,
      HMAC_SECRET: 'drill-hmac-secret-0123456789abcdef',
      FIREBASE_SERVICE_ACCOUNT_JSON: fcm.serviceAccount.json,
      FCM_BASE_URL: fcm.baseUrl,
      RATE_LIMIT_TOKENS_PER_HOUR: '1000000',
    },
  })
  let prometheus: Prometheus | undefined
  try {
    await service.ready
    const origin = await service.origin
    const send = createSend(origin)
    await publish(send)
    const directory = join(run.dir, 'prometheus')
    mkdirSync(directory)
    writeConfig(directory, new URL(origin).host, METRICS_TOKEN)
    const asked = await startPrometheus(directory)
    prometheus = asked
    await until(async () => (await asked.query('up == 1')).length === 1)
    const summary = await simulate(run, origin, fcm)
    run.print(
      `simulated: ${summary.heartbeats.acknowledged} heartbeats, ${summary.commands.created} commands, ${summary.downloads.enrollment + summary.downloads.ota} downloads`,
    )
    const expected = expectedSeries(summary)
    const found = await scraped(asked, expected)
    return [
      summaryFigure(summary),
      truthFigure(expected, found),
      await histogramFigure(asked),
      await scrapesFigure(asked),
      await databaseFigure(run, expected),
      await pageFigure(send),
    ]
  } finally {
    await prometheus?.stop()
    service.signal('SIGTERM')
    await service.ended
    await fcm.close()
  }
}

async function publish(send: Send): Promise<void> {
  const answer = await send({
    method: 'PUT',
    path: '/admin/apk/builds/drill-1?version_code=1&version_name=1',
    headers: { authorization: `Bearer ${ADMIN_TOKEN}` },
    body: makeApk({ sizeBytes: APK_BYTES }),
  })
  if (answer.status !== 201) throw new Error(`the APK was answered with ${answer.status}`)
}

async function simulate(run: TruthRun, origin: string, push: FcmStandIn): Promise<Summary> {
  const args = ['--url', origin, '--admin-token', ADMIN_TOKEN, ...run.simulate]
  const options = readCommandLine(args, {}, 'r12')
  if (options === 'help') throw new Error('no simulation')
  const { signal } = new AbortController()
  return createSimulation(options, { runId: 'r12', push, journal: undefined, signal }).run()
}

/** As Prometheus has them, once a scrape has brought all that is expected, or none did for long. */
async function scraped(prometheus: Prometheus, expected: Series): Promise<Series> {
  let found: Series = new Map()
  const read = async () => {
    const samples = await prometheus.query('{job="fleetloop"}')
    found = seriesOf(
      samples.map(
        ({ metric: { __name__: name = '', job: _, instance: __, ...labels }, value }) => ({
          name,
          labels,
          value: Number(value),
        }),
      ),
    )
    return differences(expected, found).length === 0
  }
  await until(read).catch(() => {}) // then the figure tells what differs
  return found
}

function truthFigure(expected: Series, found: Series): Figure {
  const wrong = differences(expected, found)
  return {
    promise: 'each scraped counter is the ground truth, exactly',
    measured: `${expected.size} series of requests, heartbeats, dedup hits, dispatches and downloads; ${wrong.length} differ ${wrong.slice(0, 3).join('; ')}`,
    isHeld: wrong.length === 0 && expected.size > 0,
  }
}

function summaryFigure({ faults, phones, answers }: Summary): Figure {
  const unanswered = Object.keys(answers).filter((name) => name.endsWith('no answer'))
  return {
    promise: 'nothing lost, nothing run twice, no phone wiped, every request answered',
    measured: `${phones.enrolled} phones, ${phones.wiped} wiped; ${[...faults, ...unanswered].join('; ') || 'no fault'}`,
    isHeld: faults.length === 0 && unanswered.length === 0,
  }
}

async function histogramFigure(prometheus: Prometheus): Promise<Figure> {
  const odd = await prometheus.query(
    'http_request_latency_ms_count != ignoring(le) http_request_latency_ms_bucket{le="+Inf"}',
  )
  return {
    promise: 'the last bucket of each histogram is its count',
    measured: `${odd.length} routes where it is not`,
    isHeld: odd.length === 0,
  }
}

/** A scrape counts itself only in the next one. All in one evaluation, at one moment. */
async function scrapesFigure(prometheus: Prometheus): Promise<Figure> {
  const [failed] = await prometheus.query('sum(count_over_time((up{job="fleetloop"} == 0)[1h:1s]))')
  const [counted] = await prometheus.query(
    'http_requests_total{route="/metrics",status_code="200"} - ignoring(route, method, status_code) count_over_time(up{job="fleetloop"}[1h])',
  )
  return {
    promise: 'every scrape went well, and the service counted each but the last',
    measured: `${failed?.value ?? 0} failed; counted minus made: ${counted?.value}`,
    isHeld: failed === undefined && counted?.value === '-1',
  }
}

async function databaseFigure(run: TruthRun, expected: Series): Promise<Figure> {
  const { rows } = await withClient(run.databaseUrl, (db) =>
    db.query<{ heartbeats: number; downloads: number }>(
      `select (select count(*)::int from heartbeats) as heartbeats,
              (select count(*)::int from apk_download_events where completed) as downloads`,
    ),
  )
  const downloads = [...expected]
    .filter(([key]) => key.startsWith('apk_download_total'))
    .reduce((sum, [, count]) => sum + count, 0)
  const stored = expected.get('heartbeats_ingested_total{}') ?? 0
  const [row] = rows
  return {
    promise: 'the rows of heartbeats and of completed downloads are as many as counted',
    measured: `${row?.heartbeats} rows for ${stored} heartbeats, ${row?.downloads} for ${downloads} downloads`,
    isHeld: row?.heartbeats === stored && row.downloads === downloads,
  }
}

async function pageFigure(send: Send): Promise<Figure> {
  const headers = { authorization: `Bearer ${METRICS_TOKEN}` }
  const { bytes } = await send({ method: 'GET', path: '/metrics', headers })
  const complaints = complaintsAbout(bytes.toString('utf8'))
  return {
    promise: 'promtool parses the page',
    measured: complaints.join('; ') || 'no complaint but about the unit in the names',
    isHeld: complaints.length === 0,
  }
}
