/** `npm run drill:writers -- [--seconds 60]`: eight writers with overlapping devices; exit code 1 where a promise is broken. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { startEmbedded } from '../src/db/embedded.ts'
import { migrate, readMigrations } from '../src/db/migrate.ts'
import { runWriters } from './writers-run.ts'

const { values } = parseArgs({ options: { seconds: { type: 'string', default: '60' } } })
const dataDir = mkdtempSync(join(tmpdir(), 'fleetloop-writers-'))
const database = await startEmbedded({ dataDir, log: () => {} })
try {
  await migrate(database.url, readMigrations())
  const db = new pg.Client({ connectionString: database.url })
  await db.connect()
  const endsAtMs = performance.now() + Number(values.seconds) * 1_000
  const figures = await runWriters({
    url: database.url,
    db,
    writers: 8,
    devices: 4_000,
    groupSize: 64,
    isOver: () => performance.now() >= endsAtMs,
    random: Math.random,
  })
  await db.end()
  console.log(figures)
  const isHeld =
    figures.deadlocks === 0 && figures.hotPct >= 95 && figures.storedRows === figures.heartbeats
  console.log(`${isHeld ? 'held' : 'MISSED'}: 0 deadlocks, at least 95 % HOT, every row stored`)
  process.exitCode = isHeld ? 0 : 1
} finally {
  await database.stop()
  rmSync(dataDir, { recursive: true, force: true })
}
