/** Behind PgBouncer in transaction mode, with DATABASE_PREPARED=false and the role set up as the runbook says. */
import t from 'tap'
import { Pool } from '../src/db/pool.ts'
import { HOT_SETTINGS } from '../src/db/stores.ts'
import { connect } from './helpers/database.ts'
import { closeTheLoop } from './helpers/owners-loop.ts'
import { missingPgBouncer, startPgBouncer } from './helpers/pgbouncer.ts'
import { until } from './helpers/replicas.ts'

t.test('through PgBouncer in transaction mode', { skip: missingPgBouncer }, async (t) => {
  const { url, directUrl, name } = await startPgBouncer(t)

  await t.test('the whole loop runs, on a database that it sets up past the pooler', (t) =>
    closeTheLoop(t, {
      databaseUrl: url,
      env: { DATABASE_PREPARED: 'false', MIGRATE_DATABASE_URL: directUrl },
    }),
  )

  await t.test('the role gives what start-up options give elsewhere', async (t) => {
    const db = await connect(t, url)
    for (const [setting, value] of Object.entries({ ...HOT_SETTINGS, jit: 'off' })) {
      const { rows } = await db.query(`show ${setting}`)
      t.same(rows, [{ [setting]: value }])
    }
  })

  await t.test('a statement that we gave up on ends on the server too', async (t) => {
    const pool = new Pool({ url, maxConnections: 1, isPrepared: false, queryTimeoutMs: 100 })
    t.teardown(() => pool.close(1_000))
    const one = { name: 'one', text: 'select 1' }
    await until(() => pool.query(one).then(Boolean, () => false)) // a busy machine takes its time
    const sleeping = pool.query({ name: 'sleep', text: 'select pg_sleep(3600)' })
    await t.rejects(sleeping, { code: 'db_unavailable', cause: { message: 'Query read timeout' } })
    const db = await connect(t, directUrl)
    await until(async () => {
      const { rows } = await db.query(
        `select from pg_stat_activity where usename = $1 and query = 'select pg_sleep(3600)'`,
        [name],
      )
      return rows.length === 0
    })
  })
})
