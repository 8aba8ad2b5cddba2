/** `npm run drill -- R9`: honest phones at a fixed rate beside thousands of sockets that say next to nothing. Linux; needs a descriptor per socket (`ulimit -n`). */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { constants, setPriority } from 'node:os'
import { setTimeout as wait } from 'node:timers/promises'
import { makeApk } from '../../sim/apk.ts'
import { compare } from '../../testkit/compare.ts'
import { createSend, jsonHeaders } from '../../testkit/http/client.ts'
import { startReplica } from '../../testkit/service.ts'
import { ADMIN_TOKEN, serviceSettings } from '../../testkit/service-settings.ts'
import { type DatabaseEnvironment, defineDrill, type Figure, type Values } from '../drill.ts'
import {
  enroll,
  type HeartbeatLoad,
  LOAD_CONNECTIONS,
  startHeartbeats,
} from '../shared/heartbeat-load.ts'
import { servedAll } from '../stdout/phases.ts'
import { clientSockets, openFiles } from './descriptors.ts'
import { abortsOf, readersOf, wavesOf } from './groups.ts'
import type { HostileGroup, HostileOutcome, HostileReport, HostileWave } from './hostile.ts'
import { keepIdle } from './kept.ts'

const OPTIONS = {
  slow: { standard: 5_000, what: 'sockets that send a byte of a head each second' },
  half: { standard: 500, what: 'sockets that stop within a body' },
  readers: { standard: 200, what: 'sockets that take a byte of an APK each second' },
  aborts: {
    standard: 10_000,
    what: 'downloads that are reset at their first bytes, the next burst while at most 128 are open',
  },
  burst: { standard: 10, what: 'of each kind opened at once, at most 1,000 a second' },
  kept: {
    standard: 2_000,
    what: 'honest connections that lie idle for up to 75 s, and are used then',
  },
  rounds: { standard: 9, what: 'waves of the first two, with quiet windows between them' },
  rate: { standard: 200, what: 'honest heartbeats a second' },
} as const

export type SocketsRun = DatabaseEnvironment & Values<typeof OPTIONS>

const SENDERS = 50
const NO_LIMIT = '100000'
const APK_BYTES = 24_000_000
const SETTLE_MS = 2_000
/** Warm-up: before the compiler is done the service is twice as slow, which would hide the effect of a wave. */
const WARM_MS = 15_000
const QUIET_MS = 12_000
const MOST_RATIO = 2
const LIMIT_MS = 10_000
const READER_LIMIT_MS = 60_000
const IDLE_LIMIT_MS = 80_000
/** The check interval, and a busy machine. */
const MOST_LATE_MS = 1_500
/**
 * Checks are a little more than 2.5 s apart; one starts the clock and one ends it; the next byte comes a second later.
 */
const READER_LATE_MS = 10_000
/** Such as connections to the database that only the load needs. */
const MOST_MORE_FILES = 5
const MIB = 1024 * 1024

export const socketsDrill = defineDrill({
  name: 'R9',
  promise:
    'thousands of sockets that say next to nothing are closed in time, and honest phones hardly notice',
  options: OPTIONS,
  needs: 'postgres',
  run: (options, environment) => runSockets({ ...options, ...environment }),
})

async function runSockets(run: SocketsRun): Promise<readonly Figure[]> {
  const service = startReplica({
    settings: {
      ...serviceSettings(run.databaseUrl, run.dataDir),
      HEARTBEAT_DEDUP_WINDOW_S: '0',
      RATE_LIMIT_APK_PER_TOKEN_PER_MIN: NO_LIMIT,
      RATE_LIMIT_APK_PER_SUBNET_PER_MIN: NO_LIMIT,
      APK_MAX_DOWNLOADS_PER_TOKEN: NO_LIMIT,
      APK_MAX_DOWNLOADS_PER_SUBNET: NO_LIMIT,
    },
  })
  const hostile = startHostile()
  const ended = endOf(hostile)
  ended.catch(() => {}) // those who await it see the rejection
  try {
    const origin = await service.ready
    const senders = await enroll(origin, ADMIN_TOKEN, SENDERS)
    await publish(origin)
    const load = startHeartbeats(origin, senders, run.rate)
    await wait(WARM_MS)
    const baseFiles = openFiles(service.pid)
    const attack = async (groups: readonly HostileGroup[]) => {
      const port = Number(new URL(origin).port)
      const wave: HostileWave = { port, pid: service.pid, burst: run.burst, groups }
      hostile.send(wave)
      const [report] = await Promise.race([once(hostile, 'message'), ended])
      return report as HostileReport // what that process sends
    }
    const waves = await measureWaves(run, load, () => attack(wavesOf(run, senders)))
    const [aborted] = (await attack(abortsOf(run, senders))).outcomes
    const clients = clientSockets(origin)
    const kept = await keepIdle(origin, senders, run.kept)
    const rssBytes = await rssOf(origin)
    const reading = attack(readersOf(run, senders))
    reading.catch(() => {}) // awaited below
    await wait(READER_LIMIT_MS / 2)
    const rssReadBytes = await rssOf(origin)
    const [readers, idle] = (await reading).outcomes
    const keptFigure = await kept.figure
    const report = await load.stop()
    await wait(SETTLE_MS)
    return [
      latencyFigure(waves.quietMs, waves.hostileMs, run),
      ...waves.outcomes.map((outcome) => closedFigure(outcome, LIMIT_MS, MOST_LATE_MS)),
      filesFigure(run, {
        base: baseFiles,
        peak: waves.peakFiles,
        clients: [clients, clientSockets(origin)],
        after: openFiles(service.pid),
      }),
      ...(aborted ? [abortedFigure(aborted, service.faultLines.length, run)] : []),
      ...(readers ? [closedFigure(readers, READER_LIMIT_MS, READER_LATE_MS)] : []),
      ...(idle ? [closedFigure(idle, IDLE_LIMIT_MS, READER_LATE_MS)] : []),
      memoryFigure(run, rssBytes, rssReadBytes),
      keptFigure,
      {
        promise: 'every honest heartbeat is answered with 200',
        measured: `${report.due} due, ${JSON.stringify(report.byStatus)}, ${report.failed} failed, ${report.shed} shed`,
        isHeld: servedAll(report),
      },
    ]
  } finally {
    hostile.kill()
    await service.stop()
  }
}

/** An attacker's CPU is elsewhere: here it runs at the lowest priority. */
function startHostile(): ChildProcess {
  const hostile = fork(new URL('./hostile.js', import.meta.url))
  if (hostile.pid !== undefined) setPriority(hostile.pid, constants.priority.PRIORITY_LOW)
  return hostile
}

async function endOf(hostile: ChildProcess): Promise<never> {
  const [code, signal] = await once(hostile, 'exit')
  throw new Error(`the hostile process ended with ${signal ?? `exit code ${code}`}`)
}

async function publish(origin: string): Promise<void> {
  const response = await createSend(origin)({
    method: 'PUT',
    path: '/admin/apk/builds/drill?version_code=1',
    headers: jsonHeaders(ADMIN_TOKEN),
    body: makeApk({ sizeBytes: APK_BYTES }),
  })
  if (response.status !== 201) throw new Error(`the APK was answered with ${response.status}`)
}

/** Alternates a quiet window and one from a wave's first socket to its last. */
async function measureWaves(
  { rounds, print }: SocketsRun,
  load: HeartbeatLoad,
  attack: () => Promise<HostileReport>,
) {
  const quietMs: number[] = []
  const hostileMs: number[] = []
  const all: HostileOutcome[] = []
  let peakFiles = 0
  for (let round = 1; round <= rounds; round += 1) {
    const endQuiet = load.window()
    await wait(QUIET_MS)
    quietMs.push(endQuiet())
    const endHostile = load.window()
    const wave = await attack()
    hostileMs.push(endHostile())
    all.push(...wave.outcomes)
    peakFiles = Math.max(peakFiles, wave.peakFiles)
    print(
      `round ${round} of ${rounds}: heartbeat p99 ${quietMs.at(-1)?.toFixed(2)} ms quiet, ${hostileMs.at(-1)?.toFixed(2)} ms beside them`,
    )
    await wait(SETTLE_MS)
  }
  return { quietMs, hostileMs, outcomes: merged(all), peakFiles }
}

function merged(all: readonly HostileOutcome[]): readonly HostileOutcome[] {
  return [...new Set(all.map(({ name }) => name))].map((name) => {
    const own = all.filter((outcome) => outcome.name === name)
    const byStatus: Record<string, number> = {}
    for (const [status, count] of own.flatMap((outcome) => Object.entries(outcome.byStatus))) {
      byStatus[status] = (byStatus[status] ?? 0) + count
    }
    const openedMs = Math.max(...own.map((outcome) => outcome.openedMs))
    return {
      name,
      openedMs,
      byStatus,
      heldMs: own.flatMap(({ heldMs }) => heldMs).sort((a, b) => a - b),
    }
  })
}

async function rssOf(origin: string): Promise<number> {
  const headers = jsonHeaders(ADMIN_TOKEN)
  const { bytes } = await createSend(origin)({ method: 'GET', path: '/metrics', headers })
  return Number(/^process_resident_memory_bytes (\d+)$/m.exec(bytes.toString())?.[1])
}

function latencyFigure(
  quietMs: readonly number[],
  hostileMs: readonly number[],
  run: SocketsRun,
): Figure {
  const { base, other, ratio, noise } = compare(quietMs, hostileMs)
  return {
    promise: `honest p99 beside ${run.slow} slow and ${run.half} half-body sockets at most 2 × that without (medians of ${run.rounds} windows each)`,
    measured: `${base.toFixed(2)} ms quiet, ${other.toFixed(2)} ms beside them: ${ratio.toFixed(2)} ×; noise floor ${(noise * 100).toFixed(1)} %`,
    isHeld: ratio <= MOST_RATIO,
  }
}

function closedFigure(
  { name, openedMs, heldMs, byStatus }: HostileOutcome,
  limitMs: number,
  lateMs: number,
): Figure {
  const lastMs = heldMs.at(-1) ?? 0
  return {
    promise: `${name} sockets are closed within ${lateMs} ms of their ${limitMs / 1_000} s`,
    measured: `opened within ${(openedMs / 1_000).toFixed(1)} s; ${heldMs.length} held for ${heldMs[0]?.toFixed(0)} to ${lastMs.toFixed(0)} ms; answers ${JSON.stringify(byStatus)}`,
    isHeld: heldMs.length > 0 && lastMs <= limitMs + lateMs,
  }
}

function abortedFigure(
  { openedMs, byStatus }: HostileOutcome,
  faults: number,
  { aborts }: SocketsRun,
): Figure {
  return {
    promise: `${aborts} answers broken off in their midst are no fault of ours`,
    measured: `opened within ${(openedMs / 1_000).toFixed(1)} s; begun ${JSON.stringify(byStatus)}; ${faults} answered 500`,
    isHeld: byStatus[200] === aborts && faults === 0,
  }
}

/** `clients`: after the waves, while the load goes on, and at the end. */
function filesFigure(
  { slow, half }: SocketsRun,
  {
    base,
    peak,
    clients: [during = 0, left = 0],
    after,
  }: { base: number; peak: number; clients: readonly number[]; after: number },
): Figure {
  return {
    promise: `all ${slow + half} are open at once; then only the load's sockets are left, at last none, and descriptors as before + at most ${MOST_MORE_FILES}`,
    measured: `descriptors ${base} before, ${peak} at most, ${after} after; sockets ${during} beside the load, ${left} after it`,
    isHeld:
      peak >= base + slow + half &&
      during <= LOAD_CONNECTIONS &&
      left === 0 &&
      after <= base + MOST_MORE_FILES,
  }
}

function memoryFigure({ readers }: SocketsRun, before: number, during: number): Figure {
  const perReader = (during - before) / readers
  return {
    promise: 'a slow reader costs at most 1 MiB of memory',
    measured: `resident ${(before / MIB).toFixed(1)} MiB, with ${readers} of them ${(during / MIB).toFixed(1)} MiB: ${(perReader / MIB).toFixed(2)} MiB each`,
    isHeld: perReader <= MIB,
  }
}
