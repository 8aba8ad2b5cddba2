/** The drills storm and sync-standby in their short forms; figures in time are for a machine that does nothing else. */

import t from 'tap'
import { onOutageRig, TWO_REPLICAS } from '../../drills/outages/rig.ts'
import { runStorm } from '../../drills/outages/storm.ts'
import { drillSyncStandby } from '../../drills/outages/sync-standby.ts'
import { drillEnvironment, held } from '../helpers/drill.ts'

const RATE_PER_S = 20

t.test('a slow PostgreSQL that crashes comes back under two replicas', async (t) => {
  const environment = drillEnvironment(t)
  const run = { cpu: 20, calmS: 1, steadyS: 2 }
  held(
    t,
    await onOutageRig(
      environment,
      RATE_PER_S,
      (rig) => runStorm(run, rig, environment.print),
      TWO_REPLICAS,
    ),
  )
})

t.test('a frozen synchronous standby: nothing piles up, one episode', async (t) => {
  held(t, await drillSyncStandby({ seconds: 6, calmS: 1 }, RATE_PER_S, drillEnvironment(t)))
})
