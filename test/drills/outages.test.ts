/**
 * Promises R2, R3, R4 and every kind of database trouble in their short forms, one after the other on one service with
 * a PostgreSQL of its own. Figures in time are for a machine that does nothing else: `npm run drill` judges those.
 */

import t from 'tap'
import { runDatabaseKills } from '../../drills/outages/database-kills-run.ts'
import { onOutageRig } from '../../drills/outages/rig.ts'
import { runOutage } from '../../drills/outages/run.ts'
import { runTrouble } from '../../drills/outages/trouble-run.ts'
import { drillEnvironment, held } from '../helpers/drill.ts'

const RATE_PER_S = 60
const PROBES = 100

t.test(
  'killed, stopped, frozen, full and so on: nothing is lost, nobody is told 401',
  async (t) => {
    const environment = drillEnvironment(t)
    const { print } = environment
    const ends = await onOutageRig(environment, RATE_PER_S, async (rig) => {
      held(t, await runDatabaseKills({ kills: 2, probes: PROBES, random: Math.random }, rig, print))
      for (const kind of ['stopped', 'frozen'] as const) {
        held(t, await runOutage({ kind, seconds: 3, calmS: 0.5, probes: PROBES }, rig, print))
      }
      held(t, await runTrouble({ seconds: 1, calmS: 0.5, probes: PROBES }, rig, print))
      return []
    })
    held(t, ends)
  },
)
