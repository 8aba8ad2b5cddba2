/**
 * `npm run drill -- R5`: commands through a hostile FCM while either of two replicas is killed again and again. Half of
 * the phones receive commands by push and heartbeat, half by push alone, a few not at all: their commands expire.
 */

import { setTimeout as wait } from 'node:timers/promises'
import type pg from 'pg'
import type { Habits } from '../../sim/device/habits.ts'
import { issueEnrollmentTokens } from '../../sim/enroll.ts'
import { createFleet, type Fleet } from '../../sim/fleet.ts'
import { seededRandom } from '../../testkit/random.ts'
import { ADMIN_TOKEN } from '../../testkit/service-settings.ts'
import { type DatabaseEnvironment, defineDrill, type Figure } from '../drill.ts'
import type { ReplicaPair } from '../shared/replica-pair.ts'
import { type CommandsAdmin, createCommandsAdmin } from './admin.ts'
import { checkCommands } from './check.ts'
import { answersOf } from './hostile-fcm.ts'
import { createCommandsJournal, type JournalWriter } from './journal.ts'
import { FCM_TIMEOUT_MS, hostileRules, MAX_IN_FLIGHT, onHostileFcm, sendUnderKills } from './rig.ts'
import { countOpen, lapseLeases, readStored } from './stored.ts'

export interface CommandsRun extends DatabaseEnvironment {
  readonly commands: number
  readonly kills: number
  readonly devices: number
  /** Phones without push token and heartbeat; their commands live for 30 s. */
  readonly darkDevices: number
  readonly ratePerS: number
  readonly heartbeatIntervalS: number
  /** The leases of killed replicas expire after these seconds; null: after 60. */
  readonly leaseCutS: number | null
  /** 0 inclusive to 1 exclusive; decides which replica is killed when, and what FCM answers. */
  readonly random: () => number
}

const CANCELLED_SHARE = 0.05
const TTL_S = 86_400
const SHORTEST_TTL_S = 30
const NEVER_S = 10_000_000
const DARK_SHARE = 0.02
const POLL_MS = 100
const PROGRESS_POLLS = 50
const SETTLE_MS = 300_000

export const commandsDrill = defineDrill({
  name: 'R5',
  promise:
    'commands through a hostile FCM while either of two replicas is killed: none lost, none run twice, none sent too soon',
  options: {
    commands: { standard: 10_000, what: 'created while replicas are killed' },
    kills: { standard: 20, what: 'SIGKILLs, to either of two replicas' },
    devices: { standard: 200, what: 'phones; one in 50 is never reached' },
    rate: { standard: 100, what: 'commands a second' },
    seed: {
      standard: 1,
      what: "of the kills and of FCM's answers; what the machine does between them is chance",
    },
  },
  needs: 'postgres',
  run: ({ rate, seed, ...options }, environment) =>
    runCommands({
      ...options,
      ...environment,
      darkDevices: Math.floor(options.devices * DARK_SHARE),
      ratePerS: rate,
      heartbeatIntervalS: 5,
      leaseCutS: null,
      random: seededRandom(seed),
    }),
})

export async function runCommands(run: CommandsRun): Promise<readonly Figure[]> {
  const { print } = run
  return onHostileFcm(run, async ({ fcm, pair, db, living }) => {
    const journal = createCommandsJournal()
    const admin = createCommandsAdmin(pair.send, ADMIN_TOKEN, journal)
    const aliases = Array.from({ length: run.devices }, (_, index) => `R5-${index + 1}`)
    const fleet = createFleet({
      ...journal.watch(pair.send),
      aliases,
      habitsOf: (index) => habitsOf(run, index),
      nowMs: Date.now,
      random: Math.random,
      push: fcm,
    })
    await fleet.enroll(await issueEnrollmentTokens(pair.send, ADMIN_TOKEN, aliases))
    const lives = fleet.live(living.signal)
    await sendCommands(run, { pair, admin, journal, aliases })
    print(`all ${run.commands} commands are acknowledged; ${run.kills} kills`)
    await settle(run, { db, fleet })
    living.abort()
    await lives
    await pair.stop()
    const stored = await readStored(db)
    const unmailed = [...stored.commands.values()].filter(
      ({ state, deliveries }) => state === 'completed' && deliveries === 0,
    )
    print(`FCM answered ${answersOf(fcm.journal)}`)
    print(`${unmailed.length} commands completed by push alone`)
    print(`${admin.counts.again} calls made again, ${admin.counts.duplicates} answers were lost`)
    return checkCommands({
      journal,
      pushes: fcm.journal,
      stored,
      rules: hostileRules(run.leaseCutS),
      mostLostAttempts: run.kills * MAX_IN_FLIGHT,
    })
  })
}

function habitsOf(run: CommandsRun, index: number): Partial<Habits> {
  if (index < run.darkDevices) return { pushToken: null, heartbeatIntervalS: NEVER_S }
  return { heartbeatIntervalS: index % 2 === 0 ? run.heartbeatIntervalS : NEVER_S }
}

/** Sends at a fixed rate, whatever the responses; the kills are spread evenly. */
async function sendCommands(
  run: CommandsRun,
  to: {
    readonly pair: ReplicaPair
    readonly admin: CommandsAdmin
    readonly journal: JournalWriter
    readonly aliases: readonly string[]
  },
): Promise<void> {
  const { random } = run

  async function sendOne(index: number): Promise<void> {
    const device = Math.floor(random() * run.devices)
    const isCancelled = random() < CANCELLED_SHARE
    const requestId = `r5-${index + 1}`
    await to.admin.create({
      requestId,
      alias: to.aliases[device] ?? '',
      ttlS: device < run.darkDevices ? SHORTEST_TTL_S : TTL_S,
      waitMs: index % 10 === 0 ? FCM_TIMEOUT_MS : 0,
    })
    if (isCancelled) await to.admin.cancel(requestId)
  }

  await sendUnderKills(run, to.pair, sendOne)
}

/**
 * Waits until every command has ended and no phone has anything to report. Commands still open then are judged as they
 * are.
 */
async function settle(
  run: CommandsRun,
  { db, fleet }: { readonly db: pg.Client; readonly fleet: Fleet },
): Promise<void> {
  const endsAtMs = performance.now() + SETTLE_MS
  for (let polls = 0; performance.now() < endsAtMs; polls += 1) {
    if (run.leaseCutS !== null) await lapseLeases(db, run.leaseCutS)
    const open = await countOpen(db)
    const { queued } = fleet.report()
    if (open === 0 && queued === 0) return
    if (polls % PROGRESS_POLLS === 0) run.print(`${open} open, ${queued} queued on the phones`)
    await wait(POLL_MS)
  }
}
