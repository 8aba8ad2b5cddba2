/**
 * Jobs for a large fleet, with two replicas on one database: how soon a job is durable and its progress is read, its pace
 * over a minute, what heartbeats cost meanwhile, and what the replicas' memory does.
 *
 *   npm run bench:jobs -- [--devices 100000] [--per-minute 600] [--rate 200] [--seconds 10]
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { startEmbedded } from '../src/dev/embedded-postgres.ts'
import { seedFleet } from '../testkit/database/seeded-fleet.ts'
import { bodyOf, createSend, isSuccess, jsonHeaders } from '../testkit/http/client.ts'
import { watchMemory } from '../testkit/processes.ts'
import { median } from '../testkit/statistics.ts'
import { seededHeartbeats } from './heartbeat/request.ts'
import { measureWindow } from './heartbeat/window.ts'
import { type BenchService, startBenchService } from './service.ts'

const { values } = parseArgs({
  options: {
    devices: { type: 'string', default: '100000' },
    'per-minute': { type: 'string', default: '600' },
    rate: { type: 'string', default: '200' },
    seconds: { type: 'string', default: '10' },
  },
})
const DEVICES = Number(values.devices)
const PER_MINUTE = Number(values['per-minute'])
const RATE_PER_S = Number(values.rate)
const SECONDS = Number(values.seconds)
const CREATIONS = 3
const READS = 40
const ROUNDS = 3
const CONNECTIONS = 64
const SECRET = { id: 'default', secret: 'bench-hmac-secret-Qd8vXr2kWz9mBt4sLh7cYp3n' }
const ADMIN_TOKEN = 'bench-admin-token-3nVt8wQzLr5KxYp2Hc7mJd4sGf6bNa9e'

const dataDir = mkdtempSync(join(tmpdir(), 'fleetloop-jobs-'))
const database = await startEmbedded({ dataDir, log: () => {} })
const services: BenchService[] = []
const db = new pg.Client({ connectionString: database.url })

function call(method: 'GET' | 'POST', path: string, body?: object) {
  const origin = services[0]?.origin ?? ''
  return createSend(origin)({
    method,
    path,
    headers: jsonHeaders(ADMIN_TOKEN),
    ...(body !== undefined && { body: JSON.stringify(body) }),
  })
}

/** How long the call took; throws unless it succeeds. */
async function timed(method: 'GET' | 'POST', path: string, body?: object): Promise<number> {
  const startedAtMs = performance.now()
  const response = await call(method, path, body)
  if (!isSuccess(response)) throw new Error(`${path}: ${response.status} ${response.bytes}`)
  return performance.now() - startedAtMs
}

/** Prints each replica's peak of resident memory since the last call. */
const watches: ReturnType<typeof watchMemory>[] = []
function printMemory(during: string): void {
  const mib = watches.map((watch) => (watch.takePeak() / 2 ** 20).toFixed(0))
  console.log(`resident ${during}: at most ${mib.join(' and ')} MiB`)
}

const shown = (ms: readonly number[]) =>
  `median ${median(ms).toFixed(0)} ms, at most ${Math.max(...ms).toFixed(0)} ms`

async function readsOf(name: string, path: string): Promise<void> {
  const times: number[] = []
  for (let read = 0; read < READS; read += 1) times.push(await timed('GET', path))
  console.log(`${name}: ${shown(times)} of ${READS}`)
}

let sent = 0
async function heartbeats(): Promise<number> {
  const [service] = services
  if (service === undefined) throw new Error('no service')
  const from = sent
  const numberOf = (index: number) => ((from + index) % DEVICES) + 1
  const { latencyMs, heartbeats: stored } = await measureWindow({
    service,
    postmasterPid: database.pid,
    db,
    ratePerS: RATE_PER_S,
    seconds: SECONDS,
    connections: CONNECTIONS,
    next: seededHeartbeats(SECRET, RATE_PER_S * SECONDS * 2, numberOf),
  })
  sent += stored
  return latencyMs.p99
}

async function creations(): Promise<void> {
  const order = { where: '', action: 'ping', per_minute: PER_MINUTE, expect_devices: DEVICES }
  await readsOf('devices listed, to compare', '/admin/devices?limit=50')
  const dry = await timed('POST', '/admin/jobs', { ...order, dry_run: true })
  console.log(`dry run: ${dry.toFixed(0)} ms`)
  const times: number[] = []
  for (let nth = 1; nth <= CREATIONS; nth += 1) {
    times.push(await timed('POST', '/admin/jobs', { ...order, job_id: `create-${nth}` }))
    await timed('POST', `/admin/jobs/create-${nth}/abort`, {})
  }
  console.log(`job of ${DEVICES}: durable after ${shown(times)}`)
}

/** Everything is released at once and cancelled, while its progress is read. */
async function flood(): Promise<void> {
  const startedAtMs = performance.now()
  await timed('POST', '/admin/jobs', { job_id: 'flood', where: '', action: 'ping' })
  const times: number[] = []
  for (;;) {
    times.push(await timed('GET', '/admin/jobs/flood'))
    if (bodyOf(await call('GET', '/admin/jobs/flood'))['released'] === DEVICES) break
    await wait(100)
  }
  const seconds = (performance.now() - startedAtMs) / 1_000
  console.log(`without a pace: all released after ${seconds.toFixed(1)} s; reads ${shown(times)}`)
  const path = '/admin/jobs/flood/commands'
  await readsOf('progress of a released job', '/admin/jobs/flood')
  await readsOf('its members', `${path}?limit=50`)
  await readsOf('its members of a status', `${path}?status=push_failed&limit=50`)
  await readsOf('its members of a status that none has', `${path}?status=completed&limit=50`)
  const { rows } = await db.query<{ bytes: string }>(
    `select pg_size_pretty(pg_relation_size('job_changes')) as bytes`,
  )
  console.log(`job_changes: ${rows[0]?.bytes}`)
}

async function pace(): Promise<void> {
  const quiet: number[] = []
  const busy: number[] = []
  for (let round = 0; round < ROUNDS; round += 1) quiet.push(await heartbeats())
  await timed('POST', '/admin/jobs', {
    ...{ job_id: 'pace', where: '', action: 'ping', per_minute: PER_MINUTE },
  })
  const begin = performance.now()
  for (let round = 0; round < ROUNDS; round += 1) busy.push(await heartbeats())
  await wait(Math.max(0, begin + 70_000 - performance.now()))
  await readsOf('progress of a paced job', '/admin/jobs/pace')
  await readsOf('jobs listed', '/admin/jobs?limit=50')
  const { rows } = await db.query<{ released: number; by: string[] }>(/* sql */ `
    select count(*)::int as released, array_agg(distinct e.instance) as by
    from command_events e, (select min(at) as first from command_events where detail->>'job_id' = 'pace') f
    where e.detail->>'job_id' = 'pace' and e.stage = 'accepted'
      and e.at > f.first + interval '2 s' and e.at <= f.first + interval '62 s'`)
  const [row] = rows
  const released = row?.released ?? 0
  const percent = (100 * (released - PER_MINUTE)) / PER_MINUTE
  console.log(
    `pace: ${released} released in 60 s of ${PER_MINUTE}: ${percent.toFixed(1)} %, by ${row?.by.length} replicas`,
  )
  const p99 = (all: readonly number[]) => all.map((ms) => ms.toFixed(1)).join(', ')
  console.log(`heartbeats at ${RATE_PER_S}/s, p99 in ms: ${p99(quiet)} without, ${p99(busy)} with`)
}

try {
  await db.connect()
  const settings = {
    DATABASE_URL: database.url,
    HMAC_SECRET: SECRET.secret,
    HEARTBEAT_DEDUP_WINDOW_S: '0',
    ADMIN_TOKENS: `bench=${ADMIN_TOKEN}`,
  }
  services.push(await startBenchService('normal', settings)) // migrates
  services.push(await startBenchService('normal', settings))
  await seedFleet(db, SECRET, DEVICES)
  await db.query('vacuum (analyze)')
  watches.push(...services.map(({ pid }) => watchMemory(pid)))
  for (let round = 0; round < ROUNDS; round += 1) await heartbeats()
  printMemory(`without a job, at ${RATE_PER_S} heartbeats/s`)
  await creations()
  printMemory(`while ${CREATIONS} jobs were created`)
  await pace()
  printMemory('while one was released at its pace')
  await flood()
  printMemory('while all were released at once')
} finally {
  for (const watch of watches) watch.stop()
  for (const service of services) await service.stop()
  await db.end().catch(() => {})
  await database.stop()
  rmSync(dataDir, { recursive: true, force: true })
}
