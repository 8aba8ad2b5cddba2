/** Two replicas on one PostgreSQL, each under its share of a load, with probes. */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { type Postgres, startPostgres, withClient } from '../../testkit/postgres.ts'
import { seededToken, seedFleet } from '../../testkit/seeded-fleet.ts'
import { type Replica, startReplica } from '../../testkit/service.ts'
import { ADMIN_TOKEN, HMAC_SECRET, serviceSettings } from '../../testkit/service-settings.ts'
import { until } from '../../testkit/until.ts'
import type { DrillEnvironment, Figure } from '../drill.ts'
import { nothingMissing } from '../shared/acknowledged.ts'
import { type Acknowledged, type MixedLoad, startMixedLoad } from '../shared/mixed-load.ts'
import { type ProbeWatch, startProbes } from '../shared/probe-watch.ts'
import { type Phase, ResponseWatch, sumOf } from '../shared/response-watch.ts'

export const REPLICAS = 2
export const POOL_MAX = 10

export interface Seat {
  readonly service: Replica
  readonly answers: ResponseWatch
  readonly probes: ProbeWatch
  readonly load: MixedLoad
}

export interface ReplicasRig {
  readonly postgres: Postgres
  readonly seats: readonly Seat[]
  /** All replicas' responses since the last call. */
  endPhase(): Phase
  /** Resolves at the next 2xx of any replica; by performance.now(). */
  success(): Promise<number>
  /** Writes acknowledged so far. */
  acknowledged(): number
}

const PHONES = 100

/**
 * Returns the figures of `work` under `ratePerS` requests a second in total, and those of every fault. `prepare` runs
 * before the replicas start.
 */
export async function onReplicasRig(
  { dir }: DrillEnvironment,
  ratePerS: number,
  work: (rig: ReplicasRig) => Promise<readonly Figure[]>,
  prepare: (postgres: Postgres) => Promise<void> = async () => {},
): Promise<readonly Figure[]> {
  const dataDir = join(dir, 'postgres')
  mkdirSync(dataDir)
  const postgres = await startPostgres(dataDir)
  const lives: Replica[] = []
  const seats: Seat[] = []
  try {
    await prepare(postgres)
    for (let n = 0; n < REPLICAS; n += 1) {
      const settings = {
        ...serviceSettings(postgres.url, join(dir, `data-${n}`)),
        DATABASE_POOL_MAX: String(POOL_MAX),
        HEARTBEAT_DEDUP_WINDOW_S: '0',
        RATE_LIMIT_TOKENS_PER_HOUR: '1000000',
      }
      const service = startReplica({ settings })
      lives.push(service)
      await service.ready // the first one migrates
    }
    await withClient(postgres.url, (db) => seedFleet(db, HMAC_SECRET, PHONES * REPLICAS))
    for (const [n, service] of lives.entries()) {
      seats.push(await seat(service, n, ratePerS / REPLICAS))
    }
    const figures = await work(rigOf(postgres, seats))
    return [...figures, ...(await end(postgres, seats))]
  } finally {
    for (const life of lives) life.signal('SIGKILL')
    await Promise.all(lives.map(({ ended }) => ended))
    await Promise.all(seats.flatMap(({ load, probes }) => [load.stop(), probes.stop()]))
    postgres.thaw()
    await postgres.stop()
  }
}

/** The n-th replica, with its own phones. */
async function seat(service: Replica, n: number, ratePerS: number): Promise<Seat> {
  const origin = await service.origin
  const responses = new ResponseWatch()
  const load = startMixedLoad({
    origin,
    adminToken: ADMIN_TOKEN,
    tokens: Array.from({ length: PHONES }, (_, k) => seededToken(HMAC_SECRET, n * PHONES + k + 1)),
    devicesBefore: n * PHONES,
    series: `${n}-`,
    ratePerS,
    onAnswer: responses.take,
  })
  return { service, answers: responses, probes: startProbes(origin), load }
}

function rigOf(postgres: Postgres, seats: readonly Seat[]): ReplicasRig {
  return {
    postgres,
    seats,
    endPhase: () => sumOf(seats.map(({ answers: responses }) => responses.end())),
    success: () =>
      Promise.race(seats.map(({ answers: responses }) => responses.success())).then(() =>
        performance.now(),
      ),
    acknowledged: () =>
      seats.reduce(
        (sum, { load: { acknowledged } }) =>
          sum +
          Object.values(acknowledged).reduce((all, ids: ReadonlySet<string>) => all + ids.size, 0),
        0,
      ),
  }
}

async function end(postgres: Postgres, seats: readonly Seat[]): Promise<readonly Figure[]> {
  const reports = await Promise.all(seats.map(({ load }) => load.stop()))
  await Promise.all(seats.map(({ probes }) => probes.stop()))
  for (const { answers: responses } of seats) responses.end()
  const all = sumOf(seats.map(({ answers: responses }) => responses.sum))
  const odd = Object.keys(all.byCode).filter(
    (code) => !/^(200|201|202|503 (db_unavailable|overloaded))$/.test(code),
  )
  const lost = reports.reduce((sum, { failed, shed }) => sum + failed + shed, 0)
  const missing = await withClient(postgres.url, (db) =>
    nothingMissing(db, together(seats.map(({ load }) => load.acknowledged))),
  )
  const ends = await Promise.all(seats.map(({ service }) => service.stop()))
  const faults = seats.flatMap(({ service }) => service.faultLines)
  const probesFailed = seats.reduce((sum, { probes }) => sum + probes.health.failed, 0)
  return [
    missing,
    {
      promise:
        'every answer is a success or 503 with Retry-After; zero 401, none without an answer',
      measured: `${odd.join(', ') || 'no other answer'}; ${all.mute} without Retry-After, ${lost} without an answer`,
      isHeld: odd.length === 0 && all.mute === 0 && lost === 0,
    },
    {
      promise: 'no replica ends or faults; /healthz is 200 all the time',
      measured: `exit codes ${ends.map(({ code, signal }) => signal ?? code).join()} on SIGTERM, ${faults.length} faults, ${probesFailed} probes failed`,
      isHeld: ends.every(({ code }) => code === 0) && faults.length === 0 && probesFailed === 0,
    },
  ]
}

function together(parts: readonly Acknowledged[]): Acknowledged {
  const sum = (kind: keyof Acknowledged) =>
    new Set(parts.flatMap((part) => [...(part[kind] ?? [])]))
  return { heartbeats: sum('heartbeats'), commands: sum('commands'), results: sum('results') }
}

/** One line at the beginning and one at the end, for each replica. */
export async function episodes(seats: readonly Seat[]): Promise<Figure> {
  const isTold = () => seats.every(({ service }) => service.databaseLines.length >= 2)
  await until(isTold).catch(() => {}) // the figure shows what was logged
  const told = seats.map(({ service }) => service.databaseLines.map((line) => JSON.parse(line)))
  return {
    promise: 'db.unavailable and db.recovered once per replica',
    measured: told
      .map((lines) =>
        lines
          .map(({ ts, error, down_ms }) => `${ts.slice(14)} ${error ?? `back after ${down_ms} ms`}`)
          .join('; '),
      )
      .join(' | '),
    isHeld: told.every(
      (lines) => lines.map(({ event }) => event).join() === 'db.unavailable,db.recovered',
    ),
  }
}
