/** A PostgreSQL that a drill can break, under one replica or more; each has its own phones, a share of the load, and probes. */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { type Postgres, startPostgres, withClient } from '../../testkit/database/postgres.ts'
import { seededToken, seedFleet } from '../../testkit/database/seeded-fleet.ts'
import { type Replica, startReplica } from '../../testkit/service.ts'
import { ADMIN_TOKEN, HMAC_SECRET, serviceSettings } from '../../testkit/service-settings.ts'
import type { DrillEnvironment, Figure } from '../drill.ts'
import { nothingMissing } from '../shared/acknowledged.ts'
import { type Acknowledged, type MixedLoad, startMixedLoad } from '../shared/mixed-load.ts'
import { type ProbeWatch, startProbes } from '../shared/probe-watch.ts'
import { codesText, type Phase, ResponseWatch } from '../shared/response-watch.ts'
import { MAX_CONNECTIONS, mountSmallDisk, unmount } from './troubles.ts'

export interface Seat {
  readonly service: Replica
  readonly origin: string
  readonly probes: ProbeWatch
  readonly load: MixedLoad
}

/** Its own service, origin and probes are those of the first replica. */
export interface OutageRig extends Omit<Seat, 'load'> {
  readonly postgres: Postgres
  readonly seats: readonly Seat[]
  /** Of all replicas. */
  readonly answers: ResponseWatch
  /** Phones that the load does not use. */
  readonly spareTokens: readonly string[]
  /** A small file system for the database alone; undefined without the right to mount one. */
  readonly disk: string | undefined
}

interface Setup {
  readonly replicas: number
  readonly hasSmallDisk: boolean
  /** Runs before the replicas start. */
  readonly prepare: (postgres: Postgres) => Promise<void>
}

const DISK_MIB = 256
/** Of all replicas together. */
const PHONES = 200
const SPARE_PHONES = 20
/** Any other response is our fault, or tells a phone that its credential is bad. */
const EXPECTED = /^(200|201|202|503 (db_unavailable|overloaded))$/

/** The default. */
const ONE_REPLICA: Setup = {
  replicas: 1,
  hasSmallDisk: true,
  async prepare(postgres) {
    await withClient(postgres.url, (db) =>
      db.query(`alter system set max_connections = ${MAX_CONNECTIONS}`),
    )
    await postgres.stop() // takes effect after a restart
    await postgres.start()
  },
}
export const TWO_REPLICAS: Setup = { replicas: 2, hasSmallDisk: false, prepare: async () => {} }

/** Returns the figures of `work` under `ratePerS` requests a second in total, and those of every outage. */
export async function onOutageRig(
  { dir }: DrillEnvironment,
  ratePerS: number,
  work: (rig: OutageRig) => Promise<readonly Figure[]>,
  { replicas, hasSmallDisk, prepare }: Setup = ONE_REPLICA,
): Promise<readonly Figure[]> {
  const dataDir = join(dir, 'postgres')
  mkdirSync(dataDir)
  const isDiskSmall = hasSmallDisk && mountSmallDisk(dataDir, DISK_MIB)
  const postgres = await startPostgres(dataDir)
  const lives: Replica[] = []
  const seats: Seat[] = []
  try {
    await prepare(postgres)
    while (lives.length < replicas) {
      const settings = {
        ...serviceSettings(postgres.url, join(dir, `data-${lives.length}`)),
        HEARTBEAT_DEDUP_WINDOW_S: '0',
        RATE_LIMIT_TOKENS_PER_HOUR: '1000000',
      }
      const service = startReplica({ settings })
      lives.push(service)
      await service.ready // the first one migrates
    }
    await withClient(postgres.url, (db) => seedFleet(db, HMAC_SECRET, PHONES + SPARE_PHONES))
    const answers = new ResponseWatch()
    for (const [n, service] of lives.entries()) {
      const options = { n, phones: PHONES / replicas, ratePerS: ratePerS / replicas, answers }
      seats.push(await seat(service, options))
    }
    const [first] = seats
    if (first === undefined) throw new Error('no replica')
    const disk = isDiskSmall ? dataDir : undefined
    const spareTokens = tokens(PHONES, SPARE_PHONES)
    const figures = await work({ ...first, postgres, seats, answers, spareTokens, disk })
    return [...figures, ...(await end(postgres, seats, answers))]
  } finally {
    for (const life of lives) life.signal('SIGKILL')
    await Promise.all(lives.map(({ ended }) => ended))
    await Promise.all(seats.flatMap(({ load, probes }) => [load.stop(), probes.stop()]))
    postgres.thaw()
    await postgres.stop()
    if (isDiskSmall) unmount(dataDir)
  }
}

/** Of the seeded devices after the first `before`. */
function tokens(before: number, count: number): readonly string[] {
  return Array.from({ length: count }, (_, n) => seededToken(HMAC_SECRET, before + n + 1))
}

interface SeatOptions {
  readonly n: number
  readonly phones: number
  readonly ratePerS: number
  readonly answers: ResponseWatch
}

/** The n-th replica, with its own phones. */
async function seat(
  service: Replica,
  { n, phones, ratePerS, answers }: SeatOptions,
): Promise<Seat> {
  const origin = await service.origin
  const load = startMixedLoad({
    origin,
    adminToken: ADMIN_TOKEN,
    tokens: tokens(n * phones, phones),
    devicesBefore: n * phones,
    series: `${n}-`,
    ratePerS,
    onAnswer: answers.take,
  })
  return { service, origin, probes: startProbes(origin), load }
}

/** Ends load and services. */
async function end(
  postgres: Postgres,
  seats: readonly Seat[],
  answers: ResponseWatch,
): Promise<readonly Figure[]> {
  const reports = await Promise.all(seats.map(({ load }) => load.stop()))
  await Promise.all(seats.map(({ probes }) => probes.stop()))
  answers.end()
  const { byCode, mute } = answers.sum
  const odd = Object.entries(byCode).filter(([code]) => !EXPECTED.test(code))
  const sum = (counts: readonly number[]) => counts.reduce((all, count) => all + count, 0)
  const failed = sum(reports.map((report) => report.failed))
  const shed = sum(reports.map((report) => report.shed))
  const missing = await withClient(postgres.url, (db) =>
    nothingMissing(db, together(seats.map(({ load }) => load.acknowledged))),
  )
  const ends = await Promise.all(seats.map(({ service }) => service.stop()))
  const faults = seats.flatMap(({ service }) => service.faultLines).length
  const probesAsked = sum(seats.map(({ probes }) => probes.health.asked))
  const probesFailed = sum(seats.map(({ probes }) => probes.health.failed))
  return [
    missing,
    {
      promise:
        'every answer is a success or 503 with Retry-After; zero 401, none without an answer',
      measured: `${sum(reports.map(({ sent }) => sent))} sent, ${odd.map(([what, count]) => `${what} × ${count}`).join(', ') || 'no other answer'}; ${mute} without Retry-After, ${failed} without an answer, ${shed} never sent`,
      isHeld: odd.length === 0 && failed === 0 && shed === 0 && mute === 0,
    },
    inTimeFigure(answers.sum, 'all the time, before and after as well'),
    {
      promise: 'no replica ends or faults; /healthz is 200 all the time',
      measured: `exit codes ${ends.map(({ code, signal }) => signal ?? code).join()} on SIGTERM, ${faults} faults; ${probesFailed} of ${probesAsked} probes failed`,
      isHeld: ends.every(({ code }) => code === 0) && faults === 0 && probesFailed === 0,
    },
  ]
}

/** Every write that the replicas have acknowledged so far. */
export function together(parts: readonly Acknowledged[]): Acknowledged {
  const all = (kind: keyof Acknowledged) =>
    new Set(parts.flatMap((part) => [...(part[kind] ?? [])]))
  const enrollmentTokens = all('enrollmentTokens')
  return {
    heartbeats: all('heartbeats'),
    commands: all('commands'),
    results: all('results'),
    // One of 100 requests makes one: a slow load may have none.
    ...(enrollmentTokens.size > 0 && { enrollmentTokens }),
  }
}

/** No response of the phase later than 2 s. */
export function inTimeFigure(phase: Phase, when: string): Figure {
  return {
    promise: `${when}: every answer within 2 s`,
    measured: `${codesText(phase)}; slowest ${(phase.slowestMs / 1_000).toFixed(2)} s, ${phase.late} later`,
    isHeld: phase.late === 0,
    isTimed: true,
  }
}
