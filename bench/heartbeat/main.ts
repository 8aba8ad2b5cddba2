/**
 * What a heartbeat costs at several rates, how fast the service starts, and whether its memory stays flat (F7):
 *
 *   npm run bench:heartbeat -- [--rates 100,1000,2000] [--seconds 5] [--rounds 3] [--devices 2000]
 *     [--count 1000000] [--count-rate 2000] [--profile DIR]
 *
 * `--count 0` leaves the memory out. `--profile` writes a CPU profile of the service for Chrome's developer tools.
 * Beside a conventional service and the bare runtime (F1, F2): the peer bench that docs/develop/measurements.md names.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import pg from 'pg'
import type { LoadRequest } from '../../sim/load/load.ts'
import { startEmbedded } from '../../src/dev/embedded-postgres.ts'
import { seededDeviceId, seededToken, seedFleet } from '../../testkit/database/seeded-fleet.ts'
import { residentBytes } from '../../testkit/processes.ts'
import { median } from '../../testkit/statistics.ts'
import { type BenchService, startBenchService } from '../service.ts'
import { heartbeatRequest } from './request.ts'
import { measureWindow, type WindowCost } from './window.ts'

const { values } = parseArgs({
  options: {
    rates: { type: 'string', default: '100,1000,2000' },
    seconds: { type: 'string', default: '5' },
    rounds: { type: 'string', default: '3' },
    devices: { type: 'string', default: '2000' },
    count: { type: 'string', default: '1000000' },
    'count-rate': { type: 'string', default: '2000' },
    profile: { type: 'string' },
  },
})
const RATES = values.rates.split(',').map(Number)
const SECONDS = Number(values.seconds)
const ROUNDS = Number(values.rounds)
const DEVICES = Number(values.devices)
const COUNT = Number(values.count)
const COUNT_RATE = Number(values['count-rate'])
const STARTS = 5
const CONNECTIONS = 128
const MEMORY_STEPS = 10
const SECRET = { id: 'default', secret: 'bench-hmac-secret-Qd8vXr2kWz9mBt4sLh7cYp3n' }

const dataDir = mkdtempSync(join(tmpdir(), 'fleetloop-bench-'))
const database = await startEmbedded({ dataDir, log: () => {} })
const settings = {
  DATABASE_URL: database.url,
  HMAC_SECRET: SECRET.secret,
  HEARTBEAT_DEDUP_WINDOW_S: '0',
}
const db = new pg.Client({ connectionString: database.url })
let service: BenchService | undefined
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => void end().finally(() => process.exit(130)))
}

async function end(): Promise<void> {
  await service?.stop()
  await db.end()
  await database.stop()
  rmSync(dataDir, { recursive: true, force: true })
}

async function startups(): Promise<void> {
  const startupsMs: number[] = []
  for (let start = 0; start < STARTS; start++) {
    const one = await startBenchService('normal', settings)
    startupsMs.push(one.startupMs)
    await one.stop()
  }
  const each = startupsMs.map((ms) => ms.toFixed(0)).join(', ')
  console.log(`F7 ready after ${median(startupsMs).toFixed(0)} ms (must 1000): ${each}`)
}

const windowOf = (running: BenchService, ratePerS: number, seconds: number) =>
  measureWindow({
    service: running,
    postmasterPid: database.pid,
    db,
    ratePerS,
    seconds,
    connections: CONNECTIONS,
    next: requestOf,
  })

/** A prime stride: requests close in time are far apart in the index. */
function requestOf(index: number): LoadRequest {
  const request = requests[(index * 7919) % requests.length]
  if (request === undefined) throw new Error('--devices must be 1 at least')
  return request
}

async function costs(running: BenchService): Promise<void> {
  const costsOf = new Map<number, WindowCost[]>(RATES.map((rate) => [rate, []]))
  await windowOf(running, Math.max(...RATES), SECONDS) // warm-up
  for (let round = 0; round < ROUNDS; round++) {
    for (const [rate, costs] of costsOf) costs.push(await windowOf(running, rate, SECONDS))
  }
  for (const [rate, costs] of costsOf) {
    const of = (read: (cost: WindowCost) => number) => median(costs.map(read)).toFixed(1)
    console.log(
      `${String(rate).padStart(5)}/s  node ${of((c) => c.nodeUs)} us  postgres ${of((c) => c.postgresUs)} us  ` +
        `WAL ${of((c) => c.walBytes)} B  group ${of((c) => c.groupSize)}  ` +
        `p50 ${of((c) => c.latencyMs.p50)} ms  p99 ${of((c) => c.latencyMs.p99)} ms`,
    )
  }
}

const residentMiB = ({ pid }: BenchService) => residentBytes(pid) / 2 ** 20

async function memory(running: BenchService): Promise<void> {
  const mib = [residentMiB(running)]
  const seconds = COUNT / MEMORY_STEPS / COUNT_RATE
  for (let step = 0; step < MEMORY_STEPS; step++) {
    await windowOf(running, COUNT_RATE, seconds)
    mib.push(residentMiB(running))
  }
  console.log(
    `F7 resident memory over ${COUNT} heartbeats at ${COUNT_RATE}/s (must 120 MB = 114.4 MiB): ` +
      `${mib.map((one) => one.toFixed(1)).join(' ')} MiB`,
  )
}

await db.connect()
service = await startBenchService('normal', settings) // migrates
await service.stop()
await seedFleet(db, SECRET, DEVICES)
const requests = Array.from({ length: DEVICES }, (_, index) =>
  heartbeatRequest({
    alias: `S${index + 1}`,
    deviceId: seededDeviceId(index + 1),
    token: seededToken(SECRET, index + 1),
  }),
)
try {
  await startups()
  const profile =
    values.profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${values.profile}`]
  service = await startBenchService('normal', settings, profile)
  await costs(service)
  if (COUNT > 0) await memory(service)
} finally {
  await end()
}
