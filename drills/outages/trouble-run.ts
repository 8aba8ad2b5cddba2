/** All kinds of database trouble in turn, under load: responses, log lines, and the time to recover. */
import { setTimeout as wait } from 'node:timers/promises'
import type { Figure } from '../drill.ts'
import { codesText } from '../shared/response-watch.ts'
import { inTimeFigure, type OutageRig } from './rig.ts'
import { episodeFigure, probe, soundFigure, timed, untilTold } from './run.ts'
import { type Trouble, troublesOf } from './troubles.ts'

export interface TroubleRun {
  /** Per kind. */
  readonly seconds: number
  /** Before each kind. */
  readonly calmS: number
  /** Requests after each, to find a poisoned connection. */
  readonly probes: number
}

export async function runTrouble(
  run: TroubleRun,
  rig: OutageRig,
  print: (line: string) => void,
): Promise<readonly Figure[]> {
  const figures: Figure[] = []
  for (const trouble of troublesOf(rig.postgres, rig.disk)) {
    print(trouble.name)
    figures.push(...(await suffer(run, rig, trouble)))
  }
  return figures
}

async function suffer(
  run: TroubleRun,
  rig: OutageRig,
  trouble: Trouble,
): Promise<readonly Figure[]> {
  const { databaseLines } = rig.service
  const from = databaseLines.length
  await wait(1_000 * run.calmS)
  rig.answers.end()
  await trouble.begin()
  await untilTold(rig.service, from + 1) // a full disk shows once PostgreSQL's files are full
  await wait(1_000 * run.seconds)
  const meanwhile = rig.answers.end()
  const success = rig.answers.success().then(() => performance.now())
  await trouble.end()
  const overAtMs = performance.now()
  const backAfterMs = Math.max(0, (await success) - overAtMs)
  await untilTold(rig.service, from + 2)
  const poisoned = await probe(rig, run.probes)
  const lines = databaseLines.slice(from)
  const episodes = trouble.mayFlicker ? Math.max(1, Math.floor(lines.length / 2)) : 1
  const { promise, measured, isHeld } = episodeFigure(lines, episodes)
  const isFelt = Object.keys(meanwhile.byCode).some((code) => code.startsWith('503'))
  return [
    {
      promise: `${trouble.name}: 503; ${promise}`,
      measured: `${codesText(meanwhile)}; ${measured}`,
      isHeld: isHeld && isFelt,
    },
    soundFigure(poisoned, run),
    inTimeFigure(meanwhile, trouble.name),
    timed(`${trouble.name}: the first 2xx within 2 s after its end`, backAfterMs),
  ]
}
