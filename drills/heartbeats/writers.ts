/** `npm run drill -- writers`: heartbeats of the same phones by eight writers at once. */
import { join } from 'node:path'
import { migrate, readMigrations } from '../../src/db/schema/migrate.ts'
import { withClient, withPostgres } from '../../testkit/postgres.ts'
import { defineDrill } from '../drill.ts'
import { runWriters } from './writers-run.ts'

const LEAST_HOT_PCT = 95

export const writersDrill = defineDrill({
  name: 'writers',
  promise: 'eight writers with overlapping phones: no deadlock, every row stored, updates are HOT',
  options: { seconds: { standard: 60, what: 'they write' } },
  run: ({ seconds }, { dir }) =>
    withPostgres(join(dir, 'postgres'), async ({ url }) => {
      await migrate(url, readMigrations())
      const endsAtMs = performance.now() + 1_000 * seconds
      const { deadlocks, hotPct, storedRows, heartbeats } = await withClient(url, (db) =>
        runWriters({
          url,
          db,
          writers: 8,
          devices: 4_000,
          groupSize: 64,
          isOver: () => performance.now() >= endsAtMs,
          random: Math.random,
        }),
      )
      return [
        { promise: '0 deadlocks', measured: `${deadlocks}`, isHeld: deadlocks === 0 },
        {
          promise: 'every heartbeat is a row',
          measured: `${heartbeats} heartbeats, ${storedRows} rows`,
          isHeld: storedRows === heartbeats,
        },
        {
          promise: `at least ${LEAST_HOT_PCT} % of the updates are HOT`,
          measured: `${hotPct.toFixed(1)} %`,
          isHeld: hotPct >= LEAST_HOT_PCT,
        },
      ]
    }),
})
