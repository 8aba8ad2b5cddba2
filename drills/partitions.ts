/**
 * `npm run drill:partitions -- [--rounds 1000]`: two replicas race for the days of a moving clock under heartbeats, and
 * today's partition is taken away again and again. Exit code 1 where a heartbeat was refused or lost, or a day is missing.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { seededToken, seedFleet } from '../bench/seeded-fleet.ts'
import { startEmbedded } from '../src/db/embedded.ts'
import { beatDuring } from './beating.ts'
import { racePartitions } from './partitions-run.ts'
import { startReplicaPair } from './replica-pair.ts'

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '1000' } } })
const PHONES = 8
const SECRET = { id: 'default', secret: 'drill-hmac-secret-0123456789abcdef' }
const dataDir = mkdtempSync(join(tmpdir(), 'fleetloop-partitions-'))
const database = await startEmbedded({ dataDir, log: () => {} })
try {
  const pair = await startReplicaPair(
    {
      DATABASE_URL: database.url,
      DATA_DIR: dataDir,
      ADMIN_TOKENS: 'drill=drill-admin-token-0123456789abcdef',
      HMAC_SECRET: SECRET.secret,
      HEARTBEAT_DEDUP_WINDOW_S: '0',
    },
    Math.random,
  )
  const db = new pg.Client({ connectionString: database.url })
  await db.connect()
  await seedFleet(db, SECRET, PHONES)
  const tokens = Array.from({ length: PHONES }, (_, index) => seededToken(SECRET, index + 1))
  const { byStatus, value: race } = await beatDuring(pair.send, tokens, () =>
    racePartitions({
      url: database.url,
      db,
      rounds: Number(values.rounds),
      random: Math.random,
    }),
  )
  const stored = await db.query('select count(*)::int as "count" from heartbeats')
  const exits = await pair.stop()
  await db.end()
  const storedRows: number = stored.rows[0].count
  console.log({ ...race, byStatus, storedRows, exits, faults: pair.faults() })
  const isHeld =
    Object.keys(byStatus).join() === '200' &&
    storedRows === byStatus['200'] &&
    race.failed.length === 0 &&
    race.missing.length === 0 &&
    race.inNet === 0 &&
    pair.faults().length === 0
  console.log(`${isHeld ? 'held' : 'MISSED'}: no heartbeat refused or lost, no day missing`)
  process.exitCode = isHeld ? 0 : 1
} finally {
  await database.stop()
  rmSync(dataDir, { recursive: true, force: true })
}
