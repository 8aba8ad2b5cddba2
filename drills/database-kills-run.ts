/** One run of promise R2: PostgreSQL killed again and again under load; it starts again, the service goes on. */
import { setTimeout as wait } from 'node:timers/promises'
import { codesText, type Phase, sumOf } from './answer-watch.ts'
import type { DrillPlace, Figure } from './drill.ts'
import { startOutageRig } from './outage-rig.ts'
import { episodeFigure, probe } from './outage-run.ts'

export interface DatabaseKillsRun {
  readonly kills: number
  readonly ratePerS: number
  readonly random: () => number
}

const LIFE_MS = 2_000
const DOWN_MS = 500
const PROBES = 200

export async function runDatabaseKills(
  run: DatabaseKillsRun,
  place: DrillPlace,
): Promise<readonly Figure[]> {
  const rig = await startOutageRig(place, run.ratePerS)
  try {
    const phases: Phase[] = []
    for (let kill = 1; kill <= run.kills; kill += 1) {
      await wait(LIFE_MS * (0.5 + run.random()))
      await rig.postgres.kill()
      await wait(DOWN_MS * run.random())
      const success = rig.answers.success()
      await rig.postgres.start()
      await success
      phases.push(rig.answers.end())
      place.print(`kill ${kill} of ${run.kills}: ${codesText(phases.at(-1) ?? sumOf([]))}`)
    }
    const poisoned = await probe(rig, PROBES)
    const ends = await rig.end(phases)
    const all = sumOf(phases)
    return [
      ...ends,
      {
        promise: 'no poisoned connection afterwards',
        measured: `${poisoned.length} of ${PROBES} probes not 200 ${[...new Set(poisoned)].join()}`,
        isHeld: poisoned.length === 0,
      },
      episodeFigure(rig.service.databaseLines, run.kills),
      {
        promise: 'every answer within 2 s',
        measured: `slowest ${(all.slowestMs / 1_000).toFixed(2)} s, ${all.late} later`,
        isHeld: all.late === 0,
        isTimed: true,
      },
    ]
  } finally {
    await rig.destroy()
  }
}
