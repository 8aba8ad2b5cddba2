/**
 * `npm run drill:return -- [--devices 10000] [--outage-s 10] [--return-s 30]`: the database goes away, phones are refused
 * meanwhile, and all come back within a short time, each with two heartbeats. Exit code 1 where one that was acknowledged
 * is missing, a phone was told 401, or one was never stored.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { seededToken, seedFleet } from '../bench/seeded-fleet.ts'
import { jsonHeaders } from '../sim/http.ts'
import { type LoadRequest, runLoad } from '../sim/load.ts'
import { startEmbedded } from '../src/db/embedded.ts'
import { startReplica } from './replica.ts'

const { values } = parseArgs({
  options: {
    devices: { type: 'string', default: '10000' },
    'outage-s': { type: 'string', default: '10' },
    'return-s': { type: 'string', default: '30' },
  },
})
const DEVICES = Number(values.devices)
const OUTAGE_S = Number(values['outage-s'])
const RETURN_S = Number(values['return-s'])
const CONNECTIONS = 500
/** As long as a phone waits that believes Retry-After. */
const RETRY_S = 5
const MOST_WAVES = 20
const SECRET = { id: 'default', secret: 'drill-hmac-secret-0123456789abcdef' }

const acknowledged: string[] = []
let latestNextS = 0
let unauthorized = 0

/** Sends each of `requests` once, evenly over `seconds`; answers those that were not acknowledged. */
async function wave(
  origin: string,
  title: string,
  requests: readonly LoadRequest[],
  seconds: number,
): Promise<readonly LoadRequest[]> {
  const left = new Set(requests)
  const report = await runLoad({
    origin,
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
      if (status === 401) unauthorized++
      if (status !== 200) return
      left.delete(request)
      acknowledged.push(request.id)
      const nextS = /"next_heartbeat_s":(\d+)/.exec(String(body))?.[1]
      latestNextS = Math.max(latestNextS, Number(nextS))
    },
  })
  const { p50, p99, max } = report.latencyMs
  console.log(
    `${title}: ${requests.length} over ${seconds.toFixed(0)} s, answers ${JSON.stringify(report.byStatus)}, ` +
      `failed ${report.failed}, shed ${report.shed}, p50 ${p50} ms, p99 ${p99} ms, max ${max} ms`,
  )
  return [...left]
}

const itemsOf = (item: number): readonly LoadRequest[] =>
  Array.from({ length: DEVICES }, (_, index) => {
    const id = `return-${item}-${index + 1}`
    const headers = { ...jsonHeaders(seededToken(SECRET, index + 1)), 'x-request-id': id }
    return { id, method: 'POST', path: '/v1/heartbeat', headers, body: '{"battery_pct":50}' }
  })

const dataDir = mkdtempSync(join(tmpdir(), 'fleetloop-return-'))
let database = await startEmbedded({ dataDir, log: () => {} })
const life = startReplica({
  settings: {
    DATABASE_URL: database.url,
    DATA_DIR: join(dataDir, 'service'),
    ADMIN_TOKENS: 'drill=drill-admin-token-0123456789abcdef',
    HMAC_SECRET: SECRET.secret,
    HEARTBEAT_DEDUP_WINDOW_S: '0',
  },
})
try {
  const origin = await life.origin
  await life.ready
  const seeding = new pg.Client({ connectionString: database.url })
  await seeding.connect()
  await seedFleet(seeding, SECRET, DEVICES)
  await seeding.end()

  await database.stop()
  const first = await wave(origin, 'while the database is away', itemsOf(0), OUTAGE_S)
  database = await startEmbedded({ dataDir, log: () => {} })
  let left: readonly LoadRequest[] = [...first, ...itemsOf(1)]
  for (let nth = 1; left.length > 0 && nth <= MOST_WAVES; nth++) {
    left = await wave(origin, `return ${nth}`, left, nth === 1 ? RETURN_S : RETRY_S)
    if (left.length > 0) await wait(RETRY_S * 1_000)
  }

  const db = new pg.Client({ connectionString: database.url })
  await db.connect()
  const { rows } = await db.query<{ missing: number }>(
    `select count(*)::int as missing from unnest($1::text[]) a(id)
     where not exists (select from heartbeats h where h.request_id = a.id)`,
    [acknowledged],
  )
  await db.end()
  const missing = rows[0]?.missing ?? acknowledged.length
  console.log(
    `${acknowledged.length} acknowledged, ${missing} of them missing, ${left.length} never stored, ` +
      `${unauthorized} answers 401, next_heartbeat_s up to ${latestNextS}`,
  )
  const isHeld = missing === 0 && left.length === 0 && unauthorized === 0
  console.log(
    `${isHeld ? 'held' : 'MISSED'}: nothing lost that was acknowledged, no phone told 401`,
  )
  process.exitCode = isHeld ? 0 : 1
} finally {
  life.signal('SIGTERM')
  await life.ended
  await database.stop()
  rmSync(dataDir, { recursive: true, force: true })
}
