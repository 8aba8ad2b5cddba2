/**
 * `npm run drill -- previous-release`: one roll from the previous release, built from git's history, to this one. Of two
 * replicas behind a balancer, one makes way for this release, which migrates; both serve together; the other one
 * restarts on the newer schema, then makes way too.
 */
import { join } from 'node:path'
import { type FakeFcm, startFakeFcm } from '../../sim/fcm/fake-fcm.ts'
import { withClient } from '../../testkit/database/postgres.ts'
import { createSend } from '../../testkit/http/client.ts'
import { freePort } from '../../testkit/listen.ts'
import { type Replica, startReplica } from '../../testkit/service.ts'
import { until } from '../../testkit/until.ts'
import { type DatabaseEnvironment, defineDrill, type Figure } from '../drill.ts'
import {
  answersFigure,
  eachHasBeaten,
  publishApk,
  simulatedFleet,
  simulatedSettings,
  summaryFigure,
} from '../fleet/simulated-fleet.ts'
import { nothingMissing } from '../shared/acknowledged.ts'
import { type Balancer, startBalancer } from '../shared/balancer.ts'
import { buildRelease, type Release } from './checkout.ts'
import { cross, crossIdentity } from './crossing.ts'

export interface PreviousReleaseRun extends DatabaseEnvironment {
  readonly release: Release
  /** Phones that live with both through the balancer. */
  readonly devices: number
  /** Further phones, whose steps both handle in turn. */
  readonly phones: number
  /** Seconds between heartbeats of the phones behind the balancer. */
  readonly intervalS: number
  /** Interval of the balancer's probes. */
  readonly probeMs: number
  /** SHUTDOWN_DRAIN_MS: more than two probe intervals. */
  readonly drainMs: number
}

const LOOPBACK = '127.0.0.1'
const BEATS = 3

type Kind = 'previous' | 'this'

interface Seat {
  readonly origin: string
  life: Replica
}

export const previousReleaseDrill = defineDrill({
  name: 'previous-release',
  promise:
    'a replica of the previous schema version runs on, and restarts, beside one of this release, while phones live with both',
  options: {
    commit: { standard: '', what: "of the previous release; '': the newest with an older schema" },
    devices: { standard: 50, what: 'phones, one heartbeat a second each' },
    phones: { standard: 20, what: 'more that enroll, re-enroll and report across both releases' },
  },
  needs: 'postgres',
  run({ commit, ...options }, environment) {
    const release = buildRelease(join(environment.dir, 'release'), commit)
    environment.print(
      `previous release: ${release.commit.slice(0, 12)}, schema ${release.schema}; this one: schema ${release.ourSchema}`,
    )
    const times = { intervalS: 1, probeMs: 1_000, drainMs: 2_500 }
    return runPreviousRelease({ ...options, ...environment, ...times, release })
  },
})

export async function runPreviousRelease(run: PreviousReleaseRun): Promise<readonly Figure[]> {
  const { release } = run
  const fcm = await startFakeFcm()
  const settings = {
    ...simulatedSettings(run.databaseUrl, run.dataDir, fcm),
    SHUTDOWN_DRAIN_MS: String(run.drainMs),
  }
  const lives: Replica[] = []
  const heartbeats = { previous: 0, this: 0 }
  const start = async (kind: Kind, port: number): Promise<Replica> => {
    const life = startReplica({
      settings,
      port,
      main: kind === 'this' ? 'src/main.js' : release.main,
      onLine: (line) => {
        if (line.includes('"event":"heartbeat.')) heartbeats[kind] += 1
      },
    })
    lives.push(life)
    await life.ready
    return life
  }
  const exits: (number | null)[] = []
  let balancer: Balancer | undefined
  try {
    const first = await seatOf(await start('previous', await freePort())) // it creates the schema
    const second = await seatOf(await start('previous', await freePort()))
    await publishApk(createSend(first.origin))
    const backends = [first.origin, second.origin]
    const through = await startBalancer({
      backends,
      localAddress: LOOPBACK,
      forwards: false,
      probeMs: run.probeMs,
    })
    balancer = through
    await until(() => backends.every(through.isReady))
    const replace = async (seat: Seat, kind: Kind) => {
      exits.push((await seat.life.stop()).code)
      seat.life = await start(kind, Number(new URL(seat.origin).port))
      await until(() => through.isReady(seat.origin))
    }
    let isOver = false
    const fleet = simulatedFleet({
      origin: through.origin,
      fcm,
      runId: 'roll',
      args: simulation(run),
      mayEnd: () => isOver,
    })
    const wrong: string[] = []
    const identities: string[] = []
    const drive = async () => {
      await eachHasBeaten(fleet, BEATS)
      const before = { ...heartbeats }
      await replace(second, 'this')
      await eachHasBeaten(fleet, BEATS)
      wrong.push(...(await crossAll(run, 'mixed', first.origin, second.origin)))
      identities.push(...(await crossIdentities(run, first.origin, second.origin, fcm)))
      await replace(first, 'previous')
      await eachHasBeaten(fleet, BEATS)
      wrong.push(...(await crossAll(run, 'again', first.origin, second.origin)))
      const together = { ...heartbeats }
      await replace(first, 'this')
      await eachHasBeaten(fleet, BEATS)
      isOver = true
      return {
        previous: together.previous - before.previous,
        this: together.this - before.this,
      }
    }
    const [summary, together] = await Promise.all([fleet.run(), drive()])
    const faults = lives.flatMap(({ faultLines }) => faultLines)
    return [
      summaryFigure(summary),
      answersFigure(summary, 'every answer is a success, or 503 while the schema changes', / 503 /),
      await withClient(run.databaseUrl, (db) => nothingMissing(db, fleet.acknowledged)),
      {
        promise: 'both releases serve together, on the schema of this one',
        measured: `${together.previous} heartbeats by the previous one, ${together.this} by this one`,
        isHeld: together.previous > 0 && together.this > 0,
      },
      {
        promise:
          'what one of them wrote the other reads right: tokens, re-enrollments, commands, results',
        measured: `${2 * run.phones} phones, ${wrong.length} wrong ${wrong.slice(0, 3).join('; ')}`,
        isHeld: wrong.length === 0,
      },
      {
        promise: 'no phone loses its push identity, a token or a FID, in either release',
        measured: `${run.phones} phones, ${identities.length} wrong ${identities.slice(0, 3).join('; ')}`,
        isHeld: identities.length === 0,
      },
      await schemaFigure(run),
      {
        promise: 'no answer 500; each SIGTERM exits 0',
        measured: `${faults.length} answers 500 ${faults[0] ?? ''}; exit codes ${exits.join()}`,
        isHeld: faults.length === 0 && exits.every((code) => code === 0),
      },
    ]
  } finally {
    await balancer?.close()
    for (const life of lives) life.signal('SIGKILL')
    await Promise.all(lives.map(({ ended }) => ended))
    await fcm.close()
  }
}

function simulation({ devices, intervalS }: PreviousReleaseRun): readonly string[] {
  return [
    ...['--devices', `${devices}`, '--interval', `${intervalS}`],
    ...['--heartbeats', '1', '--late-by', '2'],
    ...['--commands-per-minute', '300', '--apk-share', '0.2', '--never', '0'],
  ]
}

async function seatOf(life: Replica): Promise<Seat> {
  return { life, origin: await life.origin }
}

/** Half of the phones begin with each of them. */
async function crossAll(
  { phones }: PreviousReleaseRun,
  prefix: string,
  first: string,
  second: string,
): Promise<readonly string[]> {
  const all = Array.from({ length: phones }, (_, n) =>
    n % 2 === 0 ? cross(`${prefix}-${n}`, first, second) : cross(`${prefix}-${n}`, second, first),
  )
  return (await Promise.all(all)).flat()
}

async function crossIdentities(
  { phones }: PreviousReleaseRun,
  previous: string,
  current: string,
  fcm: FakeFcm,
): Promise<readonly string[]> {
  const all = Array.from({ length: phones }, (_, n) =>
    crossIdentity(`identity-${n}`, previous, current, fcm),
  )
  return (await Promise.all(all)).flat()
}

async function schemaFigure({ databaseUrl, release }: PreviousReleaseRun): Promise<Figure> {
  const { rows } = await withClient(databaseUrl, (db) =>
    db.query<{ newest: number }>('select max(number) as newest from schema_migrations'),
  )
  const newest = rows[0]?.newest
  return {
    promise: 'the schema went from that of the previous release to ours',
    measured: `${release.schema} to ${newest}`,
    isHeld: release.schema < release.ourSchema && newest === release.ourSchema,
  }
}
