/** The drills storm and sync-standby in their short forms; figures in time are for a machine that does nothing else. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { Figure } from '../../drills/drill.ts'
import { onReplicasRig } from '../../drills/ha/replicas-rig.ts'
import { runStorm } from '../../drills/ha/storm.ts'
import { drillSyncStandby } from '../../drills/ha/sync-standby.ts'

const RATE_PER_S = 20

function placeOf(t: Test) {
  const dir = mkdtempSync(join(tmpdir(), 'fleetloop-standby-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true, maxRetries: 5 }))
  return { dir, print: (line: string) => void t.comment(line) }
}

function held(t: Test, figures: readonly Figure[]): void {
  for (const { promise, measured, isHeld, isTimed } of figures) {
    t.ok(isHeld || isTimed, `${promise}: ${measured}`)
  }
}

t.test('a slow PostgreSQL that crashes comes back under two replicas', async (t) => {
  const place = placeOf(t)
  const run = { cpu: 5, calmS: 1, steadyS: 2 }
  held(t, await onReplicasRig(place, RATE_PER_S, (rig) => runStorm(run, rig, place.print)))
})

t.test('a frozen synchronous standby: nothing piles up, one episode', async (t) => {
  held(t, await drillSyncStandby({ seconds: 6, calmS: 1 }, RATE_PER_S, placeOf(t)))
})
