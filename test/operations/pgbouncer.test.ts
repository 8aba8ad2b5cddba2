/** Behind PgBouncer in transaction mode, with DATABASE_PREPARED=false and the role set up as docs/operate/scale.md says. */
import t from 'tap'
import { Pool } from '../../src/db/postgres/pool.ts'
import { HOT_SETTINGS } from '../../src/db/stores.ts'
import { until } from '../../testkit/until.ts'
import { connect } from '../helpers/database.ts'
import { closeTheLoop } from '../helpers/owners-loop.ts'
import { launchService, refused, settings } from '../helpers/service.ts'
import { missingPgBouncer, startPgBouncer } from './pgbouncer.ts'

t.test('through PgBouncer in transaction mode', { skip: missingPgBouncer }, async (t) => {
  const { url, directUrl, name } = await startPgBouncer(t)

  await t.test('the whole loop runs, on a database that it sets up past the pooler', (t) =>
    closeTheLoop(t, {
      databaseUrl: url,
      env: { DATABASE_PREPARED: 'false', MIGRATE_DATABASE_URL: directUrl },
    }),
  )

  await t.test('start-up options, which it refuses, are refused at the start', async (t) => {
    const env = { ...settings(url), MIGRATE_DATABASE_URL: directUrl }
    t.match(
      await refused(t, env),
      /a pooler that takes no start-up options: set DATABASE_PREPARED=false/,
    )
  })

  await t.test('what the role or the database sets otherwise is refused by name', async (t) => {
    const db = await connect(t, directUrl)
    const env = { ...settings(url), MIGRATE_DATABASE_URL: directUrl, DATABASE_PREPARED: 'false' }
    /** The connections that PgBouncer has open keep their settings. */
    const renew = () =>
      db.query(
        `select pg_terminate_backend(pid, 10000) from pg_stat_activity
        where usename = $1 and pid <> pg_backend_pid()`,
        [name],
      )
    await db.query(`alter role ${name} set bytea_output = 'escape'`)
    await db.query(`alter role ${name} set array_nulls = off; alter role ${name} reset jit`)
    await renew()
    const said = await refused(t, env)
    const cure = `alter role ${name} in database ${name} set bytea_output = 'hex'`
    t.match(said, `bytea_output is "escape" and must be "hex": ${cure}`)
    t.match(said, /array_nulls is "off"/)
    await db.query(`alter role ${name} reset bytea_output; alter role ${name} reset array_nulls`)
    await renew()
    const launched = launchService(t, env)
    await launched.lines.waitFor(({ event }) => event === 'service.ready')
    t.match(launched.notes(), /note: through a pooler the role needs settings of its own for jit:/)
    await db.query(`alter role ${name} set jit = 'off'`)
    await renew()
  })

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
        `select from pg_stat_activity where usename = $1 and state = 'active' and query = 'select pg_sleep(3600)'`,
        [name],
      )
      return rows.length === 0
    })
  })
})
