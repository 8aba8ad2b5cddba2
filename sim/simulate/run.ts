/**
 * One simulation: enroll the phones, let them live, send them commands, and take stock.
 *
 * Waiting for the service → enrolling → living → (alarms and commands stop, what is under way ends) → reading the
 * commands back → summary. A signal moves on to the end from wherever it is.
 */
import { setTimeout as wait } from 'node:timers/promises'
import { createSend, type Send } from '../../testkit/http/client.ts'
import { signingSend } from '../device/signature.ts'
import { issueEnrollmentTokens } from '../enroll.ts'
import type { FakeFcm } from '../fcm/fake-fcm.ts'
import { createFleet, type Fleet } from '../fleet.ts'
import type { LoadJournal } from '../load/journal.ts'
import { type Admin, createAdmin } from './admin.ts'
import { CommandLedger } from './ledger.ts'
import type { SimulationOptions } from './options.ts'
import { Downloads, habitsOf, pickReport, runCommand } from './phones.ts'
import { type EndedBy, type Summary, summaryOf } from './summary.ts'
import { Tally } from './tally.ts'

export interface SimulationDeps {
  readonly runId: string
  /** The fake FCM; undefined: commands arrive by heartbeat alone. */
  readonly push: FakeFcm | undefined
  /** Receives acknowledgements, as JSON. */
  readonly journal: LoadJournal | undefined
  /** Ends the run cleanly. */
  readonly signal: AbortSignal
  /** While it returns false, --heartbeats does not end the run. */
  readonly mayEnd?: () => boolean
}

export interface Simulation {
  readonly fleet: Fleet
  /** Call it once. Rejects with SimulationError if it cannot begin. */
  run(): Promise<Summary>
  /** One line on the current state. */
  progress(): string
}

/** The run could not begin; `message` is for the person at the terminal. */
export class SimulationError extends Error {
  override readonly name = 'SimulationError'
}

const POLL_MS = 50
const READY_POLL_MS = 250
const ENROLL_ROUNDS = 3
const ENROLL_PAUSE_MS = 1_000
const FETCHERS = 8
/** Limits: 200 tokens per admin and hour, 10 APK downloads per token and minute. */
const MIN_PHONES_PER_TOKEN = 10
const TOKENS = 100

export function createSimulation(options: SimulationOptions, deps: SimulationDeps): Simulation {
  const { signal, runId, push } = deps
  const tally = new Tally()
  const ledger = new CommandLedger(Date.now)
  const downloads = new Downloads()
  const plainSend = createSend(options.origin)
  const send = tally.watch(plainSend)
  const adminSend =
    options.adminHmacSecret === null ? send : signingSend(send, options.adminHmacSecret, Date.now)
  const acknowledge = (fact: Readonly<Record<string, unknown>>) => {
    deps.journal?.acknowledge(JSON.stringify({ ...fact, at: new Date().toISOString() }))
  }

  const width = Math.max(4, String(options.devices).length)
  const fleet = createFleet({
    aliases: Array.from(
      { length: options.devices },
      (_, index) => `${options.aliasPrefix}-${String(index + 1).padStart(width, '0')}`,
    ),
    habitsOf: (index) => habitsOf(options, index),
    send,
    nowMs: Date.now,
    random: Math.random,
    async run(command, device) {
      const report = ledger.runs(command['request_id'] ?? '')
      return { ...(await runCommand(command, device, downloads)), report }
    },
    listener: {
      onHeartbeat({ deviceId, httpRequestId, isDeduped }) {
        acknowledge({
          kind: 'heartbeat',
          id: httpRequestId,
          device_id: deviceId,
          deduped: isDeduped,
        })
      },
      onCommand({ requestId, by, kind }) {
        if (kind === 'ran') ledger.ranBy(requestId, by)
        if (kind === 'expired' || kind === 'refused') ledger.turnedDown(requestId)
      },
      onResult({ requestId, httpRequestId, isDuplicate }) {
        ledger.resultAcknowledged(requestId)
        acknowledge({
          kind: 'result',
          id: requestId,
          http_request_id: httpRequestId,
          duplicate: isDuplicate,
        })
      },
    },
    ...(push !== undefined && { push }),
  })
  const admin = createAdmin({
    send: adminSend,
    adminToken: options.adminToken,
    ledger,
    random: Math.random,
    runId,
    commandsPerMinute: options.commandsPerMinute,
    maxCommands: options.maxCommands,
    actions: options.actions,
    ttlS: options.commandTtlS,
    pickAlias: () => pickAlias(fleet),
    pickReport: () => pickReport(options, Math.random),
    onAccepted: (requestId) => acknowledge({ kind: 'command', id: requestId }),
  })
  const startedAt = new Date()
  let phase = 'waiting'

  async function enroll(): Promise<void> {
    phase = 'enrolling'
    const phonesPerToken = Math.max(MIN_PHONES_PER_TOKEN, Math.ceil(options.devices / TOKENS))
    const aliases = fleet.devices.map(({ alias }) => alias)
    const tokens = await issueEnrollmentTokens(
      adminSend,
      options.adminToken,
      aliases,
      phonesPerToken,
    ).catch((error: Error) => {
      throw new SimulationError(`${options.origin}: ${error.message}`)
    })
    for (let round = 1; round <= ENROLL_ROUNDS && !signal.aborted; round += 1) {
      if (round > 1) await pause(ENROLL_PAUSE_MS, signal)
      await fleet.enroll(tokens, { signal })
      if (fleet.report().enrolled === options.devices) break
    }
    const fetching = fleet.devices.filter(() => Math.random() < options.apkShare)
    const fetchNext = async (): Promise<void> => {
      while (!signal.aborted) {
        const device = fetching.shift()
        if (device === undefined) return
        if (device.deviceId !== null) await downloads.fetch(device, tokens.get(device.alias))
      }
    }
    await Promise.all(Array.from({ length: FETCHERS }, fetchNext))
  }

  return {
    fleet,

    async run() {
      await untilReady(plainSend, options, signal)
      await enroll()
      phase = 'living'
      const living = new AbortController()
      const sending = new AbortController()
      const lives = fleet.live(living.signal)
      const sends = admin.sendCommands(sending.signal)
      const endedBy = await untilOver(options, { ...deps, fleet, admin, ledger, sending })
      phase = 'ending'
      sending.abort()
      living.abort()
      await Promise.all([lives, sends])
      const endedAt = new Date()
      await admin.readAll()
      return summaryOf({
        runId,
        origin: options.origin,
        startedAt,
        endedAt,
        endedBy,
        phones: options.devices,
        fleet: fleet.report(),
        commands: ledger.summary(),
        downloads: downloads.counts,
        answers: tally.answers(),
        latencies: tally.latencies(),
        fcm: push === undefined ? null : fcmCounts(push),
      })
    },

    progress() {
      const { enrolled, counts, queued } = fleet.report()
      const { created, run } = ledger.summary()
      const beat = tally.latencyOf('POST /v1/heartbeat').read()
      return [
        phase,
        `${enrolled}/${options.devices} phones`,
        `${counts.wiped} wiped`,
        `${counts.heartbeatsAccepted} heartbeats (p95 ${beat.p95.toFixed(1)} ms)`,
        `${run}/${created} commands run`,
        `${counts.resultsAccepted} results`,
        `${queued} queued`,
      ].join(' · ')
    },
  }
}

async function untilReady(
  send: Send,
  { origin, waitS }: SimulationOptions,
  signal: AbortSignal,
): Promise<void> {
  const deadlineAtMs = performance.now() + 1_000 * waitS
  for (;;) {
    const what = await send({ method: 'GET', path: '/readyz' }).then(
      ({ status }) => status,
      (error: Error) => error.message,
    )
    if (what === 200) return
    if (signal.aborted) throw new SimulationError('stopped before the service was ready')
    if (performance.now() >= deadlineAtMs) {
      throw new SimulationError(`${origin}/readyz is not ready after ${waitS} s: ${what}`)
    }
    await pause(READY_POLL_MS, signal)
  }
}

async function untilOver(
  { minutes, heartbeats, maxCommands }: SimulationOptions,
  run: {
    readonly fleet: Fleet
    readonly admin: Admin
    readonly ledger: CommandLedger
    readonly signal: AbortSignal
    readonly mayEnd?: () => boolean
    readonly sending: AbortController
  },
): Promise<EndedBy> {
  const endAtMs = performance.now() + 60_000 * minutes
  while (!run.signal.aborted) {
    if (performance.now() >= endAtMs) return 'time'
    const isHeldBack = run.mayEnd?.() === false
    if (heartbeats !== null && !isHeldBack && haveBeaten(run.fleet, heartbeats)) {
      if (maxCommands === Infinity) run.sending.abort()
      if (run.admin.isIdle && isSettled(run)) return 'heartbeats'
    }
    await pause(POLL_MS, run.signal)
  }
  return 'signal'
}

/** A wiped phone does nothing, and its commands wait in vain. */
function haveBeaten({ devices }: Fleet, heartbeats: number): boolean {
  return devices.every(
    ({ deviceId, counts }) => deviceId === null || counts.heartbeatsAccepted >= heartbeats,
  )
}

function isSettled({ fleet, ledger }: { readonly fleet: Fleet; readonly ledger: CommandLedger }) {
  const alive = fleet.devices.filter(({ deviceId }) => deviceId !== null)
  const aliases = new Set(alive.map(({ alias }) => alias))
  // Among many phones a heartbeat is always under way; it ends with the run.
  return alive.every(({ queue }) => queue.isUpToDate) && ledger.isSettled(aliases)
}

function pickAlias({ devices }: Fleet): string | undefined {
  const enrolled = devices.filter(({ deviceId }) => deviceId !== null)
  return enrolled[Math.floor(Math.random() * enrolled.length)]?.alias
}

function fcmCounts({ journal }: FakeFcm) {
  const byAction: Record<string, number> = {}
  for (const { data } of journal) {
    const action = data['action'] ?? ''
    byAction[action] = (byAction[action] ?? 0) + 1
  }
  return {
    sends: journal.length,
    by_action: byAction,
    delivered: journal.filter(({ isDelivered }) => isDelivered).length,
  }
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await wait(ms, undefined, { signal }).catch(() => {})
}
