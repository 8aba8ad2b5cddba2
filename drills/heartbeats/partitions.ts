/**
 * `npm run drill -- partitions`: two replicas race for the days of a moving clock under heartbeats, and today's
 * partition is taken away again and again.
 */
import { join } from 'node:path'
import { withClient, withPostgres } from '../../testkit/postgres.ts'
import { seededToken, seedFleet } from '../../testkit/seeded-fleet.ts'
import { HMAC_SECRET, serviceSettings } from '../../testkit/service-settings.ts'
import { defineDrill } from '../drill.ts'
import { startReplicaPair } from '../shared/replica-pair.ts'
import { racePartitions } from './partitions-run.ts'
import { beatDuring } from './sending.ts'

const PHONES = 8

export const partitionsDrill = defineDrill({
  name: 'partitions',
  promise:
    'two replicas race for the days under heartbeats: none refused, none lost, no day missing',
  options: { rounds: { standard: 1_000, what: 'of both replicas, each on another day' } },
  run: ({ rounds }, { dir }) =>
    withPostgres(join(dir, 'postgres'), async ({ url }) => {
      const pair = await startReplicaPair(
        {
          ...serviceSettings(url, join(dir, 'data')),
          HEARTBEAT_DEDUP_WINDOW_S: '0',
        },
        Math.random,
      )
      const { byStatus, race, storedRows } = await withClient(url, async (db) => {
        await seedFleet(db, HMAC_SECRET, PHONES)
        const tokens = Array.from({ length: PHONES }, (_, index) =>
          seededToken(HMAC_SECRET, index + 1),
        )
        const { byStatus, value: race } = await beatDuring(pair.send, tokens, () =>
          racePartitions({ url, db, rounds, random: Math.random }),
        )
        const stored = await db.query('select count(*)::int as "count" from heartbeats')
        return { byStatus, race, storedRows: Number(stored.rows[0].count) }
      })
      const exits = await pair.stop()
      const faults = pair.faults()
      return [
        {
          promise: 'every heartbeat is answered with 200 and is a row',
          measured: `${JSON.stringify(byStatus)}, ${storedRows} rows`,
          isHeld: Object.keys(byStatus).join() === '200' && storedRows === byStatus['200'],
        },
        {
          promise: 'no replica fails at a day, no day is missing, none is left in the net',
          measured: `${race.created} made, ${race.dropped} dropped, failed: ${race.failed.join() || 'none'}; missing: ${race.missing.join() || 'none'}; ${race.inNet} in the net`,
          isHeld: race.failed.length === 0 && race.missing.length === 0 && race.inNet === 0,
        },
        {
          promise: 'no replica ends but by our hand, no answer 500',
          measured: `${faults.length} faults ${faults[0] ?? ''}; exit codes ${exits.join(', ')}`,
          isHeld: faults.length === 0,
        },
      ]
    }),
})
