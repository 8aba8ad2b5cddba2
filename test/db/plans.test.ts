/** What the statements about commands, audit rows and enrollment tokens read does not grow with them: 100,000 here, a million by `npm run drill -- plans`. */
import t from 'tap'
import { planShape, seededItems } from '../../bench/scale-plan.ts'
import { seedFleet } from '../../bench/seeded-fleet.ts'
import { explained } from '../../drills/plans-explain.ts'
import { fillEnded, fillFleet } from '../../drills/plans-history.ts'
import { claim, faultsOf, rowsOf, STATEMENTS } from '../../drills/plans-statements.ts'
import { storeHeartbeats } from '../../src/db/heartbeats.ts'
import type { Database } from '../../src/db/pool.ts'
import { HOT_SETTINGS } from '../../src/db/stores.ts'
import { connect, createDatabase } from '../helpers/database.ts'

const FEW = 10_000
const SECRET = { id: 'default', secret: 'test-hmac-secret-Qd8vXr2kWz9mBt4sLh7cYp3n' }
const MANY = 100_000
/** An index that is a level deeper costs a page more for each entry that it gets. */
const MOST_GROWTH = 1.5

const db = await connect(t, await createDatabase(t))
await fillFleet(db)

t.test('a claim costs the same with ten times as many ended commands', async (t) => {
  const costs = async () => {
    const [custom, generic] = [
      await explained(db, 'custom', claim.run),
      await explained(db, 'generic', claim.run),
    ]
    return [...custom, ...generic]
  }
  await fillEnded(db, 1, FEW)
  const few = await costs()
  await fillEnded(db, FEW + 1, MANY)
  const many = await costs()
  t.equal(many.length, 2)
  for (const [i, plan] of many.entries()) {
    const before = few[i]
    t.equal(plan.rowsRead, before?.rowsRead, 'rows')
    t.ok(plan.indexes.has('commands_due') && before?.indexes.has('commands_due'))
    const mostPages = (before?.pages ?? 0) * MOST_GROWTH
    t.ok(plan.pages <= mostPages, `${before?.pages} pages, then ${plan.pages}`)
  }
})

for (const statement of STATEMENTS) {
  t.test(`${statement.title}: reads by an index, and no more than it may`, async (t) => {
    for (const mode of statement.modes) {
      const plans = await explained(db, mode, statement.run)
      t.same(faultsOf(statement, plans), [], `${mode}: ${rowsOf(plans)} rows`)
    }
  })
}

t.test('the group statement has one plan, from the first device on', async (t) => {
  const fresh = await connect(t, await createDatabase(t))
  const shape = async () => {
    const store = (database: Database) =>
      storeHeartbeats(database, 0, 300)(seededItems(SECRET, 5_000, 64))
    return (await explained(fresh, 'generic', store, HOT_SETTINGS)).map(planShape)
  }
  const empty = await shape()
  t.match(empty, [/Function Scan\n +Index Scan device_status_token\n +Index Scan devices_pkey\n/])
  await seedFleet(fresh, SECRET, 5_000) // and analyzes
  t.same(await shape(), empty)
})
