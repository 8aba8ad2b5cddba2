/**
 * F6: what a heartbeat costs with a million devices and a hundred million stored heartbeats, against a thousand
 * devices and none. One PostgreSQL has both databases, a service before each, measured in turns. Before that, what the
 * history of one phone takes to read.
 *
 *   npm run bench:scale -- [--devices 1000000] [--heartbeats 100000000] [--rate 1000] [--seconds 5] [--rounds 9]
 *     [--dir DIR | --keep DIR]
 *
 * Takes about 260 bytes of disk a heartbeat (26 GB) under `--dir` (the temporary directory), and removes them afterwards.
 * With `--keep` the databases stay in DIR: each run stores one more day of heartbeats and exits, and a run that finds all
 * of them measures.
 */
import { mkdirSync, mkdtempSync, rmSync, statfsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { storeHeartbeats } from '../src/db/heartbeats/heartbeats.ts'
import { HOT_SETTINGS } from '../src/db/stores.ts'
import { type EmbeddedDatabase, startEmbedded } from '../src/dev/embedded-postgres.ts'
import { explained } from '../testkit/database/explain.ts'
import { seedFleet } from '../testkit/database/seeded-fleet.ts'
import { storeHistory } from '../testkit/database/stored-history.ts'
import { median } from '../testkit/statistics.ts'
import { seededHeartbeats } from './heartbeat/request.ts'
import { measureWindow, type WindowCost } from './heartbeat/window.ts'
import { measureHistory } from './scale-history.ts'
import { planShape, seededItems } from './scale-plan.ts'
import { type BenchService, startBenchService } from './service.ts'

const { values } = parseArgs({
  options: {
    devices: { type: 'string', default: '1000000' },
    heartbeats: { type: 'string', default: '100000000' },
    rate: { type: 'string', default: '1000' },
    seconds: { type: 'string', default: '5' },
    rounds: { type: 'string', default: '9' },
    dir: { type: 'string', default: tmpdir() },
    keep: { type: 'string' },
  },
})
const HEARTBEATS = Number(values.heartbeats)
const SECONDS = Number(values.seconds)
const ROUNDS = Number(values.rounds)
const RATE_PER_S = Number(values.rate)
const MUST_RATIO = 1.6
const SMALL_DEVICES = 1_000
const BYTES_PER_HEARTBEAT = 320
const CONNECTIONS = 128
/** A prime: consecutive devices are far apart in every index. */
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
if (values.keep === undefined && bavail * bsize < neededBytes) {
  const gb = (bytes: number) => `${(bytes / 1e9).toFixed(0)} GB`
  console.error(
    `${gb(neededBytes)} are needed under ${values.dir}, ${gb(bavail * bsize)} are free: give --dir`,
  )
  process.exit(1)
}
if (values.keep !== undefined) mkdirSync(values.keep, { recursive: true })
const dataDir = values.keep ?? mkdtempSync(join(values.dir, 'fleetloop-scale-'))
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
  if (values.keep === undefined) rmSync(dataDir, { recursive: true, force: true })
}

/** Without WAL for tables created and filled in one transaction; memory settings are production's. */
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
  const { rows } = await admin.query<{ datname: string }>('select datname from pg_database')
  for (const name of ['small', 'large']) {
    if (!rows.some(({ datname }) => datname === name)) await admin.query(`create database ${name}`)
  }
  await admin.end()
  await first.stop()
  return startEmbedded({ dataDir, log: () => {} })
}

/** false: it stored one day; the next run continues. */
async function prepare(name: Side['name'], devices: number, heartbeats: number): Promise<boolean> {
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
  const { rows } = await db.query<{ count: number }>('select count(*)::int as count from devices')
  if (rows[0]?.count !== devices) {
    const startedAtMs = performance.now()
    await seedFleet(db, SECRET, devices)
    console.log(
      `${name}: ${devices} devices in ${((performance.now() - startedAtMs) / 1e3).toFixed(0)} s`,
    )
  }
  const mostDays = values.keep === undefined ? Number.POSITIVE_INFINITY : 1
  const history = { devices, count: heartbeats, mostDays, print: console.log }
  if (heartbeats > 0 && !(await storeHistory(db, history))) return false
  side.service = await startBenchService('normal', settings)
  return true
}

async function measure(side: Side): Promise<WindowCost> {
  const { service, devices, db } = side
  if (service === undefined || database === undefined) throw new Error('not prepared')
  const from = side.sent
  const numberOf = (index: number) => (((from + index) * STRIDE) % devices) + 1
  const cost = await measureWindow({
    service,
    postmasterPid: database.pid,
    db,
    ratePerS: RATE_PER_S,
    seconds: SECONDS,
    connections: CONNECTIONS,
    next: seededHeartbeats(SECRET, RATE_PER_S * SECONDS * 2, numberOf),
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

async function compare(): Promise<void> {
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
  if (median(ratios) > MUST_RATIO) process.exitCode = 1
  console.log(
    `F6 CPU a heartbeat, large over small: ${median(ratios).toFixed(2)} (must ${MUST_RATIO}, aim 1.2; ` +
      `${Math.min(...ratios).toFixed(2)} to ${Math.max(...ratios).toFixed(2)})`,
  )
  const [one, other] = [await shapeOf(small), await shapeOf(large)]
  console.log(one === other ? `same plan:\n${one}` : `plans differ:\n${one}\n--\n${other}`)
  if (one !== other) process.exitCode = 1
}

try {
  database = await startCluster()
  const isWhole =
    (await prepare('small', SMALL_DEVICES, 0)) &&
    (await prepare('large', Number(values.devices), HEARTBEATS))
  const [, large] = sides
  if (isWhole && large?.service !== undefined) {
    const { service, devices, db } = large
    if (!(await measureHistory({ service, devices, db }))) process.exitCode = 1
    await compare()
  } else console.log('run it again: it stores the next day, or measures')
} finally {
  await end()
}
