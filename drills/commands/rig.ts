/** What drills of commands run on: a stand-in for FCM, two replicas that can be killed, and phones that live until the end. */
import { setTimeout as wait } from 'node:timers/promises'
import pg from 'pg'
import { type FakeFcm, pushSettings, startFakeFcm } from '../../sim/fcm/fake-fcm.ts'
import { serviceSettings } from '../../testkit/service-settings.ts'
import type { DatabaseEnvironment, Figure } from '../drill.ts'
import { type ReplicaPair, startReplicaPair } from '../shared/replica-pair.ts'
import { makeHostile, RETRY_AFTER_MS } from './hostile-fcm.ts'
import type { SpacingRules } from './spacing.ts'

export interface CommandsRig {
  readonly fcm: FakeFcm
  readonly pair: ReplicaPair
  readonly db: pg.Client
  /** Aborted at the end: the phones' lives. */
  readonly living: AbortController
}

interface RigRun extends DatabaseEnvironment {
  /** 0 inclusive to 1 exclusive. */
  readonly random: () => number
}

const KILL_SPREAD_MS = 50
export const FCM_TIMEOUT_MS = 500
const RETRY_BASE_MS = 100
export const MAX_IN_FLIGHT = 64
/** Half of the lease, which begins when a command is claimed, not when its message arrives. */
const UNRECORDED_MS = 30_000

/** Adds to the figures of `work` whether the replicas ended only by our hand, and in order. `prepare` comes before they start. */
export async function onReplicas(
  run: RigRun,
  settings: Readonly<Record<string, string>>,
  prepare: (fcm: FakeFcm) => void,
  work: (rig: CommandsRig) => Promise<readonly Figure[]>,
): Promise<readonly Figure[]> {
  const fcm = await startFakeFcm()
  prepare(fcm)
  const pair = await startReplicaPair(
    {
      ...serviceSettings(run.databaseUrl, run.dataDir),
      ...pushSettings(fcm),
      HEARTBEAT_DEDUP_WINDOW_S: '0',
      ...settings,
    },
    run.random,
  )
  const db = new pg.Client({ connectionString: run.databaseUrl })
  await db.connect()
  const living = new AbortController()
  try {
    const figures = await work({ fcm, pair, db, living })
    const codes = await pair.stop()
    const faults = pair.faults()
    return [
      ...figures,
      {
        promise: 'no replica ends but by our hand, no answer 500; SIGTERM at the end exits 0',
        measured: `${faults.length} faults; exit codes ${codes.join(', ')}${faults.length > 0 ? `: ${faults[0]}` : ''}`,
        isHeld: faults.length === 0 && codes.every((code) => code === 0),
      },
    ]
  } finally {
    living.abort()
    await pair.stop()
    await db.end()
    await fcm.close()
  }
}

/** onReplicas with an FCM that fails in every way. */
export function onHostileFcm(
  run: RigRun,
  work: (rig: CommandsRig) => Promise<readonly Figure[]>,
): Promise<readonly Figure[]> {
  const settings = {
    FCM_TIMEOUT_MS: String(FCM_TIMEOUT_MS),
    FCM_RETRY_BASE_MS: String(RETRY_BASE_MS),
    FCM_MAX_IN_FLIGHT: String(MAX_IN_FLIGHT),
    RATE_LIMIT_TOKENS_PER_HOUR: '100000',
  }
  return onReplicas(run, settings, (fcm) => makeHostile(fcm, run.random), work)
}

/** For what onHostileFcm does. `leaseCutS`: null where leases expire in their own time. */
export function hostileRules(leaseCutS: number | null): SpacingRules {
  return {
    retryBaseMs: RETRY_BASE_MS,
    retryAfterMs: RETRY_AFTER_MS,
    unrecordedMs: leaseCutS === null ? UNRECORDED_MS : 0,
  }
}

interface Sending {
  readonly commands: number
  readonly kills: number
  readonly ratePerS: number
  readonly random: () => number
}

/** Sends at a fixed rate, whatever the responses; the kills are spread evenly. `sendOne` gets numbers from 0. */
export async function sendUnderKills(
  run: Sending,
  pair: ReplicaPair,
  sendOne: (index: number) => Promise<void>,
): Promise<void> {
  const killsAt = spread(run.kills, run)
  const underWay: Promise<void>[] = []
  let killing = Promise.resolve()
  const startedAtMs = performance.now()
  for (let index = 0; index < run.commands; index += 1) {
    while (killsAt[0] !== undefined && killsAt[0] <= index) {
      killsAt.shift()
      await killing
      killing = wait(KILL_SPREAD_MS * run.random()).then(() => pair.kill())
    }
    await wait(Math.max(0, startedAtMs + (index * 1_000) / run.ratePerS - performance.now()))
    underWay.push(sendOne(index))
  }
  await Promise.all([...underWay, killing])
}

/** So many moments of the run, in order, as numbers of commands. */
export function spread(
  count: number,
  { commands, random }: Pick<Sending, 'commands' | 'random'>,
): number[] {
  const moments = Array.from({ length: count }, () => (0.05 + 0.9 * random()) * commands)
  return moments.map(Math.floor).sort((a, b) => a - b)
}
