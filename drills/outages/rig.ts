/** One service under load, a PostgreSQL that a drill can break, and probes. */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { type Postgres, startPostgres, withClient } from '../../testkit/postgres.ts'
import { seededToken, seedFleet } from '../../testkit/seeded-fleet.ts'
import { type Replica, startReplica } from '../../testkit/service.ts'
import { ADMIN_TOKEN, HMAC_SECRET, serviceSettings } from '../../testkit/service-settings.ts'
import type { DrillEnvironment, Figure } from '../drill.ts'
import { nothingMissing } from '../shared/acknowledged.ts'
import { startMixedLoad } from '../shared/mixed-load.ts'
import { type ProbeWatch, startProbes } from '../shared/probe-watch.ts'
import { codesText, type Phase, ResponseWatch } from '../shared/response-watch.ts'
import { MAX_CONNECTIONS, mountSmallDisk, unmount } from './troubles.ts'

export interface OutageRig {
  readonly postgres: Postgres
  readonly service: Replica
  readonly origin: string
  readonly adminToken: string
  /** Phones that the load does not use. */
  readonly spareTokens: readonly string[]
  readonly answers: ResponseWatch
  readonly probes: ProbeWatch
  /** A small file system for the database alone; undefined without the right to mount one. */
  readonly disk: string | undefined
  /** Ends load and service; returns the figures of every outage. */
  end(): Promise<readonly Figure[]>
  destroy(): Promise<void>
}

const DISK_MIB = 256
const PHONES = 200
const SPARE_PHONES = 20
/** Any other response is our fault, or tells a phone that its credential is bad. */
const EXPECTED = /^(200|201|202|503 (db_unavailable|overloaded))$/

/** Returns the figures of `work` under load, and those of every outage. */
export async function onOutageRig(
  place: DrillEnvironment,
  ratePerS: number,
  work: (rig: OutageRig) => Promise<readonly Figure[]>,
): Promise<readonly Figure[]> {
  const rig = await startOutageRig(place, ratePerS)
  try {
    const figures = await work(rig)
    return [...figures, ...(await rig.end())]
  } finally {
    await rig.destroy()
  }
}

async function startOutageRig(
  { dir, dataDir: serviceDir }: DrillEnvironment,
  ratePerS: number,
): Promise<OutageRig> {
  const dataDir = join(dir, 'postgres')
  mkdirSync(dataDir)
  const isDiskSmall = mountSmallDisk(dataDir, DISK_MIB)
  const postgres = await startPostgres(dataDir)
  await withClient(postgres.url, (db) =>
    db.query(`alter system set max_connections = ${MAX_CONNECTIONS}`),
  )
  await postgres.stop() // takes effect after a restart
  await postgres.start()
  const service = startReplica({
    settings: {
      ...serviceSettings(postgres.url, serviceDir),
      HEARTBEAT_DEDUP_WINDOW_S: '0',
      RATE_LIMIT_TOKENS_PER_HOUR: '1000000',
    },
  })
  const origin = await service.ready
  await withClient(postgres.url, (db) => seedFleet(db, HMAC_SECRET, PHONES + SPARE_PHONES))
  const tokens = Array.from({ length: PHONES + SPARE_PHONES }, (_, n) =>
    seededToken(HMAC_SECRET, n + 1),
  )
  const responses = new ResponseWatch()
  const probes = startProbes(origin)
  const load = startMixedLoad({
    origin,
    adminToken: ADMIN_TOKEN,
    tokens: tokens.slice(0, PHONES),
    ratePerS,
    onAnswer: responses.take,
  })

  return {
    postgres,
    service,
    origin,
    adminToken: ADMIN_TOKEN,
    spareTokens: tokens.slice(PHONES),
    answers: responses,
    probes,
    disk: isDiskSmall ? dataDir : undefined,
    async end() {
      const report = await load.stop()
      await probes.stop()
      responses.end()
      const { byCode, mute } = responses.sum
      const odd = Object.entries(byCode).filter(([code]) => !EXPECTED.test(code))
      const missing = await withClient(postgres.url, (db) => nothingMissing(db, load.acknowledged))
      const { code, signal } = await service.stop()
      return [
        missing,
        {
          promise:
            'every answer is a success or 503 with Retry-After; zero 401, none without an answer',
          measured: `${report.sent} sent, ${odd.map(([what, count]) => `${what} × ${count}`).join(', ') || 'no other answer'}; ${mute} without Retry-After, ${report.failed} without an answer, ${report.shed} never sent`,
          isHeld: odd.length === 0 && report.failed === 0 && report.shed === 0 && mute === 0,
        },
        inTimeFigure(responses.sum, 'all the time, before and after as well'),
        {
          promise: 'the service neither ends nor faults; /healthz is 200 all the time',
          measured: `exit code ${signal ?? code} on SIGTERM, ${service.faultLines.length} faults; ${probes.health.failed} of ${probes.health.asked} probes failed`,
          isHeld: code === 0 && service.faultLines.length === 0 && probes.health.failed === 0,
        },
      ]
    },
    async destroy() {
      service.signal('SIGKILL')
      await service.ended
      await load.stop()
      await probes.stop()
      postgres.thaw()
      await postgres.stop()
      if (isDiskSmall) unmount(dataDir)
    },
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
