/** The schema on a real database: in order, once, whole or not at all, and never backwards. */

import { createHash, randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type pg from 'pg'
import t, { type Test } from 'tap'
import type { SequenceCheck } from '../../src/db/schema/identity-sequences.ts'
import { type Migration, migrate, readMigrations } from '../../src/db/schema/migrate.ts'
import { connect } from '../helpers/database.ts'
import { tempDirectory } from '../helpers/directory.ts'
import { readCluster, urlOf } from '../runner/cluster.ts'

/** migrate.ts's lock key; its holder migrates. */
const LOCK_KEY = 7_311_860_294

async function emptyDatabase(t: Test): Promise<string> {
  const cluster = readCluster()
  const name = `test_${randomBytes(6).toString('hex')}`
  const admin = await connect(t, cluster.url)
  await admin.query(`create database ${name}`)
  t.teardown(() => admin.query(`drop database if exists ${name} with (force)`))
  return urlOf(cluster, name)
}

function migration(number: number, sql: string, name = `m${number}`): Migration {
  const sha256 = createHash('sha256').update(sql).digest('hex')
  return { number, name, sql, sha256, isBreaking: sql.startsWith('-- breaking') }
}

async function applied(db: pg.Client) {
  const { rows } = await db.query(
    'select number, name, sha256, is_breaking from schema_migrations order by number',
  )
  return rows
}

interface Column {
  readonly type: string
  /** An insert may leave it out. */
  readonly isOptional: boolean
  readonly isNullable: boolean
}

/** By `table.column`. */
async function columnsOf(db: pg.Client): Promise<ReadonlyMap<string, Column>> {
  const { rows } = await db.query(
    `select table_name || '.' || column_name as key, data_type as type,
            is_nullable = 'YES' as "isNullable",
            is_nullable = 'YES' or column_default is not null or is_identity = 'YES' as "isOptional"
     from information_schema.columns
     where table_schema = 'public' and table_name <> 'schema_migrations'`,
  )
  return new Map(rows.map(({ key, ...column }) => [key, column]))
}

/** What a release that knows `before` cannot read or write any more. */
function brokenBy(
  before: ReadonlyMap<string, Column>,
  after: ReadonlyMap<string, Column>,
): readonly string[] {
  const tables = new Set([...before.keys()].map((key) => key.split('.')[0]))
  const lost = [...before].filter(([key, was]) => {
    const is = after.get(key)
    return is?.type !== was.type || (was.isNullable && !is.isNullable)
  })
  const wanted = [...after].filter(
    ([key, { isOptional }]) => !before.has(key) && tables.has(key.split('.')[0]) && !isOptional,
  )
  return [...lost, ...wanted].map(([key]) => key)
}

const FIRST = migration(1, 'create table a (x integer)')
const SECOND = migration(2, 'create table b (x integer); insert into b values (1)')

t.test('a role that may not set a sequence starts all the same, and is told', async (t) => {
  const url = await emptyDatabase(t)
  const db = await connect(t, url)
  const numbered = 'create table numbered (n bigint generated always as identity primary key)'
  await migrate(url, [migration(1, numbered)])
  const { pathname } = new URL(url)
  const role = `${pathname.slice(1)}_role`
  await db.query(`create role ${role} login; grant create on schema public to ${role};
    grant select on schema_migrations to ${role}; grant select, insert on numbered to ${role}`)
  t.teardown(() => db.query(`drop owned by ${role}; drop role ${role}`))
  const own = new URL(url)
  own.username = role
  const seen: SequenceCheck[] = []
  await migrate(own.href, [migration(1, numbered)], {
    onSequences: (check) => seen.push(check),
  })
  t.same(seen, [{ advanced: [], closed: ['numbered_n_seq'] }])
  await db.query('insert into numbered overriding system value values (7)')
  await migrate(url, [migration(1, numbered)], {
    onSequences: (check) => seen.push(check),
  })
  t.same(seen[1], { advanced: [{ table: 'numbered', from: 1, to: 8 }], closed: [] })
})

t.test('each migration is applied once, in order, and recorded', async (t) => {
  const url = await emptyDatabase(t)
  const db = await connect(t, url)
  t.equal(await migrate(url, [FIRST]), 1)
  t.equal(await migrate(url, [FIRST, SECOND]), 1)
  t.equal(await migrate(url, [FIRST, SECOND]), 0)
  t.same(
    await applied(db),
    [FIRST, SECOND].map(({ number, name, sha256 }) => ({
      number,
      name,
      sha256,
      is_breaking: false,
    })),
  )
  t.same((await db.query('select x from b')).rows, [{ x: 1 }])
})

t.test('a migration takes longer than the database allows a statement', async (t) => {
  const url = await emptyDatabase(t)
  const db = await connect(t, url)
  await db.query(`alter database ${new URL(url).pathname.slice(1)} set statement_timeout = '100ms'`)
  t.equal(await migrate(url, [migration(1, 'select pg_sleep(0.3)')]), 1)
})

t.test('our own migrations make the schema, and again nothing', async (t) => {
  const url = await emptyDatabase(t)
  const own = readMigrations()
  t.equal(await migrate(url, own), own.length)
  t.equal(await migrate(url, own), 0)
  t.same(
    own.map(({ number }) => number),
    own.map((_, index) => index + 1),
  )
})

t.test('a migration that fails leaves nothing behind', async (t) => {
  const url = await emptyDatabase(t)
  const db = await connect(t, url)
  const broken = migration(2, 'create table b (x integer); create table a (x integer)')
  await t.rejects(migrate(url, [FIRST, broken]), {
    name: 'MigrationError',
    message: /^sql\/m2\.sql cannot be applied: relation "a" already exists/,
  })
  t.match(await applied(db), [{ number: 1 }])
  t.same((await db.query(`select to_regclass('b') as b`)).rows, [{ b: null }])
  t.equal(await migrate(url, [FIRST, SECOND]), 1, 'once mended it goes on')
})

t.test('a migration that was edited after it ran is refused by name', async (t) => {
  const url = await emptyDatabase(t)
  await migrate(url, [FIRST, SECOND])
  const edited = migration(1, 'create table a (x bigint)', 'm1')
  await t.rejects(migrate(url, [edited, SECOND]), { name: 'MigrationError', message: /m1/ })
})

t.test('a newer schema is refused only where it breaks with this release', async (t) => {
  const url = await emptyDatabase(t)
  await migrate(url, [FIRST, SECOND])
  t.equal(await migrate(url, [FIRST]), 0, 'the previous release restarts')
  const breaking = migration(3, '-- breaking: a is gone\ndrop table a')
  await migrate(url, [FIRST, SECOND, breaking])
  await t.rejects(migrate(url, [FIRST, SECOND]), { name: 'MigrationError', message: /m3/ })
  t.equal(await migrate(url, [FIRST, SECOND, breaking]), 0)
})

t.test(
  'what does not break leaves the previous release all that it reads and writes',
  async (t) => {
    const url = await emptyDatabase(t)
    const db = await connect(t, url)
    const own = readMigrations()
    let before = await columnsOf(db)
    for (const [index, { name, isBreaking }] of own.entries()) {
      await migrate(url, own.slice(0, index + 1))
      const after = await columnsOf(db)
      if (!isBreaking) t.same(brokenBy(before, after), [], name)
      before = after
    }
    t.ok(before.size > 0)
    await db.query('alter table devices drop column model; alter table devices add y text not null')
    await db.query('alter table devices alter column fcm_token set not null')
    t.equal(brokenBy(before, await columnsOf(db)).length, 3, 'it would be seen')
  },
)

t.test('replicas that start at once apply each migration once', async (t) => {
  const url = await emptyDatabase(t)
  const own = readMigrations()
  const counts = await Promise.all(Array.from({ length: 4 }, () => migrate(url, own)))
  t.equal(
    counts.reduce((sum, count) => sum + count, 0),
    own.length,
  )
  t.equal((await applied(await connect(t, url))).length, own.length)
})

t.test('the lock is asked for again and again, never waited for', async (t) => {
  const url = await emptyDatabase(t)
  const db = await connect(t, url)
  await db.query('select pg_advisory_lock($1)', [LOCK_KEY])
  const migrating = migrate(url, [FIRST])
  const isPolled = async () => {
    const { rows } = await db.query(
      `select count(*) filter (where wait_event_type = 'Lock')::int as waiting, count(*)::int as all
       from pg_stat_activity where datname = current_database() and application_name = 'fleetloop-migrate'`,
    )
    t.equal(rows[0].waiting, 0)
    return rows[0].all === 1
  }
  while (!(await isPolled()));
  t.same((await db.query(`select to_regclass('a') as a`)).rows, [{ a: null }])
  await db.query('select pg_advisory_unlock($1)', [LOCK_KEY])
  t.equal(await migrating, 1)
})

t.test('a table that is locked is tried again', async (t) => {
  const url = await emptyDatabase(t)
  const db = await connect(t, url)
  await migrate(url, [FIRST])
  await db.query('begin')
  await db.query('lock table a in access exclusive mode')
  const migrating = migrate(url, [FIRST, migration(2, 'alter table a add column y integer')])
  const other = await connect(t, url)
  const tries = async () => {
    const { rows } = await other.query(
      `select count(distinct xact_start)::int as tries from pg_stat_activity
       where application_name = 'fleetloop-migrate' and datname = current_database()
         and wait_event_type = 'Lock'`,
    )
    return rows[0].tries
  }
  while ((await tries()) === 0); // it waits for the table
  while ((await tries()) !== 0); // and gave up, for now
  await db.query('commit')
  t.equal(await migrating, 1)
})

t.test('files must be numbered without a gap', async (t) => {
  const directory = tempDirectory(t)
  const write = (file: string, text: string) => writeFileSync(join(directory, file), text)
  write('0001_first.sql', 'select 1')
  write('0002_second.sql', '-- breaking\nselect 2')
  write('notes.txt', 'no migration')
  t.match(readMigrations(directory), [
    { number: 1, name: '0001_first', sql: 'select 1', isBreaking: false },
    { number: 2, name: '0002_second', isBreaking: true },
  ])
  write('0004_fourth.sql', 'select 4')
  t.throws(() => readMigrations(directory), { name: 'MigrationError', message: /0004_fourth/ })
})
