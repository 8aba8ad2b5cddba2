/** Promise R2: PostgreSQL is killed again and again under load; it restarts, and the service goes on. */
import { setTimeout as wait } from 'node:timers/promises'
import type { Figure } from '../drill.ts'
import { codesText, type Phase, sumOf } from '../shared/response-watch.ts'
import { inTimeFigure, type OutageRig } from './rig.ts'
import { episodeFigure, probe, soundFigure, untilTold } from './run.ts'

export interface DatabaseKillsRun {
  readonly kills: number
  /** Requests afterwards, to find a poisoned connection. */
  readonly probes: number
  readonly random: () => number
}

const LIFE_MS = 2_000
const DOWN_MS = 500

export async function runDatabaseKills(
  run: DatabaseKillsRun,
  rig: OutageRig,
  print: (line: string) => void,
): Promise<readonly Figure[]> {
  const linesBefore = rig.service.databaseLines.length
  const phases: Phase[] = []
  for (let kill = 1; kill <= run.kills; kill += 1) {
    await wait(LIFE_MS * (0.5 + run.random()))
    await rig.postgres.kill()
    await wait(DOWN_MS * run.random())
    const success = rig.answers.success()
    await rig.postgres.start()
    await success
    const phase = rig.answers.end()
    phases.push(phase)
    print(`kill ${kill} of ${run.kills}: ${codesText(phase)}`)
  }
  const poisoned = await probe(rig, run.probes)
  await untilTold(rig.service, linesBefore + 2 * run.kills)
  return [
    soundFigure(poisoned, run),
    episodeFigure(rig.service.databaseLines.slice(linesBefore), run.kills),
    inTimeFigure(sumOf(phases), `${run.kills} kills`),
  ]
}
