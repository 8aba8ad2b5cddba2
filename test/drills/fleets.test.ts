/** The runs of whole fleets in their short forms; `npm run drill -- fleet-100` and `fleet-2000` are the long ones. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { Figure } from '../../drills/drill.ts'
import { runHerds } from '../../drills/fleet/herd-run.ts'
import { runFleet } from '../../drills/fleet/run.ts'
import { connect, createDatabase } from '../helpers/database.ts'
import { readCluster } from '../runner/cluster.ts'

/** What every run is given. */
async function place(t: Test) {
  const dir = mkdtempSync(join(tmpdir(), 'fleetloop-fleets-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true, maxRetries: 5 }))
  const print = (line: string) => t.comment(line)
  return { dir, dataDir: join(dir, 'data'), databaseUrl: await createDatabase(t), print }
}

function held(t: Test, figures: readonly Figure[]): void {
  for (const { promise, measured, isHeld, isTimed } of figures) {
    t.ok(isHeld || isTimed, `${promise}: ${measured}`)
  }
}

t.test(
  'phones live through the whole loop: lines, counters and rows are what happened',
  async (t) => {
    const run = await place(t)
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
    held(t, await runHerds({ ...(await place(t)), simulate, restarts: 2, awayS: 0.5 }))
  },
)
