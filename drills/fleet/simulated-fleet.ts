/** A simulation (sim/simulate/run.ts) as part of a drill: the service's settings, and what must hold at the end. */
import { setTimeout as wait } from 'node:timers/promises'
import { makeApk } from '../../sim/apk.ts'
import type { FakeFcm } from '../../sim/fcm/fake-fcm.ts'
import { pushSettings } from '../../sim/fcm/fake-fcm.ts'
import type { LoadJournal } from '../../sim/load/journal.ts'
import { readCommandLine } from '../../sim/simulate/options.ts'
import { createSimulation, type Simulation } from '../../sim/simulate/run.ts'
import type { Summary } from '../../sim/simulate/summary.ts'
import type { Send } from '../../testkit/http/client.ts'
import { ADMIN_TOKEN, serviceSettings } from '../../testkit/service-settings.ts'
import type { Figure } from '../drill.ts'
import type { Acknowledged } from '../shared/mixed-load.ts'

export const METRICS_TOKEN = 'drill-metrics-token-Qd8vXr2kWz9mBt4sLh7cYp3n'
const APK_BYTES = 100_000
const MOST_BEATS_MS = 600_000
const POLL_MS = 50

export function simulatedSettings(
  databaseUrl: string,
  dataDir: string,
  fcm: FakeFcm,
): Readonly<Record<string, string>> {
  return {
    ...serviceSettings(databaseUrl, dataDir),
    ADMIN_TOKENS: `drill=${ADMIN_TOKEN},prometheus:metrics=${METRICS_TOKEN}`,
    ...pushSettings(fcm),
    RATE_LIMIT_TOKENS_PER_HOUR: '1000000',
    // Few phones fetch often: every sixth command asks for it.
    RATE_LIMIT_APK_PER_TOKEN_PER_MIN: '1000000',
    RATE_LIMIT_APK_PER_SUBNET_PER_MIN: '1000000',
    APK_MAX_DOWNLOADS_PER_SUBNET: '100000', // all come from one address
  }
}

export interface SimulatedFleet extends Simulation {
  readonly acknowledged: Acknowledged
}

export interface SimulatedFleetOptions {
  readonly origin: string
  readonly fcm: FakeFcm
  /** Prefix of its phones' and commands' names. */
  readonly runId: string
  /** Of `npm run simulate`, without the origin. */
  readonly args: readonly string[]
  readonly mayEnd?: () => boolean
}

export function simulatedFleet({ fcm, ...options }: SimulatedFleetOptions): SimulatedFleet {
  const args = ['--url', options.origin, ...options.args]
  const line = readCommandLine(args, { ADMIN_TOKEN }, options.runId)
  if (line === 'help') throw new Error('no simulation')
  const acknowledged = {
    heartbeats: new Set<string>(),
    commands: new Set<string>(),
    results: new Set<string>(),
  }
  const journal: LoadJournal = {
    acknowledge(text) {
      const { kind, id, deduped } = JSON.parse(text)
      if (kind === 'heartbeat' && !deduped) acknowledged.heartbeats.add(id)
      if (kind === 'command') acknowledged.commands.add(id)
      if (kind === 'result') acknowledged.results.add(id)
    },
    close: () => {},
  }
  const { signal } = new AbortController()
  const simulation = createSimulation(line, { ...options, push: fcm, journal, signal })
  return { ...simulation, acknowledged }
}

/** Waits until each phone has `more` heartbeats acknowledged. A wiped phone never has; the summary reports it. */
export async function eachHasBeaten({ fleet }: SimulatedFleet, more: number): Promise<void> {
  const endsAtMs = performance.now() + MOST_BEATS_MS
  const goals = fleet.devices.map(({ counts }) => counts.heartbeatsAccepted + more)
  const isBehind = () =>
    fleet.devices.some(
      ({ counts }, index) => counts.wiped === 0 && counts.heartbeatsAccepted < (goals[index] ?? 0),
    )
  while (isBehind()) {
    if (performance.now() > endsAtMs) throw new Error('some phones are not heard any more')
    await wait(POLL_MS)
  }
}

export async function publishApk(send: Send): Promise<void> {
  const response = await send({
    method: 'PUT',
    path: '/admin/apk/builds/drill-1?version_code=1&version_name=1',
    headers: { authorization: `Bearer ${ADMIN_TOKEN}` },
    body: makeApk({ sizeBytes: APK_BYTES, versionName: '1' }),
  })
  if (response.status !== 201) throw new Error(`the APK was answered with ${response.status}`)
}

export function summaryFigure({ faults, phones, heartbeats, commands }: Summary): Figure {
  return {
    promise: 'no phone wiped, nothing lost, nothing run twice',
    measured: `${phones.enrolled} phones, ${phones.wiped} wiped; ${heartbeats.acknowledged} heartbeats, ${commands.accepted} commands: ${commands.completed} completed, ${commands.expired} expired, ${commands.open} open; ${faults.join('; ') || 'no fault'}`,
    isHeld: faults.length === 0,
  }
}

/** `allowed` matches `METHOD route status code` of responses that may occur besides successes. */
export function answersFigure(
  { answers: responses }: Summary,
  promise: string,
  allowed?: RegExp,
): Figure {
  const counts: Record<string, number> = {}
  for (const [name, count] of Object.entries(responses)) {
    const code = name.split(' ').slice(2).join(' ')
    counts[code] = (counts[code] ?? 0) + count
  }
  const bad = Object.keys(responses).filter(
    (name) => !/^\S+ \S+ 2\d\d$/.test(name) && !allowed?.test(name),
  )
  const texts = Object.entries(counts).map(([code, count]) => `${code} × ${count}`)
  return {
    promise,
    measured: `${texts.join(', ')}; ${bad.join('; ') || 'no other'}`,
    isHeld: bad.length === 0,
  }
}
