/** `npm run drill -- return`: one outage of the database, then all phones return, each with what it could not report meanwhile. */
import { setTimeout as wait } from 'node:timers/promises'
import { type LoadRequest, runLoad } from '../../sim/load/load.ts'
import { withClient } from '../../testkit/database/postgres.ts'
import { seededToken, seedFleet } from '../../testkit/database/seeded-fleet.ts'
import { jsonHeaders } from '../../testkit/http/client.ts'
import { startReplica } from '../../testkit/service.ts'
import { HMAC_SECRET, serviceSettings } from '../../testkit/service-settings.ts'
import { defineDrill, type Figure, type PostgresEnvironment } from '../drill.ts'

interface ReturnRun extends PostgresEnvironment {
  readonly devices: number
  readonly outageS: number
  readonly returnS: number
}

interface Tally {
  readonly acknowledged: string[]
  latestNextS: number
  unauthorized: number
}

const CONNECTIONS = 500
/** The wait of a phone that obeys Retry-After. */
const RETRY_S = 5
const MOST_WAVES = 20

export const returnDrill = defineDrill({
  name: 'return',
  promise:
    'phones come back after an outage of the database: nothing lost that was acknowledged, no 401',
  options: {
    devices: { standard: 10_000, what: 'phones, two heartbeats each' },
    outage: { standard: 10, what: 'seconds without a database, in which each is refused once' },
    return: { standard: 30, what: 'seconds within which all come back' },
  },
  needs: 'postgres',
  run: ({ devices, outage, return: returnS }, environment) =>
    runReturn({ ...environment, devices, outageS: outage, returnS }),
})

async function runReturn(run: ReturnRun): Promise<readonly Figure[]> {
  const { postgres, devices, outageS, returnS } = run
  const life = startReplica({
    settings: {
      ...serviceSettings(postgres.url, run.dataDir),
      HEARTBEAT_DEDUP_WINDOW_S: '0',
    },
  })
  try {
    const origin = await life.ready
    await withClient(postgres.url, (db) => seedFleet(db, HMAC_SECRET, devices))
    const tally: Tally = { acknowledged: [], latestNextS: 0, unauthorized: 0 }
    const send = (title: string, requests: readonly LoadRequest[], seconds: number) =>
      wave({ origin, title, requests, seconds, tally, print: run.print })

    await postgres.stop()
    const refused = await send('while the database is away', itemsOf(0, devices), outageS)
    await postgres.start()
    let left: readonly LoadRequest[] = [...refused, ...itemsOf(1, devices)]
    for (let nth = 1; left.length > 0 && nth <= MOST_WAVES; nth += 1) {
      left = await send(`return ${nth}`, left, nth === 1 ? returnS : RETRY_S)
      if (left.length > 0) await wait(RETRY_S * 1_000)
    }
    return figuresOf(tally, left.length, await countMissing(postgres.url, tally.acknowledged))
  } finally {
    await life.stop()
  }
}

interface Wave {
  readonly origin: string
  readonly title: string
  readonly requests: readonly LoadRequest[]
  readonly seconds: number
  readonly tally: Tally
  readonly print: (line: string) => void
}

/** Sends each once, evenly over `seconds`; returns those that were not acknowledged. */
async function wave(options: Wave): Promise<readonly LoadRequest[]> {
  const { requests, seconds, tally } = options
  const left = new Set(requests)
  const report = await runLoad({
    origin: options.origin,
    ratePerS: requests.length / seconds,
    arrivals: requests.length,
    connections: CONNECTIONS,
    next(index) {
      const request = requests[index]
      if (request === undefined) throw new Error('more arrivals than heartbeats')
      return request
    },
    signal: new AbortController().signal,
    onAnswer(request, { status, body }) {
      if (status === 401) tally.unauthorized += 1
      if (status !== 200) return
      left.delete(request)
      tally.acknowledged.push(request.id)
      const nextS = /"next_heartbeat_s":(\d+)/.exec(String(body))?.[1]
      tally.latestNextS = Math.max(tally.latestNextS, Number(nextS))
    },
  })
  const { p50, p99, max } = report.latencyMs
  options.print(
    `${options.title}: ${requests.length} over ${seconds.toFixed(0)} s, answers ${JSON.stringify(report.byStatus)}, ` +
      `failed ${report.failed}, shed ${report.shed}, p50 ${p50} ms, p99 ${p99} ms, max ${max} ms`,
  )
  return [...left]
}

function itemsOf(item: number, devices: number): readonly LoadRequest[] {
  return Array.from({ length: devices }, (_, index) => {
    const id = `return-${item}-${index + 1}`
    const headers = { ...jsonHeaders(seededToken(HMAC_SECRET, index + 1)), 'x-request-id': id }
    return { id, method: 'POST', path: '/v1/heartbeat', headers, body: '{"battery_pct":50}' }
  })
}

async function countMissing(url: string, acknowledged: readonly string[]): Promise<number> {
  const { rows } = await withClient(url, (db) =>
    db.query<{ missing: number }>(
      `select count(*)::int as missing from unnest($1::text[]) a(id)
       where not exists (select from heartbeats h where h.request_id = a.id)`,
      [acknowledged],
    ),
  )
  return rows[0]?.missing ?? acknowledged.length
}

function figuresOf(tally: Tally, left: number, missing: number): readonly Figure[] {
  return [
    {
      promise: 'every heartbeat that was acknowledged is a row',
      measured: `${tally.acknowledged.length} acknowledged, ${missing} missing; next_heartbeat_s up to ${tally.latestNextS}`,
      isHeld: missing === 0,
    },
    { promise: 'all are stored in the end', measured: `${left} never were`, isHeld: left === 0 },
    {
      promise: 'no phone is told 401',
      measured: `${tally.unauthorized} were`,
      isHeld: tally.unauthorized === 0,
    },
  ]
}
