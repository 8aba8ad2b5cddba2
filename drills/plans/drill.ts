/** `npm run drill -- plans`: what every statement reads on a small installation, and on one of hundreds of thousands of phones. */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { migrate, readMigrations } from '../../src/db/schema/migrate.ts'
import { withClient, withPostgres } from '../../testkit/postgres.ts'
import { defineDrill, type Figure } from '../drill.ts'
import { explainHeld } from './held.ts'
import { runPlans } from './run.ts'

export const plansDrill = defineDrill({
  name: 'plans',
  promise: 'however much has been done, each statement reads no more than it has to',
  options: {
    devices: { standard: 30_000, what: 'of the large installation; all else in proportion' },
    requests: { standard: 0, what: 'instead: so many of each admin GET, timed on both' },
    held: { standard: false, what: 'instead: claim and sweep while a pg_dump holds a snapshot' },
    minutes: { standard: 10, what: 'with --held: how long, at 300 commands a second' },
    keep: { standard: '', what: 'directory in which the installations stay, to be used again' },
  },
  run({ keep, held, minutes, ...options }, { dir, print }) {
    if (held) return runHeld(join(dir, 'postgres'), minutes, print)
    if (keep !== '') mkdirSync(keep, { recursive: true })
    return runPlans({ ...options, dataDir: keep || join(dir, 'postgres'), dir, print })
  },
})

function runHeld(
  dataDir: string,
  minutes: number,
  print: (line: string) => void,
): Promise<readonly Figure[]> {
  return withPostgres(dataDir, async ({ url }) => {
    await migrate(url, readMigrations())
    return withClient(url, (db) => explainHeld(url, db, minutes * 60, print))
  })
}
