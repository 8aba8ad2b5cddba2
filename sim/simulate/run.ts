/**
 * One simulation: enroll the phones, let them live, send them commands, and take stock.
 *
 * Waiting for the service → enrolling → living → (alarms and commands stop, what is under way ends) → reading the
 * commands back → summary. A signal moves on to the end from wherever it is.
 */
import { createSend } from '../../testkit/http/client.ts'
import type { DeviceListener } from '../device/habits.ts'
import { signingSend } from '../device/signature.ts'
import type { FakeFcm } from '../fcm/fake-fcm.ts'
import { createFleet, type Fleet } from '../fleet.ts'
import type { LoadJournal } from '../load/journal.ts'
import { createAdmin } from './admin.ts'
import { CommandLedger } from './ledger.ts'
import type { SimulationOptions } from './options.ts'
import { enroll, fetchSome, untilOver, untilReady } from './phases.ts'
import { Downloads, habitsOf, pickReport, runCommand } from './phones.ts'
import { type Summary, summaryOf } from './summary.ts'
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

export function createSimulation(options: SimulationOptions, deps: SimulationDeps): Simulation {
  const { signal, runId, push } = deps
  const tally = new Tally()
  const ledger = new CommandLedger(Date.now)
  const downloads = new Downloads()
  const plainSend = createSend(options.origin)
  const send = tally.watch(plainSend)
  const adminSend =
    options.adminHmacSecret === null ? send : signingSend(send, options.adminHmacSecret, Date.now)
  const acknowledge = acknowledgerOf(deps.journal)
  const fleet = createFleet({
    aliases: aliasesOf(options),
    habitsOf: (index) => habitsOf(options, index),
    send,
    nowMs: Date.now,
    random: Math.random,
    async run(command, device) {
      const report = ledger.runs(command['request_id'] ?? '')
      return { ...(await runCommand(command, device, downloads)), report }
    },
    listener: listenerOf(ledger, acknowledge),
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
  return {
    fleet,

    async run() {
      await untilReady(plainSend, options, signal)
      phase = 'enrolling'
      const tokens = await enroll(options, fleet, adminSend, signal)
      await fetchSome(options, fleet, tokens, downloads, signal)
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

    progress: () => [phase, ...stateOf(fleet, ledger, tally)].join(' · '),
  }
}

function stateOf(fleet: Fleet, ledger: CommandLedger, tally: Tally): readonly string[] {
  const { enrolled, counts, queued } = fleet.report()
  const { created, run } = ledger.summary()
  const beat = tally.latencyOf('POST /v1/heartbeat').read()
  return [
    `${enrolled}/${fleet.devices.length} phones`,
    `${counts.wiped} wiped`,
    `${counts.heartbeatsAccepted} heartbeats (p95 ${beat.p95.toFixed(1)} ms)`,
    `${run}/${created} commands run`,
    `${counts.resultsAccepted} results`,
    `${queued} queued`,
  ]
}

function acknowledgerOf(journal: LoadJournal | undefined) {
  return (fact: Readonly<Record<string, unknown>>) =>
    journal?.acknowledge(JSON.stringify({ ...fact, at: new Date().toISOString() }))
}

function aliasesOf({ devices, aliasPrefix }: SimulationOptions): readonly string[] {
  const width = Math.max(4, String(devices).length)
  return Array.from(
    { length: devices },
    (_, index) => `${aliasPrefix}-${String(index + 1).padStart(width, '0')}`,
  )
}

function listenerOf(
  ledger: CommandLedger,
  acknowledge: (fact: Readonly<Record<string, unknown>>) => void,
): DeviceListener {
  return {
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
  }
}

function pickAlias({ devices }: Fleet): string | undefined {
  const enrolled = devices.filter(({ deviceId }) => deviceId !== null)
  return enrolled[Math.floor(Math.random() * enrolled.length)]?.alias
}

/** Without dry runs, such as a service's self-test. */
function fcmCounts(fcm: FakeFcm) {
  const journal = fcm.journal.filter(({ isValidateOnly }) => !isValidateOnly)
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
