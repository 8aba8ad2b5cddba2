/**
 * F8: downloads of an APK from the service and of the same file from a plain fs.createReadStream server, in short
 * windows by turns; then the memory held by a download whose client has stopped reading.
 *
 *   npm run bench:apk -- [--rounds 15] [--seconds 2] [--connections 4] [--mib 50] [--readers 200]
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { makeApk } from '../../sim/apk.ts'
import { startEmbedded } from '../../src/dev/embedded-postgres.ts'
import { compare } from '../../testkit/compare.ts'
import { createSend } from '../../testkit/http/client.ts'
import { cpuMs, residentBytes } from '../../testkit/processes.ts'
import { startBenchService } from '../service.ts'
import { openSlowReaders, readAll, type Target } from './reader.ts'

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '15' },
    seconds: { type: 'string', default: '2' },
    connections: { type: 'string', default: '4' },
    mib: { type: 'string', default: '50' },
    readers: { type: 'string', default: '200' },
  },
})
const ROUNDS = Number(values.rounds)
const SECONDS = Number(values.seconds)
const CONNECTIONS = Number(values.connections)
const APK_BYTES = Number(values.mib) * 1024 * 1024
const READERS = Number(values.readers)
const WARM_UPS = 1
const MIB = 1024 * 1024
/** From the last reader's last piece to the memory measurement. */
const SETTLE_MS = 1_000

interface Side extends Target {
  readonly pid: number
  readonly mbPerS: number[]
  readonly cpuMsPerGb: number[]
  readonly residentMib: number[]
}

function sideOf(pid: number, origin: string, request: string): Side {
  const { hostname: host, port } = new URL(origin)
  return { pid, host, port: Number(port), request, mbPerS: [], cpuMsPerGb: [], residentMib: [] }
}

function get(path: string, ...headers: readonly string[]): string {
  return [`GET ${path} HTTP/1.1`, 'Host: bench', ...headers, '', ''].join('\r\n')
}

async function startPlain(path: string) {
  const main = fileURLToPath(new URL('./plain-server.js', import.meta.url))
  const child = spawn(process.execPath, [main, path], { stdio: ['ignore', 'ignore', 'pipe'] })
  const [said] = await once(child.stderr.setEncoding('utf8'), 'data')
  const origin = /^listening on (\S+)$/m.exec(said)?.[1]
  if (child.pid === undefined || origin === undefined) throw new Error(`no plain server: ${said}`)
  return { child, side: sideOf(child.pid, origin, get('/')) }
}

/** Publishes the APK, and downloads it once into the cache. */
async function startService(databaseUrl: string, apk: Buffer) {
  const limits = {
    RATE_LIMIT_APK_PER_TOKEN_PER_MIN: '1000000',
    RATE_LIMIT_APK_PER_SUBNET_PER_MIN: '1000000',
    APK_MAX_DOWNLOADS_PER_TOKEN: '100000',
    APK_MAX_DOWNLOADS_PER_SUBNET: '100000',
  }
  const service = await startBenchService('normal', { DATABASE_URL: databaseUrl, ...limits })
  const bearer = `Bearer ${service.adminToken}`
  const headers = { authorization: bearer }
  const send = createSend(service.origin)
  const path = '/admin/apk/builds/bench?version_code=1'
  const published = await send({ method: 'PUT', path, headers, body: apk })
  const latest = '/v1/apk/download-latest'
  const fetched = await send({ method: 'GET', path: latest, headers })
  if (published.status !== 201 || !fetched.bytes.equals(apk)) {
    await service.stop()
    throw new Error(`published ${published.status}, fetched ${fetched.status}`)
  }
  const request = get(latest, `Authorization: ${bearer}`)
  return { service, side: sideOf(service.pid, service.origin, request) }
}

async function measure(side: Side, isWarmUp: boolean): Promise<void> {
  const beforeMs = cpuMs(side.pid)
  const startedAtMs = performance.now()
  const end = new AbortController() // AbortSignal.any() may lose a timeout to the collector on Node 20
  interrupt = () => end.abort()
  let resident = 0
  const timer = setTimeout(() => {
    resident = residentBytes(side.pid)
    end.abort()
  }, SECONDS * 1_000)
  const bytes = await readAll(side, CONNECTIONS, end.signal).finally(() => clearTimeout(timer))
  const tookMs = performance.now() - startedAtMs
  if (isInterrupted) throw new Error('interrupted')
  if (isWarmUp) return
  side.mbPerS.push(bytes / 1e3 / tookMs)
  side.cpuMsPerGb.push((cpuMs(side.pid) - beforeMs) / (bytes / 1e9))
  side.residentMib.push(resident / MIB)
}

/** Resident memory per download whose client has stopped reading. */
async function heldBytes(side: Side): Promise<number> {
  const before = residentBytes(side.pid)
  const readers = await openSlowReaders(side, READERS)
  await wait(SETTLE_MS)
  const held = (residentBytes(side.pid) - before) / READERS
  readers.end()
  return held
}

function say(what: string, plain: readonly number[], service: readonly number[], unit: string) {
  const { base, other, ratio, noise } = compare(plain, service)
  const range = `${Math.min(...service).toFixed(0)}–${Math.max(...service).toFixed(0)}`
  console.log(
    `${what}: plain ${base.toFixed(0)}, service ${other.toFixed(0)} ${unit} (${range}): ` +
      `${ratio.toFixed(2)} × (noise ${(noise * 100).toFixed(0)} %)`,
  )
}

let isInterrupted = false
let interrupt = () => {}
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, () => {
    isInterrupted = true
    interrupt()
  })
}
const dir = mkdtempSync(join(tmpdir(), 'fleetloop-bench-'))
const database = await startEmbedded({ dataDir: join(dir, 'postgres'), log: () => {} })
const closes: (() => Promise<unknown>)[] = []
try {
  const apk = makeApk({ sizeBytes: APK_BYTES })
  const file = join(dir, 'plain.apk')
  writeFileSync(file, apk)
  const plain = await startPlain(file)
  closes.push(async () => {
    const ended = once(plain.child, 'exit')
    plain.child.kill('SIGTERM')
    await ended
  })
  const { service, side } = await startService(database.url, apk)
  closes.push(() => service.stop())
  for (let round = -WARM_UPS; round < ROUNDS; round++) {
    const turns = round % 2 === 0 ? [plain.side, side] : [side, plain.side]
    for (const turn of turns) await measure(turn, round < 0)
  }
  console.log(
    `APK of ${values.mib} MiB, ${CONNECTIONS} downloads at once, medians of ${ROUNDS} windows of ${SECONDS} s`,
  )
  say('throughput', plain.side.mbPerS, side.mbPerS, 'MB/s')
  say('CPU', plain.side.cpuMsPerGb, side.cpuMsPerGb, 'ms a GB')
  say('resident', plain.side.residentMib, side.residentMib, 'MiB')
  const [plainHeld, held] = [await heldBytes(plain.side), await heldBytes(side)]
  console.log(
    `memory of one of ${READERS} downloads that are not read on: ` +
      `plain ${(plainHeld / MIB).toFixed(2)}, service ${(held / MIB).toFixed(2)} MiB`,
  )
  console.log('F8: at least 0.8 × the throughput of the plain server, at most 1 MiB a download')
} finally {
  for (const close of closes.reverse()) await close()
  await database.stop()
  rmSync(dir, { recursive: true, force: true })
}
