/** `npm run drill -- plans`: what the statements about commands, audit rows and enrollment tokens read while these pile up. */
import { join } from 'node:path'
import type pg from 'pg'
import { migrate, readMigrations } from '../src/db/migrate.ts'
import { defineDrill, type Figure } from './drill.ts'
import { explained } from './plans-explain.ts'
import { explainHeld } from './plans-held.ts'
import { fillEnded, fillFleet } from './plans-history.ts'
import { claim, faultsOf, pagesOf, rowsOf, STATEMENTS } from './plans-statements.ts'
import { withClient, withPostgres } from './postgres.ts'

const FIRST_COMMANDS = 10_000

export const plansDrill = defineDrill({
  name: 'plans',
  promise: 'however much has been done, every statement about it still reads by index',
  options: {
    commands: { standard: 1_000_000, what: `ended ones, above ${FIRST_COMMANDS}` },
    held: { standard: false, what: 'instead: claim and sweep while a pg_dump holds a snapshot' },
    minutes: { standard: 10, what: 'with --held: how long, at 300 commands a second' },
  },
  run: ({ commands, held, minutes }, { dir, print }) =>
    withPostgres(join(dir, 'postgres'), async ({ url }) => {
      await migrate(url, readMigrations())
      if (held) return withClient(url, (db) => explainHeld(url, db, minutes * 60, print))
      return withClient(url, (db) => explainAll(db, commands, print))
    }),
})

async function explainAll(
  db: pg.Client,
  commands: number,
  print: (line: string) => void,
): Promise<readonly Figure[]> {
  await fillFleet(db)
  await fillEnded(db, 1, FIRST_COMMANDS)
  await explainClaim(db, FIRST_COMMANDS, print)
  await fillEnded(db, FIRST_COMMANDS + 1, commands)
  await explainClaim(db, commands, print)
  const figures: Figure[] = []
  for (const statement of STATEMENTS) {
    for (const mode of statement.modes) {
      const plans = await explained(db, mode, statement.run)
      const faults = faultsOf(statement, plans)
      const indexes = new Set(plans.flatMap((plan) => [...plan.indexes]))
      const read = `${rowsOf(plans)} rows, ${pagesOf(plans)} pages, ${[...indexes].join(', ')}`
      figures.push({
        promise: `${statement.title} (${mode})`,
        measured: [read, ...faults].join('\n        '),
        isHeld: faults.length === 0,
      })
    }
  }
  return figures
}

async function explainClaim(
  db: pg.Client,
  commands: number,
  print: (line: string) => void,
): Promise<void> {
  for (const mode of claim.modes) {
    const [plan] = await explained(db, mode, claim.run)
    print(`claim, ${commands} ended, ${mode}: ${plan?.rowsRead} rows, ${plan?.pages} pages`)
  }
}
