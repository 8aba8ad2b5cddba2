/** What statements read does not grow with the tables: a fiftieth of a large fleet here, all of it by `npm run drill -- plans`. */

import { randomUUID } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { planShape, seededItems } from '../../bench/scale-plan.ts'
import { deviceId, grow, installationOf, NOTHING } from '../../drills/plans/installation.ts'
import { statementsOf } from '../../drills/plans/statements/all.ts'
import { BY, claim } from '../../drills/plans/statements/push.ts'
import { faultsOf, rowsOf } from '../../drills/plans/statements/statement.ts'
import { commandStore } from '../../src/db/commands/commands.ts'
import { commandOutbox } from '../../src/db/commands/outbox.ts'
import { deviceStore } from '../../src/db/devices/devices.ts'
import { enrollmentTokenStore } from '../../src/db/enrollment/tokens.ts'
import { storeHeartbeats } from '../../src/db/heartbeats/heartbeats.ts'
import { partitions } from '../../src/db/heartbeats/partitions.ts'
import { jobStore } from '../../src/db/jobs/jobs.ts'
import type { Database } from '../../src/db/postgres/pool.ts'
import { HOT_SETTINGS } from '../../src/db/stores.ts'
import { explained, plainDatabase } from '../../testkit/database/explain.ts'
import { seedFleet } from '../../testkit/database/seeded-fleet.ts'
import { connect, createDatabase } from '../helpers/database.ts'
import { HMAC_SECRET } from '../helpers/service.ts'

const SECRET = { id: 'default', secret: HMAC_SECRET }
const MANY = { ...installationOf(6_000), deleted: 8_000, due: 500, unswept: 600 }
const FEW = { ...MANY, ended: MANY.ended / 3 }
/** An index that is a level deeper costs a page more for each entry that it gets. */
const MOST_GROWTH = 1.5
/** Statements that read no table which grows, or only by the key of the row that they write. */
const NOT_EXPLAINED = new Set([
  ...['installation.instance_id', 'installation.ping', 'settle.write_nothing'],
  ...['partitions.lock', 'partitions.try_index_lock'],
  'devices.lock_labels',
  ...['database_check.facts', 'database_check.collation'],
  ...['apks.try_lock', 'apks.publish', 'apks.audit_publish', 'apks.audit_release'],
  'apks.keep_replaces',
  ...['apks.insert_chunk', 'apks.remove_chunks', 'apks.read_chunk'],
])

const db = await connect(t, await createDatabase(t))
await partitions(plainDatabase(db), { retentionDays: 7 }).maintain()
const explainedNames = new Set<string>()

t.test('a claim costs the same with three times as many ended commands', async (t) => {
  const costs = async () => {
    const run = (database: Database) => claim.run(database, null)
    return [...(await explained(db, 'custom', run)), ...(await explained(db, 'generic', run))]
  }
  await grow(db, NOTHING, FEW, MANY)
  const few = await costs()
  await grow(db, FEW, MANY)
  const many = await costs()
  t.equal(many.length, 2)
  for (const [i, plan] of many.entries()) {
    const before = few[i]
    t.ok(plan.rowsRead <= claim.mostRows, `${plan.rowsRead} rows`)
    t.ok(plan.indexes.has('commands_due') && before?.indexes.has('commands_due'))
    const mostPages = (before?.pages ?? 0) * MOST_GROWTH
    t.ok(plan.pages <= mostPages, `${before?.pages} pages, then ${plan.pages}`)
  }
})

for (const statement of statementsOf(MANY)) {
  t.test(`${statement.title}: reads by an index, and no more than it may`, async (t) => {
    const after = (await statement.cursor?.(plainDatabase(db))) ?? null
    for (const mode of statement.modes) {
      const plans = await explained(db, mode, (database) => statement.run(database, after))
      for (const { name } of plans) explainedNames.add(name)
      t.same(faultsOf(statement, plans), [], `${mode}: ${rowsOf(plans)} rows`)
    }
  })
}

const nameIn = ([, name = '']: RegExpMatchArray) => name

t.test('every statement of src/db was explained', async (t) => {
  const folder = fileURLToPath(new URL('../../../src/db/', import.meta.url))
  const texts = readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => readFileSync(join(folder, file), 'utf8'))
  const families = new Set([...explainedNames, ...NOT_EXPLAINED].map((name) => name.split('.')[0]))
  const found = texts.flatMap((text) => [
    ...[...text.matchAll(/\bname(?: =|:) (?:[^'`\n]*\? )?'([a-z_]+\.[a-z_]+)'/g)].map(nameIn),
    // Otherwise named, such as by a helper's argument.
    ...[...text.matchAll(/'([a-z_]+\.[a-z_]+)'/g)]
      .map(nameIn)
      .filter((name) => families.has(name.split('.')[0])),
    ...(/`jobs\.\$/.test(text)
      ? [...text.matchAll(/\brun(?:<[^(]*>)?\('([a-z_]+)'/g)].map(
          (match) => `jobs.${nameIn(match)}`,
        )
      : []),
  ])
  t.ok(found.length > 150, `${found.length} are named`)
  const missing = found.filter((name) => !explainedNames.has(name) && !NOT_EXPLAINED.has(name))
  t.same([...new Set(missing)], [])
})

t.test('a job that is read costs nothing of the changes of others', async (t) => {
  await db.query(`
    insert into job_changes (job_no, became) select job_no, 'queued'
    from jobs cross join generate_series(1, 5000) where not is_settled`)
  const read = (database: Database) => jobStore(database, database).find('old-1')
  const [plan] = await explained(db, 'custom', read)
  t.ok(plan && plan.pages <= 20, `${plan?.pages} pages`)
})

t.test('no index but commands_due can serve a claim, or the gauge', async (t) => {
  // Each that could would be taken at times: beside a held snapshot one was read from end to end, with all its dead entries.
  const settings = { enable_seqscan: 'off' }
  for (const mode of ['custom', 'generic'] as const) {
    const work = async (database: Database) => {
      await db.query('drop index commands_due')
      const outbox = commandOutbox(database, 'drill')
      await outbox.claim(64, randomUUID())
      await outbox.countWaiting()
    }
    const plans = await explained(db, mode, work, settings)
    t.ok(plans.length >= 2)
    for (const { name, nodes } of plans)
      t.ok(nodes.includes('Seq Scan commands'), `${name}, ${mode}`)
  }
})

t.test('what has expired is found by index, however many are open', async (t) => {
  // As dear as in a large table: taken for many, they would be looked for in all of it.
  const settings = { cpu_index_tuple_cost: '1' }
  for (const mode of ['custom', 'generic'] as const) {
    const work = async (database: Database) => {
      await db.query(`
        insert into commands (request_id, device_id, action, params, request_hash, admin, expires_at, push_state)
        select 'campaign-' || n, (select device_id from devices limit 1), 'ping', '{}', '', 'drill',
          now() + interval '1 day', 'off' from generate_series(1, 10000) n`)
      await db.query(`delete from commands where state = 'open' and expires_at <= now()`)
      await db.query('analyze commands')
      const none = { deviceId: null, alias: null, outcome: null, action: null }
      const filter = { ...none, status: 'expired' } as const
      await commandStore(database).list({ limit: 51, after: null }, filter)
    }
    const list = (await explained(db, mode, work, settings)).at(-1)
    t.ok(list?.indexes.has('commands_sweep'), mode)
  }
})

t.test('of all devices those that are offline are listed, in each of three ways', async (t) => {
  const silent = 'not is_deleted and heard_after < now() - make_interval(secs => $1)'
  const plain = `
    select d.device_id from devices d join device_status s using (device_id)
    where d.deleted_at is null and (s.last_seen_at is null or s.last_seen_at < now() - make_interval(secs => $1))
    order by d.created_at desc, d.device_id desc`
  await db.query('begin')
  // One was never heard of; the release before deleted another.
  await db.query('update device_status set last_seen_at = null where device_id = $1', [deviceId(7)])
  await db.query('update devices set deleted_at = now() where device_id = $1', [deviceId(1_000)])
  const store = deviceStore(plainDatabase(db))
  const ways: readonly [offlineForS: number, isMany: boolean, found: number][] = [
    [0, true, 5_999],
    [1_500, true, 6],
    [43_200, false, 6],
    [604_800, false, 1],
  ]
  for (const [offlineForS, isMany, found] of ways) {
    const count = `select count(*)::int as silent from device_status where ${silent}`
    const { rows } = await db.query(count, [offlineForS])
    t.equal(rows[0].silent > 3_000, isMany, `${rows[0].silent} may be silent for ${offlineForS} s`)
    const expected = (await db.query(plain, [offlineForS])).rows.map((row) => row.device_id)
    t.equal(expected.length, found)
    for (const limit of [4, 500]) {
      const ids: string[] = []
      for (let after: { at: string; id: string } | null = null; ids.length < 3_000; ) {
        const page = await store.list({ limit, after }, { alias: null, offlineForS })
        ids.push(...page.map((row) => row.deviceId))
        const last = page.at(-1)
        if (last === undefined || page.length < limit || (limit === 4 && ids.length > 40)) break
        after = { at: last.createdAt, id: last.deviceId }
      }
      t.same(ids, expected.slice(0, ids.length), `${offlineForS} s, by ${limit}`)
      t.ok(ids.length >= Math.min(found, limit === 4 ? 40 : 3_000))
    }
  }
  await db.query('rollback')
})

t.test('a heartbeat stays a HOT update, and a deletion ends the wait for one', async (t) => {
  await db.query('begin')
  const updates = async () => {
    const text = `select n_tup_upd::int as all, n_tup_hot_upd::int as hot from pg_stat_xact_user_tables where relname = 'device_status'`
    return (await db.query(text)).rows[0]
  }
  const before = await updates()
  // Far apart: a page has room for some.
  const ids = Array.from({ length: 100 }, (_, n) => deviceId(1 + n * 59))
  await db.query(
    `update device_status set last_seen_at = last_seen_at + interval '1 s', version_code = 42, app_versions = '{"com.a":42}'
     where device_id = any ($1)`,
    [ids],
  )
  const after = await updates()
  t.equal(after.all - before.all, 100)
  t.ok(after.hot - before.hot >= 95, `${after.hot - before.hot} of 100 are HOT`)
  const wrong = await db.query(`
    select from device_status
    where heard_after > last_seen_at or heard_after <= last_seen_at - interval '6 hours'
      or (last_seen_at is null) <> (heard_after = '-infinity')`)
  t.equal(wrong.rowCount, 0)
  await deviceStore(plainDatabase(db)).delete(deviceId(5), BY, () => {})
  const deleted = await db.query(
    'select device_id from device_status where is_deleted and device_id < $1',
    [deviceId(6_000)],
  )
  t.same(deleted.rows, [{ device_id: deviceId(5) }])
  await db.query('rollback')
})

t.test('a page of jobs reads what changed once, not for each job', async (t) => {
  await db.query('begin')
  const store = jobStore(plainDatabase(db), plainDatabase(db))
  t.equal((await store.list({ limit: 51, after: null }, null)).length, 51)
  const scans = await db.query(
    `select (seq_scan + idx_scan)::int as count from pg_stat_xact_user_tables where relname = 'job_changes'`,
  )
  t.equal(scans.rows[0].count, 1)
  await db.query('rollback')
})

t.test('a page of valid enrollment tokens costs its rows', async (t) => {
  for (const status of ['active', 'exhausted'] as const) {
    for (const mode of ['custom', 'generic'] as const) {
      const list = (database: Database) =>
        enrollmentTokenStore(database).list({ limit: 11, after: null }, { status, alias: null })
      const [plan] = await explained(db, mode, list)
      t.ok(plan && plan.rowsRead <= 3 * 11, `${status}, ${mode}: ${plan?.rowsRead} rows`)
    }
  }
})

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
