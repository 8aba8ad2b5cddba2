/** `npm run drill -- selection`: SQL selects what the grammar says, and soon enough. */
import { migrate, readMigrations } from '../../src/db/schema/migrate.ts'
import { withClient } from '../../testkit/database/postgres.ts'
import { defineDrill } from '../drill.ts'
import { compareSelections } from './compare.ts'
import { compareSummaries } from './summaries.ts'
import { timeSelections } from './timed.ts'

const MAX_MS = 300

export const selectionDrill = defineDrill({
  name: 'selection',
  promise:
    'a selection finds the phones that a plain filter finds, and of a large fleet within 300 ms',
  options: {
    selections: { standard: 100_000, what: 'random ones, compared' },
    phones: { standard: 2_000, what: 'random ones, for the comparison' },
    seed: { standard: 1, what: 'of both' },
    fleet: { standard: 100_000, what: 'phones of the fleet in which each term is timed' },
  },
  needs: 'postgres',
  async run({ fleet, ...options }, { databaseUrl, print }) {
    await migrate(databaseUrl, readMigrations())
    return withClient(databaseUrl, async (db) => {
      const { selections, selective, differences } = await compareSelections(db, options)
      const { phones, seed } = options
      const summaries = await compareSummaries(db, { phones, seed })
      const { statements, worst } = await timeSelections(db, fleet, options.seed, print)
      return [
        {
          promise: 'both find the same phones each time',
          measured: differences.join('\n        ') || `${selections} selections, no difference`,
          isHeld: differences.length === 0,
        },
        {
          promise: 'the summary of a selection is what a plain filter counts',
          measured:
            summaries.differences.join('\n        ') ||
            `${summaries.selections} selections, no difference`,
          isHeld: summaries.differences.length === 0,
        },
        {
          promise: 'at least a fifth of the selections finds some phones and not all',
          measured: `${selective} of ${selections}`,
          isHeld: selective >= selections / 5,
        },
        {
          promise: `of ${fleet} phones, any selection is counted, its first page read, and summarized within ${MAX_MS} ms`,
          measured: `${statements} statements; worst: ${worst.ms.toFixed(0)} ms, ${worst.what}`,
          isHeld: worst.ms <= MAX_MS,
          isTimed: true,
        },
      ]
    })
  },
})
