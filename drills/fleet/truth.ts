/**
 * `npm run drill -- R12`: a simulation against a service that a real Prometheus scrapes with a bearer token. Compares
 * every series that the simulation knows, as Prometheus has it, with what the simulation counted.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { startFakeFcm } from '../../sim/fcm/fake-fcm.ts'
import {
  differences,
  expectedSeries,
  type Series,
  seriesOf,
  seriesOfPage,
} from '../../sim/simulate/expected-metrics.ts'
import type { Summary } from '../../sim/simulate/summary.ts'
import { withClient } from '../../testkit/database/postgres.ts'
import { createSend, type Send } from '../../testkit/http/client.ts'
import { startReplica } from '../../testkit/service.ts'
import { until } from '../../testkit/until.ts'
import { type DatabaseEnvironment, defineDrill, type Figure } from '../drill.ts'
import {
  complaintsAbout,
  missingTools,
  type Prometheus,
  startPrometheus,
  writeConfig,
} from '../shared/prometheus.ts'
import {
  answersFigure,
  METRICS_TOKEN,
  publishApk,
  simulatedFleet,
  simulatedSettings,
  summaryFigure,
} from './simulated-fleet.ts'

export interface TruthRun extends DatabaseEnvironment {
  /** Arguments of `npm run simulate`, without the origin. */
  readonly simulate: readonly string[]
}

export const truthDrill = defineDrill({
  name: 'R12',
  promise:
    'counters equal ground truth exactly after a simulation, as a real Prometheus has scraped them with a bearer token',
  options: {
    devices: { standard: 100, what: 'phones' },
    heartbeats: { standard: 20, what: 'acknowledged of each phone' },
    interval: { standard: 2, what: 'seconds between them' },
    commands: { standard: 500, what: 'in all' },
  },
  needs: 'postgres',
  run: ({ devices, heartbeats, interval, commands }, environment) =>
    runTruth({
      ...environment,
      simulate: [
        ...['--devices', `${devices}`, '--heartbeats', `${heartbeats}`],
        ...['--interval', `${interval}`, '--commands', `${commands}`],
        ...['--commands-per-minute', '1200', '--late-by', '5', '--apk-share', '0.5'],
      ],
    }),
})

export async function runTruth(run: TruthRun): Promise<readonly Figure[]> {
  const missing = missingTools()
  if (missing !== false) throw new Error(missing)
  const fcm = await startFakeFcm()
  const service = startReplica({
    settings: simulatedSettings(run.databaseUrl, join(run.dir, 'data'), fcm),
  })
  let prometheus: Prometheus | undefined
  try {
    const origin = await service.ready
    const send = createSend(origin)
    await publishApk(send)
    const directory = join(run.dir, 'prometheus')
    mkdirSync(directory)
    writeConfig(directory, new URL(origin).host, METRICS_TOKEN)
    const asked = await startPrometheus(directory)
    prometheus = asked
    await until(async () => (await asked.query('up == 1')).length === 1)
    const { simulate: args } = run
    const summary = await simulatedFleet({ origin, fcm, runId: 'r12', args }).run()
    run.print(
      `simulated: ${summary.heartbeats.acknowledged} heartbeats, ${summary.commands.created} commands, ${summary.downloads.enrollment + summary.downloads.ota} downloads`,
    )
    const found = await scraped(asked, summary)
    const scrapes = [await histogramFigure(asked), await scrapesFigure(asked)]
    const page = await readPage(send)
    return [
      summaryFigure(summary),
      answersFigure(
        summary,
        'every request is answered: a success, or 503 where the machine is busy',
        / 503 /,
      ),
      truthFigure(summary, found),
      ...scrapes,
      await databaseFigure(run, seriesOfPage(page)),
      pageFigure(summary, page),
    ]
  } finally {
    await prometheus?.stop()
    await service.stop()
    await fcm.close()
  }
}

/** The series in Prometheus, once a scrape has all that are expected, or after a time-out. */
async function scraped(prometheus: Prometheus, summary: Summary): Promise<Series> {
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
    return differences(summary, found).length === 0
  }
  await until(read).catch(() => {}) // the figure shows what differs
  return found
}

function truthFigure(summary: Summary, found: Series): Figure {
  const expected = expectedSeries(summary)
  const wrong = differences(summary, found)
  return {
    promise: 'each scraped counter is the ground truth, exactly',
    measured: `${expected.size} series of requests, heartbeats, dedup hits, dispatches and downloads; ${wrong.length} differ ${wrong.slice(0, 3).join('; ')}`,
    isHeld: wrong.length === 0 && expected.size > 0,
  }
}

async function histogramFigure(prometheus: Prometheus): Promise<Figure> {
  const families = ['http_request_latency_ms', 'fcm_dispatch_latency_ms']
  const texts: string[] = []
  let isHeld = true
  for (const name of families) {
    const all = await prometheus.query(`${name}_count`)
    const equal = `${name}_count == ignoring(le) ${name}_bucket{le="+Inf"}`
    const right = await prometheus.query(equal)
    texts.push(`${right.length} of ${all.length} of ${name}`)
    isHeld &&= all.length > 0 && right.length === all.length
  }
  return {
    promise: 'the last bucket of each histogram is its count',
    measured: texts.join(', '),
    isHeld,
  }
}

/** A scrape counts itself only in the next one. One query evaluates all of it at one moment. */
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

async function databaseFigure(run: TruthRun, counted: Series): Promise<Figure> {
  const { rows } = await withClient(run.databaseUrl, (db) =>
    db.query<{ heartbeats: number; downloads: number }>(
      `select (select count(*)::int from heartbeats) as heartbeats,
              (select count(*)::int from apk_download_events where completed) as downloads`,
    ),
  )
  const downloads = [...counted]
    .filter(([key]) => key.startsWith('apk_download_total'))
    .reduce((sum, [, count]) => sum + count, 0)
  const stored = counted.get('heartbeats_ingested_total{}') ?? 0
  const [row] = rows
  return {
    promise: 'the rows of heartbeats and of completed downloads are as many as counted',
    measured: `${row?.heartbeats} rows for ${stored} heartbeats, ${row?.downloads} for ${downloads} downloads`,
    isHeld: row?.heartbeats === stored && row.downloads === downloads,
  }
}

async function readPage(send: Send): Promise<string> {
  const headers = { authorization: `Bearer ${METRICS_TOKEN}` }
  const { bytes } = await send({ method: 'GET', path: '/metrics', headers })
  return bytes.toString('utf8')
}

/** The page is read last: it includes what would be counted late. */
function pageFigure(summary: Summary, page: string): Figure {
  const complaints = complaintsAbout(page)
  const wrong = differences(summary, seriesOfPage(page))
  return {
    promise: 'promtool parses the page, which says the same at the end',
    measured:
      [...complaints, ...wrong].join('; ') || 'no complaint but about the unit in the names',
    isHeld: complaints.length === 0 && wrong.length === 0,
  }
}
