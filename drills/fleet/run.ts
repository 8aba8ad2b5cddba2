/**
 * The acceptance run: phones on a service as it ships, and as many on two services without log and metrics, all at
 * once on one PostgreSQL. Compares the first service's lines, counters and rows with what its phones know, and its
 * latency with that of the other two, which also show the noise.
 */
import { join } from 'node:path'
import { type FakeFcm, startFakeFcm } from '../../sim/fcm/fake-fcm.ts'
import { differences, expectedSeries, seriesOfPage } from '../../sim/simulate/expected-metrics.ts'
import type { Summary } from '../../sim/simulate/summary.ts'
import { withClient } from '../../testkit/database/postgres.ts'
import { createSend } from '../../testkit/http/client.ts'
import { type Replica, startReplica } from '../../testkit/service.ts'
import { median } from '../../testkit/statistics.ts'
import { until } from '../../testkit/until.ts'
import type { DatabaseEnvironment, Figure } from '../drill.ts'
import { nothingMissing } from '../shared/acknowledged.ts'
import { FleetLines } from './lines.ts'
import {
  answersFigure,
  METRICS_TOKEN,
  publishApk,
  type SimulatedFleet,
  simulatedFleet,
  simulatedSettings,
  summaryFigure,
} from './simulated-fleet.ts'

export interface FleetRun extends DatabaseEnvironment {
  /** Arguments of `npm run simulate`, without the origin. */
  readonly simulate: readonly string[]
}

const MOST_ADDED_MS = 5
const MOST_SCRAPE_MS = 50
const SCRAPE_EVERY_MS = 1_000
const HEARTBEAT = 'POST /v1/heartbeat'
const MUTE = { LOG_LEVEL: 'OFF', METRICS_ENABLED: 'false' }

interface Side {
  readonly life: Replica
  readonly fcm: FakeFcm
  readonly fleet: SimulatedFleet
  readonly origin: string
  readonly databaseUrl: string
}

export async function runFleet(run: FleetRun): Promise<readonly Figure[]> {
  const lines = new FleetLines()
  const sides: Side[] = []
  try {
    const on = await startSide(run, 'on', {}, (line) => lines.take(line))
    sides.push(on)
    for (const name of ['off', 'again'] as const) sides.push(await startSide(run, name, MUTE))
    const scraping = startScraping(on.origin)
    const [summary, ...quiet] = await Promise.all([
      on.fleet.run(),
      ...sides.slice(1).map(({ fleet }) => fleet.run()),
    ])
    const page = await scraping.end()
    for (const each of quiet) run.print(`without telemetry: ${summaryFigure(each).measured}`)
    const stored = await withClient(on.databaseUrl, (db) =>
      nothingMissing(db, on.fleet.acknowledged),
    )
    const { code, signal } = await on.life.stop()
    const sent = new Set(on.fcm.journal.map(({ data }) => data['request_id'] ?? ''))
    return [
      summaryFigure(summary),
      answersFigure(summary, 'every answer is a success'),
      stored,
      ...lines.figures(summary, sent, on.fleet.acknowledged.results),
      countersFigure(summary, page),
      budgetFigure(summary, quiet),
      scrapesFigure(lines.scrapesMs),
      { promise: 'SIGTERM exits 0', measured: `${signal ?? code}`, isHeld: code === 0 },
    ]
  } finally {
    for (const { life } of sides) life.signal('SIGKILL')
    await Promise.all(sides.map(({ life }) => life.ended))
    await Promise.all(sides.map(({ fcm }) => fcm.close()))
  }
}

async function startSide(
  run: FleetRun,
  name: 'on' | 'off' | 'again',
  settings: Readonly<Record<string, string>>,
  onLine: (line: string) => void = () => {},
): Promise<Side> {
  const url = new URL(run.databaseUrl)
  url.pathname += `_${name}`
  const databaseUrl = url.href
  await withClient(run.databaseUrl, (db) => db.query(`create database ${url.pathname.slice(1)}`))
  const fcm = await startFakeFcm()
  const shared = simulatedSettings(databaseUrl, join(run.dir, name), fcm)
  const life = startReplica({ settings: { ...shared, ...settings }, onLine })
  const origin = await life.origin
  const send = createSend(origin)
  await until(async () => (await send({ method: 'GET', path: '/readyz' })).status === 200)
  await publishApk(send)
  const fleet = simulatedFleet({ origin, fcm, runId: name, args: run.simulate })
  return { life, fcm, fleet, origin, databaseUrl }
}

/** Scrapes once a second; `end` returns the last page. */
function startScraping(origin: string): { end(): Promise<string> } {
  const send = createSend(origin)
  const headers = { authorization: `Bearer ${METRICS_TOKEN}` }
  const scrape = () => send({ method: 'GET', path: '/metrics', headers })
  const under = new Set<Promise<unknown>>()
  const timer = setInterval(() => {
    const one = scrape()
      .catch(() => {}) // the service is gone: the simulation reports it
      .finally(() => under.delete(one))
    under.add(one)
  }, SCRAPE_EVERY_MS)
  return {
    async end() {
      clearInterval(timer)
      await Promise.all(under)
      return (await scrape()).bytes.toString('utf8')
    },
  }
}

function countersFigure(summary: Summary, page: string): Figure {
  const expected = expectedSeries(summary)
  const wrong = differences(summary, seriesOfPage(page))
  return {
    promise: 'each counter is what the simulation counted',
    measured: `${expected.size} series, ${wrong.length} differ ${wrong.slice(0, 3).join('; ')}`,
    isHeld: wrong.length === 0 && expected.size > 0,
  }
}

/** Two equal services differ: smaller differences are noise. */
function budgetFigure(summary: Summary, quiet: readonly Summary[]): Figure {
  const p95 = ({ latency_ms: latency }: Summary) => latency[HEARTBEAT]?.p95 ?? Number.NaN
  const [on, off] = [p95(summary), quiet.map(p95)]
  return {
    promise: `telemetry adds at most ${MOST_ADDED_MS} ms to the p95 of heartbeats, beside the slower of two without it`,
    measured: `p95 ${on.toFixed(2)} ms with it, ${off.map((ms) => ms.toFixed(2)).join(' and ')} ms without`,
    isHeld: on - Math.max(...off) <= MOST_ADDED_MS,
    isTimed: true,
  }
}

function scrapesFigure(scrapesMs: readonly number[]): Figure {
  const most = Math.max(...scrapesMs)
  return {
    promise: `a scrape takes less than ${MOST_SCRAPE_MS} ms`,
    measured: `${scrapesMs.length} scrapes: median ${median(scrapesMs).toFixed(2)} ms, at most ${most.toFixed(2)} ms`,
    isHeld: most < MOST_SCRAPE_MS,
    isTimed: true,
  }
}
