/** The runs of whole fleets in their short forms; `npm run drill -- fleet-100` and `fleet-2000` are the long ones. */

import t from 'tap'
import { runHerds } from '../../drills/fleet/herd-run.ts'
import { runFleet } from '../../drills/fleet/run.ts'
import { connect } from '../helpers/database.ts'
import { databaseEnvironment, held } from '../helpers/drill.ts'
import { readCluster } from '../runner/cluster.ts'

t.test(
  'phones live through the whole loop: lines, counters and rows are what happened',
  async (t) => {
    const run = await databaseEnvironment(t)
    const admin = await connect(t, readCluster().url)
    t.teardown(async () => {
      for (const side of ['on', 'off', 'again']) {
        const name = `${new URL(run.databaseUrl).pathname.slice(1)}_${side}`
        await admin.query(`drop database if exists ${name} with (force)`)
      }
    })
    const simulate = [
      ...['--devices', '4', '--heartbeats', '2', '--interval', '0.5', '--commands', '10'],
      ...['--commands-per-minute', '600', '--apk-share', '1', '--late-by', '1'],
    ]
    held(t, await runFleet({ ...run, simulate }))
  },
)

t.test(
  'a service that restarts, in order and by kill -9, hears of all its phones again',
  async (t) => {
    const simulate = [
      ...['--devices', '20', '--heartbeats', '1', '--interval', '1'],
      ...['--commands-per-minute', '120', '--apk-share', '0.1', '--late-by', '1'],
    ]
    const moments = { count: 5, pauseS: 0.5 }
    const run = { ...(await databaseEnvironment(t)), simulate, restarts: 2, awayS: 0.5, moments }
    held(t, await runHerds(run))
  },
)
