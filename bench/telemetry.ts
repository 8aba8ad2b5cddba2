/**
 * F3: what all telemetry costs. Three services run side by side on one PostgreSQL: with telemetry, without it
 * (LOG_LEVEL=OFF and no metrics), and a second one without it, which shows the noise. Heartbeats of simulated
 * devices arrive open loop at each in turn, in short windows. Processes that should be equal differ by some
 * per cent, so all is done again with fresh ones.
 *
 *   npm run bench:telemetry -- [--starts 3] [--rounds 10] [--seconds 3] [--rate 1000] [--devices 100]
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { enrollDevices } from '../sim/enroll.ts'
import { type LoadRequest, runLoad } from '../sim/load/load.ts'
import { startEmbedded } from '../src/dev/embedded-postgres.ts'
import { withClient } from '../testkit/database/postgres.ts'
import { createSend } from '../testkit/http/client.ts'
import { cpuMs } from '../testkit/processes.ts'
import { median } from '../testkit/statistics.ts'
import { heartbeatRequest } from './heartbeat/request.ts'
import { type BenchService, startBenchService } from './service.ts'

const { values } = parseArgs({
  options: {
    starts: { type: 'string', default: '3' },
    rounds: { type: 'string', default: '10' },
    seconds: { type: 'string', default: '3' },
    rate: { type: 'string', default: '1000' },
    devices: { type: 'string', default: '100' },
  },
})
const STARTS = Number(values.starts)
const ROUNDS = Number(values.rounds)
const SECONDS = Number(values.seconds)
const RATE_PER_S = Number(values.rate)
const DEVICES = Number(values.devices)
const OFF = { main: 'noMetrics', env: { LOG_LEVEL: 'OFF' } } as const
const SIDES = { on: { main: 'normal', env: {} }, off: OFF, again: OFF } as const
type Side = keyof typeof SIDES
const NAMES: readonly Side[] = ['on', 'off', 'again']
const WARM_UPS = 2

interface Window {
  readonly p50Ms: number
  readonly p95Ms: number
  readonly cpuMs: number
  readonly heartbeats: number
}

type Windows = Readonly<Record<Side, Window[]>>

interface Subject {
  readonly side: Side
  readonly service: BenchService
  readonly requests: readonly LoadRequest[]
}

async function startSubject(side: Side, start: number): Promise<Subject> {
  const url = new URL(database.url)
  url.pathname = `/${side}_${start}`
  await withClient(database.url, (db) => db.query(`create database ${side}_${start}`))
  const { main, env } = SIDES[side]
  const settings = { DATABASE_URL: url.href, HEARTBEAT_DEDUP_WINDOW_S: '0', ...env }
  const service = await startBenchService(main, settings)
  running.push(service)
  const aliases = Array.from({ length: DEVICES }, (_, index) => `B${index}`)
  const devices = await enrollDevices(createSend(service.origin), service.adminToken, aliases)
  const requests = devices.map(heartbeatRequest)
  return { side, service, requests }
}

async function measure({ service, requests }: Subject): Promise<Window> {
  const [fallback] = requests
  if (fallback === undefined) throw new Error('no devices')
  const beforeMs = cpuMs(service.pid)
  const end = new AbortController() // AbortSignal.any() may lose a timeout to the collector on Node 20
  interrupt = () => end.abort()
  const timer = setTimeout(() => end.abort(), SECONDS * 1_000)
  const report = await runLoad({
    origin: service.origin,
    ratePerS: RATE_PER_S,
    connections: DEVICES,
    next: (index) => requests[index % requests.length] ?? fallback,
    signal: end.signal,
  })
  clearTimeout(timer)
  if (isInterrupted) throw new Error('interrupted')
  const heartbeats = report.byStatus[200] ?? 0
  if (heartbeats !== report.due) throw new Error(`not all stored: ${JSON.stringify(report)}`)
  const { p50, p95 } = report.latencyMs
  return { p50Ms: p50, p95Ms: p95, cpuMs: cpuMs(service.pid) - beforeMs, heartbeats }
}

/** With new processes; each round begins with another side. */
async function measureStart(start: number): Promise<Windows> {
  const subjects: Subject[] = []
  for (const side of NAMES) subjects.push(await startSubject(side, start))
  const windows: Windows = { on: [], off: [], again: [] }
  for (let round = -WARM_UPS; round < ROUNDS; round++) {
    for (let turn = 0; turn < subjects.length; turn++) {
      const subject = subjects[(round + WARM_UPS + turn) % subjects.length]
      if (subject === undefined) continue
      const window = await measure(subject)
      if (round >= 0) windows[subject.side].push(window)
    }
  }
  await stopAll()
  return windows
}

async function stopAll(): Promise<void> {
  await Promise.all(running.splice(0).map((service) => service.stop()))
}

function p95Of(windows: readonly Window[]): number {
  return median(windows.map(({ p95Ms }) => p95Ms))
}

function cpuUsOf(windows: readonly Window[]): number {
  const allMs = windows.reduce((sum, window) => sum + window.cpuMs, 0)
  return (allMs * 1_000) / windows.reduce((sum, { heartbeats }) => sum + heartbeats, 0)
}

function say(title: string, windows: Windows): void {
  console.log(title)
  for (const side of NAMES) {
    const p95s = windows[side].map(({ p95Ms }) => p95Ms)
    const p50Ms = median(windows[side].map((window) => window.p50Ms)).toFixed(3)
    const range = `${Math.min(...p95s).toFixed(3)}–${Math.max(...p95s).toFixed(3)}`
    console.log(
      `  ${side.padEnd(5)} p50 ${p50Ms} ms, p95 ${p95Of(windows[side]).toFixed(3)} ms (${range}), ` +
        `${cpuUsOf(windows[side]).toFixed(1)} µs of CPU a heartbeat`,
    )
  }
  const compare = (what: string, one: readonly Window[], other: readonly Window[]) => {
    const addedMs = (p95Of(one) - p95Of(other)).toFixed(3)
    const addedCpuPct = ((cpuUsOf(one) / cpuUsOf(other) - 1) * 100).toFixed(1)
    console.log(`  ${what}: ${addedMs} ms of p95, ${addedCpuPct} % of CPU`)
  }
  compare('on over off and again', windows.on, [...windows.off, ...windows.again])
  compare('again over off, the noise', windows.again, windows.off)
}

let isInterrupted = false
let interrupt = () => {}
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, () => {
    isInterrupted = true
    interrupt()
  })
}
const running: BenchService[] = []
const dataDir = mkdtempSync(join(tmpdir(), 'fleetloop-bench-'))
const database = await startEmbedded({ dataDir, log: () => {} })
try {
  const all: Windows = { on: [], off: [], again: [] }
  for (let start = 1; start <= STARTS; start++) {
    const windows = await measureStart(start)
    for (const side of NAMES) all[side].push(...windows[side])
    say(`start ${start} of ${STARTS}`, windows)
  }
  const load = `${DEVICES} devices, ${RATE_PER_S} heartbeats/s`
  say(`${load}, medians of ${STARTS * ROUNDS} windows of ${SECONDS} s a side`, all)
  console.log('F3: telemetry adds at most 0.05 ms to the median of p95 and 5 % of CPU a heartbeat')
} finally {
  await stopAll()
  await database.stop()
  rmSync(dataDir, { recursive: true, force: true })
}
