/**
 * `npm run drill -- R6`: heartbeats at a fixed rate and commands beside them, while FCM works, hangs and refuses
 * connections in turn; then it returns bare 404s and 403s. The settings are those of production.
 */
import { setTimeout as wait } from 'node:timers/promises'
import pg from 'pg'
import { issueEnrollmentTokens } from '../../sim/enroll.ts'
import { type FakeFcm, pushSettings, startFakeFcm } from '../../sim/fcm/fake-fcm.ts'
import { createFleet, type Fleet } from '../../sim/fleet.ts'
import type { LoadReport } from '../../sim/load/load.ts'
import { compare } from '../../testkit/compare.ts'
import { createSend, type Send } from '../../testkit/http/client.ts'
import { startReplica } from '../../testkit/service.ts'
import { ADMIN_TOKEN, serviceSettings } from '../../testkit/service-settings.ts'
import { createCommandsAdmin } from '../commands/admin.ts'
import { createCommandsJournal, type JournalWriter } from '../commands/journal.ts'
import { type DatabaseEnvironment, defineDrill, type Figure } from '../drill.ts'
import { enroll, type HeartbeatLoad, startHeartbeats } from '../shared/heartbeat-load.ts'
import { unharmedFigure } from '../shared/unharmed-figure.ts'
import { servedAll } from '../stdout/phases.ts'
import { type FcmGate, startFcmGate } from './gate.ts'

interface FcmDownRun extends DatabaseEnvironment {
  /** With FCM dead, in total. */
  readonly deadS: number
  /** Per kind. */
  readonly windows: number
  readonly heartbeatsPerS: number
  readonly commandsPerS: number
  /** Of bare 404s, and then of bare 403s. */
  readonly refusalS: number
}

const KINDS = ['alive', 'hang', 'refused'] as const
type Kind = (typeof KINDS)[number]
const DEAD_KINDS = 2

const SENDERS = 50
const PHONES = 20
const PHONE_INTERVAL_S = 2
const TTL_S = 86_400
const SETTLE_MS = 2_000
/** A paused or failing sender tries again within 30 s; before that a hung send may hold the only slot. */
const NEXT_SEND_MS = 90_000
const MOST_SOCKETS = 64

export const fcmDownDrill = defineDrill({
  name: 'R6',
  promise: 'FCM dead: heartbeats do not suffer, at most 64 sockets, no push token cleared',
  options: {
    minutes: {
      standard: 10,
      what: 'with FCM dead: half hanging, half refusing connections; alive half as long beside them',
    },
    windows: { standard: 9, what: 'interleaved windows of each kind, for p99' },
    rate: { standard: 500, what: 'heartbeats a second' },
    commands: { standard: 20, what: 'commands a second' },
  },
  needs: 'postgres',
  run: ({ minutes, windows, rate, commands }, environment) =>
    runFcmDown({
      ...environment,
      windows,
      deadS: 60 * minutes,
      heartbeatsPerS: rate,
      commandsPerS: commands,
      refusalS: 3 * minutes,
    }),
})

async function runFcmDown(run: FcmDownRun): Promise<readonly Figure[]> {
  const fcm = await startFakeFcm()
  const gate = await startFcmGate(fcm.baseUrl)
  const service = startReplica({
    settings: {
      ...serviceSettings(run.databaseUrl, run.dataDir),
      ...pushSettings({ ...fcm, baseUrl: gate.baseUrl }),
      HEARTBEAT_DEDUP_WINDOW_S: '0',
    },
  })
  const db = new pg.Client({ connectionString: run.databaseUrl })
  await db.connect()
  const over = new AbortController()
  try {
    const origin = await service.ready
    const send = createSend(origin)
    const senders = await enroll(origin, ADMIN_TOKEN, SENDERS)
    const journal = createCommandsJournal()
    const fleet = await enrollPhones(send, fcm, journal)
    const lives = fleet.live(over.signal)
    const orders = sendCommands(run, { send, journal, signal: over.signal })
    const load = startHeartbeats(origin, senders, run.heartbeatsPerS)
    const p99Ms = await measureWindows(run, { load, fcm, gate })
    const refusals = await refuseAll(run, fcm)
    const report = await load.stop()
    fcm.setMode({ fcm: 'ok' })
    over.abort()
    await Promise.all([lives, orders])
    const { rows } = await db.query<{ cleared: number }>(CLEARED)
    const { commandsByPush, commandsByMailbox } = fleet.report().counts
    run.print(
      `${journal.accepted.size} commands; ${commandsByPush} came by push, ${commandsByMailbox} by mailbox`,
    )
    const latencyFigure = (what: string, deadMs: readonly number[]) =>
      unharmedFigure('heartbeat p99', ['alive', what], compare(p99Ms.alive, deadMs), run.windows)
    return [
      latencyFigure('FCM hanging', p99Ms.hang),
      latencyFigure('FCM refusing connections', p99Ms.refused),
      servedFigure(report),
      {
        promise: `at most ${MOST_SOCKETS} sockets to FCM`,
        measured: `${gate.peak} at once at most`,
        isHeld: gate.peak <= MOST_SOCKETS,
      },
      {
        promise: '0 push tokens cleared by a bare 404 or 403',
        measured: `${rows[0]?.cleared} cleared of ${PHONES}; ${refusals}`,
        isHeld: rows[0]?.cleared === 0,
      },
    ]
  } finally {
    over.abort()
    await service.stop()
    await db.end()
    await gate.shut()
    await fcm.close()
  }
}

const CLEARED = /* sql */ `
  select count(*)::int as cleared from devices
  where alias like 'R6-%' and (fcm_token is null or fcm_token_died_at is not null)`

async function enrollPhones(send: Send, fcm: FakeFcm, journal: JournalWriter): Promise<Fleet> {
  const aliases = Array.from({ length: PHONES }, (_, index) => aliasOf(index))
  const fleet = createFleet({
    ...journal.watch(send),
    aliases,
    habitsOf: () => ({ heartbeatIntervalS: PHONE_INTERVAL_S }),
    nowMs: Date.now,
    random: Math.random,
    push: fcm,
  })
  await fleet.enroll(await issueEnrollmentTokens(send, ADMIN_TOKEN, aliases))
  return fleet
}

const aliasOf = (index: number) => `R6-${index % PHONES}`

/** Sends at a fixed rate whatever FCM does; resolves when all are acknowledged. */
async function sendCommands(
  { commandsPerS }: FcmDownRun,
  to: { readonly send: Send; readonly journal: JournalWriter; readonly signal: AbortSignal },
): Promise<void> {
  const admin = createCommandsAdmin(to.send, ADMIN_TOKEN, to.journal)
  const underWay = new Set<Promise<void>>()
  for (let index = 0; !to.signal.aborted; index += 1) {
    const requestId = `r6-${index}`
    const order = admin
      .create({ requestId, alias: aliasOf(index), ttlS: TTL_S, waitMs: 0 })
      .finally(() => underWay.delete(order))
    underWay.add(order)
    await wait(1_000 / commandsPerS, undefined, { signal: to.signal }).catch(() => {})
  }
  await Promise.all(underWay)
}

type WindowP99 = Readonly<Record<Kind, readonly number[]>>

/** Interleaves the kinds; each round begins with another one. Ends with FCM alive. */
async function measureWindows(
  run: FcmDownRun,
  to: { readonly load: HeartbeatLoad; readonly fcm: FakeFcm; readonly gate: FcmGate },
): Promise<WindowP99> {
  const windowMs = (1_000 * run.deadS) / (DEAD_KINDS * run.windows)
  const p99Ms = { alive: [] as number[], hang: [] as number[], refused: [] as number[] }
  for (let round = 0; round < run.windows; round += 1) {
    const first = round % KINDS.length
    for (const kind of [...KINDS.slice(first), ...KINDS.slice(0, first)]) {
      await turn(kind, to)
      const end = to.load.window()
      await wait(windowMs)
      p99Ms[kind].push(end())
      if (kind === 'refused') await to.gate.open()
    }
    const latest = KINDS.map((kind) => `${kind} ${p99Ms[kind].at(-1)?.toFixed(2)} ms`)
    run.print(`round ${round + 1} of ${run.windows}, heartbeat p99: ${latest.join(', ')}`)
  }
  await turn('alive', to)
  return p99Ms
}

/** Resolves when the service has noticed FCM's new state. */
async function turn(
  kind: Kind,
  { fcm, gate }: { readonly fcm: FakeFcm; readonly gate: FcmGate },
): Promise<void> {
  const turnedAt = new Date()
  fcm.setMode({ fcm: kind === 'alive' ? 'ok' : 'hang' })
  if (kind === 'refused') await gate.shut()
  else await fcm.waitForSend(({ at }) => at >= turnedAt, NEXT_SEND_MS)
  await wait(SETTLE_MS)
}

/** Keeps each kind until at least one send has met it. */
async function refuseAll({ refusalS }: FcmDownRun, fcm: FakeFcm): Promise<string> {
  for (const mode of ['not_found', 'forbidden'] as const) {
    const met = fcm.waitForSend((send) => send.mode === mode, NEXT_SEND_MS)
    fcm.setMode({ fcm: mode })
    await Promise.all([met, wait(1_000 * refusalS)])
  }
  const sends = (mode: string) => fcm.journal.filter((send) => send.mode === mode).length
  return `${sends('not_found')} bare 404s and ${sends('forbidden')} bare 403s in ${2 * refusalS} s`
}

function servedFigure(report: LoadReport): Figure {
  const { due, shed, failed, byStatus } = report
  return {
    promise: 'every heartbeat is answered with 200, whatever FCM does',
    measured: `${due} due, ${JSON.stringify(byStatus)}, ${failed} failed, ${shed} shed`,
    isHeld: servedAll(report),
  }
}
