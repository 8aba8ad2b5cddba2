import pg from 'pg'
import t, { type Test } from 'tap'
import { PINNED_SETTINGS } from '../../src/db/postgres/session-check.ts'
import { readMigrations, tablesOf } from '../../src/db/schema/migrate.ts'
import { connect, createDatabase } from '../helpers/database.ts'
import { closeTheLoop } from '../helpers/owners-loop.ts'
import { refused, settings, startService } from '../helpers/service.ts'
import { readCluster, urlOf } from '../runner/cluster.ts'

/** For each setting that connections pin, a value by which something of ours would go wrong or look otherwise. */
const HOSTILE: Readonly<Record<string, string>> = {
  datestyle: 'German',
  intervalstyle: 'sql_standard',
  timezone: 'Asia/Kolkata',
  bytea_output: 'escape',
  extra_float_digits: '-15',
  standard_conforming_strings: 'off',
  array_nulls: 'off',
  transform_null_equals: 'on',
  default_transaction_isolation: 'serializable',
  default_transaction_deferrable: 'on',
  row_security: 'off',
  default_table_access_method: 'nowhere',
  exit_on_error: 'on',
  client_min_messages: 'error',
}

/** Names of the cluster's: what a test leaves behind there would meet the others. */
const nameOf = (url: string) => pg.escapeIdentifier(new URL(url).pathname.slice(1))
const pathOf = (url: string) => new URL(url).pathname.slice(1)

/** A login role of its own on a database of its own, which it does not own. */
async function roleOn(t: Test, url: string) {
  const admin = await connect(t, readCluster().url)
  const name = `${pathOf(url)}_role`
  await admin.query(`create role ${name} login`)
  t.teardown(() => admin.query(`drop role if exists ${name}`))
  const own = new URL(url)
  own.username = name
  const db = await connect(t, url)
  t.teardown(() => db.query(`drop owned by ${name}`))
  return { name, url: own.href, admin, db }
}

t.test('what a role or a database sets changes nothing for the service', async (t) => {
  t.same(Object.keys(HOSTILE).sort(), Object.keys(PINNED_SETTINGS).sort(), 'each of them is tried')
  const databaseUrl = await createDatabase(t)
  const admin = await connect(t, readCluster().url)
  const db = await connect(t, databaseUrl)
  // The migrations run under them as well. default_table_access_method must exist: a heap by another name.
  await db.query('drop schema public cascade; create schema public')
  await db.query('create access method nowhere type table handler heap_tableam_handler')
  for (const [name, value] of Object.entries(HOSTILE)) {
    await admin.query(`alter database ${nameOf(databaseUrl)} set ${name} = '${value}'`)
  }
  await closeTheLoop(t, { databaseUrl })
  const { rows } =
    await db.query(`select distinct amname from pg_class c join pg_am a on a.oid = relam
    where relkind = 'r' and relname like 'heartbeats%'`)
  t.same(rows, [{ amname: 'heap' }])
})

t.test(
  'a setting that cannot be pinned is refused by name, with its value and the cure',
  async (t) => {
    const databaseUrl = await createDatabase(t)
    const admin = await connect(t, readCluster().url)
    const name = nameOf(databaseUrl)
    const db = await connect(t, databaseUrl)
    await db.query('create schema front')
    for (const [setting, value, said] of [
      [
        'session_replication_role',
        'replica',
        /"replica" and must be "origin": alter role .* set session_replication_role = 'origin' \(as a superuser\)/,
      ],
      ['zero_damaged_pages', 'on', /zero_damaged_pages is "on" and must be "off"/],
      ['ignore_checksum_failure', 'on', /ignore_checksum_failure is "on"/],
      [
        'synchronous_commit',
        'local',
        /synchronous_commit is "local" and must be "on": .*ALLOW_UNSAFE_DATABASE/,
      ],
      [
        'search_path',
        'nowhere',
        /search_path is "nowhere", and \w+ can see no schema.*search_path = public/,
      ],
      [
        'search_path',
        'public, pg_catalog',
        /search_path is "public, pg_catalog", which puts public before PostgreSQL/,
      ],
      ['search_path', 'pg_temp, public', /would be made in pg_temp, and lost: .*_path = public/],
      ['search_path', 'pg_catalog', /would be made in pg_catalog: .*search_path = public/],
      [
        'search_path',
        'front',
        /new tables in schema front, but this installation is in schema public/,
      ],
    ] as const) {
      await admin.query(`alter database ${name} set ${setting} = ${value}`)
      const told = await refused(t, settings(databaseUrl))
      t.match(told, said)
      t.match(told, /^The database cannot be used: .*$/m, 'one line')
      await admin.query(`alter database ${name} reset ${setting}`)
    }
    const { rows } = await db.query(
      `select from pg_class where relnamespace = 'front'::regnamespace`,
    )
    t.same(rows, [], 'nothing was made on the way')
    const { rowCount } = await db.query(
      `select from pg_settings where name = 'transaction_timeout'`,
    )
    if (rowCount === 1) {
      await admin.query(`alter database ${name} set transaction_timeout = '90s'`)
      t.match(
        await refused(t, settings(databaseUrl)),
        /transaction_timeout is "90s" and must be "0": alter role .* set transaction_timeout = '0'$/m,
      )
      await admin.query(`alter database ${name} reset transaction_timeout`)
    } else t.comment('PostgreSQL has no transaction_timeout before 17')
    await admin.query(`alter database ${name} set synchronous_commit = 'off'`)
    await startService(t, { databaseUrl, env: { ALLOW_UNSAFE_DATABASE: 'true' } })
  },
)

t.test('a database in another encoding is refused before anything is made in it', async (t) => {
  const admin = await connect(t, readCluster().url)
  const name = `${pathOf(await createDatabase(t))}_latin1`
  await admin.query(`create database ${name} encoding 'LATIN1' locale 'C' template template0`)
  t.teardown(() => admin.query(`drop database if exists ${name} with (force)`))
  const url = urlOf(readCluster(), name)
  t.match(
    await refused(t, settings(url)),
    /server_encoding is "LATIN1" and must be "UTF8": .*pg_dump/,
  )
  const db = await connect(t, url)
  t.equal((await db.query(`select from pg_class where relname = 'schema_migrations'`)).rowCount, 0)
})

t.test('a role that may not do what the service does is told what it lacks', async (t) => {
  const databaseUrl = await createDatabase(t)
  const { name, url, admin, db } = await roleOn(t, databaseUrl)
  const env = settings(url)
  t.match(
    await refused(t, env),
    // Before PostgreSQL 15 all roles may create in public.
    /permission denied for (schema public|table \w+)\. \w+ needs .* MIGRATE_DATABASE_URL/,
  )
  const through = { ...env, MIGRATE_DATABASE_URL: databaseUrl }
  t.match(
    await refused(t, through),
    /lacks .*insert on devices.*grant select, insert, update, delete/,
  )
  await db.query(`grant select, insert, update, delete on all tables in schema public to ${name}`)
  t.match(
    await refused(t, through),
    /must own the table heartbeats and create tables in schema public/,
  )
  await db.query(`alter table heartbeats owner to ${name}; alter table heartbeats_default owner to ${name};
    grant create on schema public to ${name}; alter table devices enable row level security`)
  t.match(await refused(t, through), /row security hides rows of devices/)
  await db.query('alter table devices disable row level security')
  await admin.query(`alter role ${name} connection limit 3`)
  const few = await startService(t, {
    databaseUrl: url,
    env: { MIGRATE_DATABASE_URL: databaseUrl },
  })
  t.match(
    few.stderr(),
    /note: the connection limit of role \w+ leaves 3 connections, and this replica takes 11/,
  )
  const { body } = await few.call('GET', '/admin/events?limit=1')
  t.match(body.events, [{ type: 'feed.started' }], 'by the rights that the check asks for')
  await few.stop()
})

t.test('tables of somebody else are no reason for a stack', async (t) => {
  const databaseUrl = await createDatabase(t)
  const db = await connect(t, databaseUrl)
  await db.query('drop schema public cascade; create schema public')
  await db.query('create table schema_migrations (version text)')
  t.match(
    await refused(t, settings(databaseUrl)),
    /column "number" does not exist\. Something else uses these names/,
  )
  await db.query('drop table schema_migrations; create table devices (name text)')
  t.match(
    await refused(t, settings(databaseUrl)),
    /sql\/0001\S+ cannot be applied: relation "devices" already exists/,
  )
})

t.test('the start asks for rights on every table that there is', async (t) => {
  const db = await connect(t, await createDatabase(t))
  const { rows } = await db.query(
    `select relname from pg_class where relkind in ('r', 'p') and relnamespace = 'public'::regnamespace
     and relname <> 'schema_migrations'`,
  )
  const tables = rows.map(({ relname }) => String(relname)).filter((name) => !/_\d{8}$/.test(name))
  t.same([...tablesOf(readMigrations())].sort(), tables.sort())
})

t.test('text that sorts otherwise than when the database was made is told', async (t) => {
  const admin = await connect(t, readCluster().url)
  const name = `${pathOf(await createDatabase(t))}_sorted`
  const { rows } = await admin.query(`select current_setting('server_version_num')::int as version`)
  if (rows[0].version < 150_000) return t.comment('PostgreSQL 14 keeps no version of a collation')
  const provider =
    rows[0].version < 170_000
      ? `locale_provider icu icu_locale 'en-US' locale 'C'`
      : `locale_provider builtin builtin_locale 'C.UTF-8' locale 'C'`
  await admin.query(`create database ${name} encoding 'UTF8' ${provider} template template0`)
  t.teardown(() => admin.query(`drop database if exists ${name} with (force)`))
  await admin.query(`update pg_database set datcollversion = '0' where datname = $1`, [name])
  const service = await startService(t, { databaseUrl: urlOf(readCluster(), name) })
  t.match(
    service.stderr(),
    /^note: the operating system sorts .*version 0, now .*reindex database \w+; alter/m,
  )
})
