/** `npm run drill -- storm`: replicas that reconnect must not keep a slow PostgreSQL down. */
import { setTimeout as wait } from 'node:timers/promises'
import { defineDrill, type Figure } from '../drill.ts'
import { codesText } from '../shared/response-watch.ts'
import { limitCpu } from './cpu-limit.ts'
import { inTimeFigure, type OutageRig, onOutageRig, TWO_REPLICAS } from './rig.ts'
import { episodes } from './run.ts'

export interface StormRun {
  /** Percent of one core. */
  readonly cpu: number
  readonly calmS: number
  /** Judged from SETTLE_S after the first success. */
  readonly steadyS: number
}

const MOST_MS = 10_000
const NEVER_MS = 60_000
const SETTLE_S = 3
/** Requests under way may still succeed. */
const UNDER_WAY_MS = 500

export const stormDrill = defineDrill({
  name: 'storm',
  promise:
    'PostgreSQL with a fifth of a core crashes under two replicas: the first 2xx within 10 s, steady afterwards',
  options: {
    cpu: { standard: 20, what: 'percent of a core for PostgreSQL' },
    rate: { standard: 20, what: 'requests a second, both replicas together' },
    seconds: { standard: 20, what: 'of steady service that are judged' },
  },
  run: ({ cpu, rate, seconds }, place) =>
    onOutageRig(
      place,
      rate,
      (rig) => runStorm({ cpu, calmS: 10, steadyS: seconds }, rig, place.print),
      TWO_REPLICAS,
    ),
})

export async function runStorm(
  { cpu, calmS, steadyS }: StormRun,
  rig: OutageRig,
  print: (line: string) => void,
): Promise<readonly Figure[]> {
  const limit = limitCpu(rig.postgres.pids, cpu / 100)
  try {
    print(`PostgreSQL has ${cpu} % of a core, by ${limit.how}`)
    await wait(1_000 * calmS)
    print(`calm: ${codesText(rig.answers.end())}`)
    rig.postgres.crash()
    const crashedAtMs = performance.now()
    await wait(UNDER_WAY_MS)
    const success = rig.answers.success().then(() => performance.now())
    const backAtMs = await Promise.race([success, wait(NEVER_MS, undefined, { ref: false })])
    const tookMs = backAtMs === undefined ? undefined : backAtMs - crashedAtMs
    await wait(1_000 * SETTLE_S)
    const away = rig.answers.end()
    await wait(1_000 * steadyS)
    const steady = rig.answers.end()
    const isSteady = Object.keys(steady.byCode).every((code) => code.startsWith('2'))
    return [
      {
        promise: `the first 2xx within ${MOST_MS / 1_000} s of the crash`,
        measured: tookMs === undefined ? 'never' : `after ${(tookMs / 1_000).toFixed(1)} s`,
        isHeld: tookMs !== undefined && tookMs <= MOST_MS,
        isTimed: tookMs !== undefined, // never is not a matter of the machine
      },
      {
        promise: `steady from ${SETTLE_S} s after it: only successes`,
        measured: `${codesText(away)} until then; ${codesText(steady)} in ${steadyS} s`,
        isHeld: isSteady,
        isTimed: (steady.byCode['200'] ?? 0) > 0,
      },
      inTimeFigure(away, 'from the crash on'),
      ...(await episodes(rig.seats)).map((figure) => ({
        ...figure,
        isTimed: (steady.byCode['200'] ?? 0) > 0,
      })),
    ]
  } finally {
    await limit.end()
  }
}
