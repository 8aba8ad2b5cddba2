/**
 * `npm run drill -- R1`: the service is killed again and again under load, at random moments and at each named
 * failpoint; each next process takes over its database and port. Half of the phones receive commands by push and
 * heartbeat, half by push alone.
 */

import { setTimeout as wait } from 'node:timers/promises'
import { issueEnrollmentTokens } from '../../sim/enroll.ts'
import { type FakeFcm, pushSettings, startFakeFcm } from '../../sim/fcm/fake-fcm.ts'
import { createFleet, type Fleet } from '../../sim/fleet.ts'
import type { Failpoint } from '../../src/domain/failpoint.ts'
import { withClient } from '../../testkit/database/postgres.ts'
import { createSend, type Send } from '../../testkit/http/client.ts'
import { seededRandom } from '../../testkit/random.ts'
import type { Ended, Replica } from '../../testkit/service.ts'
import { ADMIN_TOKEN, serviceSettings } from '../../testkit/service-settings.ts'
import { median } from '../../testkit/statistics.ts'
import { checkCommands } from '../commands/check.ts'
import { createCommandsJournal, type JournalWriter } from '../commands/journal.ts'
import { countOpen, lapseLeases, readStored } from '../commands/stored.ts'
import { type DatabaseEnvironment, defineDrill, type Figure } from '../drill.ts'
import { type Lives, startLives } from './lives.ts'
import { startKillsLoad } from './load.ts'

export interface ServiceKillsRun extends DatabaseEnvironment {
  readonly randomKills: number
  /** Per failpoint. */
  readonly failpointKills: number
  readonly heartbeatsPerS: number
  readonly commandsPerS: number
  /** The leases of killed processes expire after these seconds; null: after 60. */
  readonly leaseCutS: number | null
  /** 0 inclusive to 1 exclusive; decides the order of kills and when they happen. */
  readonly random: () => number
}

/** Maximum of hits before the process is killed there; a share of EARLY is killed at the first. */
const MOST_HITS: Readonly<Record<Failpoint, number>> = {
  before_commit: 8,
  after_commit_before_reply: 100,
  mid_group: 60,
  after_claim: 6,
  after_fcm_before_record: 6,
  mid_shutdown: 1,
}
const EARLY = 0.3
const FAILPOINTS = Object.keys(MOST_HITS) as Failpoint[] // its own keys
const PHONES = 8
const MAX_IN_FLIGHT = 8
const FCM_TIMEOUT_MS = 500
const RETRY_BASE_MS = 50
/** Half of the lease, which begins when a command is claimed, not when its message arrives. */
const UNRECORDED_MS = 30_000
const LIFE_MS = 1_500
const REACHED_MS = 90_000
const MOST_READY_MS = 2_000
/** Longer than a phone's longest wait before it retries. */
const LONG_MS = 600_000
const SETTLE_MS = 300_000
const POLL_MS = 100

export const serviceKillsDrill = defineDrill({
  name: 'R1',
  promise:
    'kill -9 of the service under load, at random and at each failpoint: 0 acknowledged heartbeats, commands or results missing, ready again within 2 s',
  options: {
    kills: { standard: 50, what: 'at random moments' },
    failpoints: { standard: 50, what: 'at each of the six named failpoints' },
    rate: { standard: 200, what: 'heartbeats a second' },
    commands: { standard: 10, what: 'commands a second' },
    seed: { standard: 1, what: 'of the order of deaths; what the machine does between is chance' },
  },
  needs: 'postgres',
  run: ({ kills, failpoints, rate, commands, seed }, environment) =>
    runServiceKills({
      ...environment,
      randomKills: kills,
      failpointKills: failpoints,
      heartbeatsPerS: rate,
      commandsPerS: commands,
      leaseCutS: null,
      random: seededRandom(seed),
    }),
})

export async function runServiceKills(run: ServiceKillsRun): Promise<readonly Figure[]> {
  const fcm = await startFakeFcm()
  const lives = startLives({
    ...serviceSettings(run.databaseUrl, run.dataDir),
    ...pushSettings(fcm),
    FCM_TIMEOUT_MS: String(FCM_TIMEOUT_MS),
    FCM_RETRY_BASE_MS: String(RETRY_BASE_MS),
    FCM_MAX_IN_FLIGHT: String(MAX_IN_FLIGHT),
    HEARTBEAT_DEDUP_WINDOW_S: '0',
  })
  try {
    const first = await lives.next({})
    const origin = await first.origin
    const send = createSend(origin)
    const journal = createCommandsJournal()
    let phoneSkewMs = 0
    const fleet = await enrollPhones(send, journal, fcm, () => Date.now() + phoneSkewMs)
    const load = await startKillsLoad({ ...run, origin, adminToken: ADMIN_TOKEN, journal, fleet })
    const strange = await dieAgainAndAgain(run, lives, first, fcm)
    const last = await lives.next({})
    const { sent, byStatus, failed, shed } = await load.stop()
    run.print(
      `heartbeats at the rate: ${sent} sent, ${JSON.stringify(byStatus)}, ${failed} without an answer, ${shed} never sent`,
    )
    await settle(run, fleet, () => {
      phoneSkewMs += LONG_MS // phones that were refused retry, too
    })
    const ended = await last.stop()
    const stored = await withClient(run.databaseUrl, readStored)
    return [
      ...checkCommands({
        journal,
        pushes: fcm.journal,
        stored,
        rules: {
          retryBaseMs: RETRY_BASE_MS,
          retryAfterMs: {},
          unrecordedMs: run.leaseCutS === null ? UNRECORDED_MS : 0,
        },
        mostLostAttempts: (lives.count - 1) * MAX_IN_FLIGHT,
      }),
      toldFigure(byStatus),
      deathsFigure(run, strange, lives, ended),
      readyFigure(lives.readyMs),
    ]
  } finally {
    await lives.destroy()
    await fcm.close()
  }
}

async function enrollPhones(
  send: Send,
  journal: JournalWriter,
  fcm: FakeFcm,
  nowMs: () => number,
): Promise<Fleet> {
  const aliases = Array.from({ length: PHONES }, (_, index) => `R1-${index + 1}`)
  const fleet = createFleet({
    ...journal.watch(send),
    aliases,
    nowMs,
    random: Math.random,
    push: fcm,
  })
  await fleet.enroll(await issueEnrollmentTokens(send, ADMIN_TOKEN, aliases))
  return fleet
}

type Death = Failpoint | 'random'

/** Returns what went wrong. `life` is killed first. */
async function dieAgainAndAgain(
  run: ServiceKillsRun,
  lives: Lives,
  life: Replica,
  fcm: FakeFcm,
): Promise<readonly string[]> {
  const strange: string[] = []
  life.signal('SIGKILL')
  await life.ended
  const deaths = shuffled(
    [
      ...Array.from({ length: run.randomKills }, () => 'random' as const),
      ...FAILPOINTS.flatMap((name) => Array.from({ length: run.failpointKills }, () => name)),
    ],
    run.random,
  )
  for (const [index, death] of deaths.entries()) {
    const what = await dieOnce(run, lives, death, fcm)
    if (what !== undefined) strange.push(`${death}: ${what}`)
    if ((index + 1) % 25 === 0) run.print(`${index + 1} of ${deaths.length} deaths`)
  }
  return strange
}

/** Returns what went wrong. */
async function dieOnce(
  { random }: ServiceKillsRun,
  lives: Lives,
  death: Death,
  fcm: FakeFcm,
): Promise<string | undefined> {
  const isEarly = death === 'random' || random() < EARLY
  const hit = isEarly ? 1 : 1 + Math.floor(random() * MOST_HITS[death])
  // Shutdowns with and without sends under way.
  fcm.setMode({ fcm: death === 'mid_shutdown' && random() < 0.5 ? 'hang' : 'ok' })
  const life = await lives.next(
    death === 'random' ? {} : { FAILPOINT: death, FAILPOINT_HIT: String(hit) },
  )
  if (death === 'random' || death === 'mid_shutdown') {
    await wait(LIFE_MS * random())
    life.signal(death === 'random' ? 'SIGKILL' : 'SIGTERM')
  }
  const over = new AbortController()
  const late = wait(REACHED_MS, undefined, { signal: over.signal }).catch(() => undefined)
  const ended = await Promise.race([life.ended, late])
  over.abort()
  if (ended === undefined) life.signal('SIGKILL')
  await life.ended
  if (ended === undefined) return `alive after ${REACHED_MS / 1_000} s`
  if (ended.signal !== 'SIGKILL') return JSON.stringify(ended)
  const isThere = death === 'random' || life.notes().includes(`killed at ${death}\n`)
  return isThere ? undefined : 'killed elsewhere'
}

/**
 * Waits until every command has ended and no phone has anything to report. Commands still open then are judged as they
 * are.
 */
async function settle(run: ServiceKillsRun, fleet: Fleet, skip: () => void): Promise<void> {
  const endsAtMs = performance.now() + SETTLE_MS
  await withClient(run.databaseUrl, async (db) => {
    while (performance.now() < endsAtMs) {
      if (run.leaseCutS !== null) await lapseLeases(db, run.leaseCutS)
      skip()
      await fleet.beat()
      if ((await countOpen(db)) === 0 && fleet.report().queued === 0) return
      await wait(POLL_MS)
    }
  })
}

function toldFigure(byStatus: Readonly<Record<string, number>>): Figure {
  const odd = Object.keys(byStatus).filter((status) => status !== '200' && status !== '503')
  return {
    promise: 'a heartbeat at the rate is told 200, 503 or nothing; zero 401',
    measured: Object.entries(byStatus)
      .map(([status, count]) => `${count} × ${status}`)
      .join(', '),
    isHeld: odd.length === 0 && (byStatus['200'] ?? 0) > 0,
  }
}

function deathsFigure(
  run: ServiceKillsRun,
  strange: readonly string[],
  lives: Lives,
  last: Ended,
): Figure {
  const faults = [...strange, ...lives.faults()]
  return {
    promise:
      'it dies where it is killed and nowhere else, no answer 500; SIGTERM at the end exits 0',
    measured: `${run.randomKills} deaths at random, ${run.failpointKills} at each of ${FAILPOINTS.length} failpoints; ${faults.length} faults ${faults[0] ?? ''}; exit code ${last.code}`,
    isHeld: faults.length === 0 && last.code === 0,
  }
}

function readyFigure(readyMs: readonly number[]): Figure {
  const late = readyMs.filter((ms) => ms > MOST_READY_MS).length
  return {
    promise: 'ready again within 2 s of its death',
    measured: `${readyMs.length} starts: median ${median(readyMs).toFixed(0)} ms, at most ${Math.max(...readyMs).toFixed(0)} ms, ${late} later than 2 s`,
    isHeld: late === 0,
    isTimed: true,
  }
}

function shuffled<T>(items: readonly T[], random: () => number): readonly T[] {
  const keyed = items.map((item) => ({ item, key: random() }))
  return keyed.sort((a, b) => a.key - b.key).map(({ item }) => item)
}
