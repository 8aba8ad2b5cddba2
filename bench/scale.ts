/**
 * F6: what a heartbeat costs with a million devices and a hundred million stored heartbeats, against a thousand
 * devices and none. Both databases stand in one PostgreSQL, a service before each, measured in turns.
 *
 *   npm run bench:scale -- [--devices 1000000] [--heartbeats 100000000] [--rate 1000] [--seconds 5] [--rounds 9]
 *     [--dir DIR]
 *
 * Takes about 260 bytes of disk a heartbeat (26 GB), under `--dir` (the temporary directory), and removes them.
 */
import { mkdtempSync, rmSync, statfsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { explained } from '../drills/plans-explain.ts'
import { type EmbeddedDatabase, startEmbedded } from '../src/db/embedded.ts'
import { storeHeartbeats } from '../src/db/heartbeats.ts'
import { HOT_SETTINGS } from '../src/db/stores.ts'
import { heartbeatRequest } from './heartbeat-request.ts'
import { measureWindow, type WindowCost } from './heartbeat-window.ts'
import { median } from './measure.ts'
import { planShape, seededItems } from './scale-plan.ts'
import { seededDeviceId, seededToken, seedFleet } from './seeded-fleet.ts'
import { type BenchService, startBenchService } from './service.ts'
import { storeHistory } from './stored-history.ts'

const { values } = parseArgs({
  options: {
    devices: { type: 'string', default: '1000000' },
    heartbeats: { type: 'string', default: '100000000' },
    rate: { type: 'string', default: '1000' },
    seconds: { type: 'string', default: '5' },
    rounds: { type: 'string', default: '9' },
    dir: { type: 'string', default: tmpdir() },
  },
})
const HEARTBEATS = Number(values.heartbeats)
const SECONDS = Number(values.seconds)
const ROUNDS = Number(values.rounds)
const RATE_PER_S = Number(values.rate)
const SMALL_DEVICES = 1_000
const BYTES_PER_HEARTBEAT = 320
const CONNECTIONS = 128
/** Prime: devices follow each other in no order of any index. */
const STRIDE = 7_919
const SECRET = { id: 'default', secret: 'bench-hmac-secret-Qd8vXr2kWz9mBt4sLh7cYp3n' }

interface Side {
  readonly name: 'small' | 'large'
  readonly devices: number
  readonly url: string
  readonly db: pg.Client
  readonly costs: WindowCost[]
  sent: number
  service: BenchService | undefined
}

const neededBytes = HEARTBEATS * BYTES_PER_HEARTBEAT
const { bavail, bsize } = statfsSync(values.dir)
if (bavail * bsize < neededBytes) {
  const gb = (bytes: number) => `${(bytes / 1e9).toFixed(0)} GB`
  console.error(
    `${gb(neededBytes)} are needed under ${values.dir}, ${gb(bavail * bsize)} are free: give --dir`,
  )
  process.exit(1)
}
const dataDir = mkdtempSync(join(values.dir, 'fleetloop-scale-'))
let database: EmbeddedDatabase | undefined
const sides: Side[] = []
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => void end().finally(() => process.exit(130)))
}

async function end(): Promise<void> {
  for (const { service, db } of sides) {
    await service?.stop()
    await db.end().catch(() => {}) // it may be the one that failed
  }
  await database?.stop()
  rmSync(dataDir, { recursive: true, force: true })
}

/** Without WAL for what is filled in one transaction with its table: what stays in memory is as in production. */
async function startCluster(): Promise<EmbeddedDatabase> {
  const first = await startEmbedded({ dataDir, log: () => {} })
  const admin = new pg.Client({ connectionString: first.url })
  await admin.connect()
  for (const [name, value] of [
    ['wal_level', 'minimal'],
    ['max_wal_senders', '0'],
    ['max_wal_size', '8GB'],
    ['shared_buffers', '1GB'],
  ]) {
    await admin.query(`alter system set ${name} = '${value}'`)
  }
  await admin.query('create database small')
  await admin.query('create database large')
  await admin.end()
  await first.stop()
  return startEmbedded({ dataDir, log: () => {} })
}

async function prepare(name: Side['name'], devices: number, heartbeats: number): Promise<void> {
  const url = new URL(database?.url ?? '')
  url.pathname = `/${name}`
  const db = new pg.Client({ connectionString: url.href })
  await db.connect()
  const side: Side = { name, devices, url: url.href, db, costs: [], sent: 0, service: undefined }
  sides.push(side)
  const settings = {
    DATABASE_URL: url.href,
    HMAC_SECRET: SECRET.secret,
    HEARTBEAT_DEDUP_WINDOW_S: '0',
  }
  await (await startBenchService('normal', settings)).stop() // migrates
  const startedAtMs = performance.now()
  await seedFleet(db, SECRET, devices)
  console.log(
    `${name}: ${devices} devices in ${((performance.now() - startedAtMs) / 1e3).toFixed(0)} s`,
  )
  if (heartbeats > 0) await storeHistory(db, devices, heartbeats, console.log)
  side.service = await startBenchService('normal', settings)
}

async function measure(side: Side): Promise<WindowCost> {
  const { service, devices, db } = side
  if (service === undefined || database === undefined) throw new Error('not prepared')
  const from = side.sent
  const requests = Array.from({ length: RATE_PER_S * SECONDS * 2 }, (_, index) => {
    const n = (((from + index) * STRIDE) % devices) + 1
    return heartbeatRequest({
      alias: `S${n}`,
      deviceId: seededDeviceId(n),
      token: seededToken(SECRET, n),
    })
  })
  const cost = await measureWindow({
    service,
    postmasterPid: database.pid,
    db,
    ratePerS: RATE_PER_S,
    seconds: SECONDS,
    connections: CONNECTIONS,
    next(index) {
      const request = requests[index]
      if (request === undefined) throw new Error('more arrivals than planned')
      return request
    },
  })
  side.sent += cost.heartbeats
  return cost
}

async function shapeOf({ db }: Side): Promise<string> {
  const items = seededItems(SECRET, SMALL_DEVICES, 64)
  const plans = await explained(
    db,
    'generic',
    (one) => storeHeartbeats(one, 0, 300)(items),
    HOT_SETTINGS,
  )
  return plans.map(planShape).join('\n')
}

try {
  database = await startCluster()
  await prepare('small', SMALL_DEVICES, 0)
  await prepare('large', Number(values.devices), HEARTBEATS)
  const [small, large] = sides
  if (small === undefined || large === undefined) throw new Error('not prepared')
  for (const side of sides) await measure(side) // warm-up
  for (let round = 0; round < ROUNDS; round++) {
    for (const side of round % 2 === 0 ? sides : [...sides].reverse()) {
      side.costs.push(await measure(side))
    }
  }
  const of = ({ costs }: Side, read: (cost: WindowCost) => number) => median(costs.map(read))
  for (const side of sides) {
    const figure = (read: (cost: WindowCost) => number) => of(side, read).toFixed(1)
    console.log(
      `${side.name}: node ${figure((c) => c.nodeUs)} us  postgres ${figure((c) => c.postgresUs)} us  ` +
        `WAL ${figure((c) => c.walBytes)} B  group ${figure((c) => c.groupSize)}  ` +
        `p50 ${figure((c) => c.latencyMs.p50)} ms  p99 ${figure((c) => c.latencyMs.p99)} ms`,
    )
  }
  const ratios = small.costs.map(
    (cost, round) =>
      ((large.costs[round]?.nodeUs ?? 0) + (large.costs[round]?.postgresUs ?? 0)) /
      (cost.nodeUs + cost.postgresUs),
  )
  console.log(
    `F6 CPU a heartbeat, large over small: ${median(ratios).toFixed(2)} (must 1.6, aim 1.2; ` +
      `${Math.min(...ratios).toFixed(2)} to ${Math.max(...ratios).toFixed(2)})`,
  )
  const [one, other] = [await shapeOf(small), await shapeOf(large)]
  console.log(one === other ? `same plan:\n${one}` : `plans differ:\n${one}\n--\n${other}`)
  if (one !== other) process.exitCode = 1
} finally {
  await end()
}
