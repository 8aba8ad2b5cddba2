/** The days of the heartbeat history on a real database: ahead, behind, the net, and several replicas. */
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import {
  type PartitionChanges,
  partitions,
  runsOfDays,
} from '../../src/db/heartbeats/partitions.ts'
import { Pool } from '../../src/db/postgres/pool.ts'
import { untilMidnightIsFar } from '../../testkit/until.ts'
import { connect, createDatabase, databaseOf } from '../helpers/database.ts'

const RETENTION_DAYS = 7

await untilMidnightIsFar()

async function prepare(t: Test) {
  const url = await createDatabase(t)
  const db = await connect(t, url)
  // The database's own days, as it names its partitions.
  const day = async (offset: number): Promise<string> => {
    const { rows } = await db.query(
      `select to_char((now() at time zone 'UTC')::date + $1::int, 'YYYYMMDD') as day`,
      [offset],
    )
    return rows[0].day
  }
  const existing = async (): Promise<readonly string[]> => {
    const { rows } = await db.query(
      `select inhrelid::regclass::text as name from pg_inherits
       where inhparent = 'heartbeats'::regclass order by 1`,
    )
    return rows.map((row) => row.name)
  }
  const days = async (from: number, to: number): Promise<readonly string[]> => {
    const names: string[] = []
    for (let offset = from; offset <= to; offset += 1) names.push(`heartbeats_${await day(offset)}`)
    return names
  }
  const shift = { days: 0 }
  const replica = ({ queryTimeoutMs = 30_000 } = {}) => {
    const pool = new Pool({ url, maxConnections: 1, isPrepared: true, queryTimeoutMs })
    t.teardown(() => pool.close(5_000))
    return partitions(pool, { retentionDays: RETENTION_DAYS, shiftDays: () => shift.days })
  }
  const insert = (bucket: string, seq = 0) =>
    db.query(
      `insert into heartbeats (bucket, device_id, seq, received_at, status, request_id)
       values (${bucket}, gen_random_uuid(), $1, now(), 'ok', 'r1')`,
      [seq],
    )
  return { db, day, days, existing, replica, insert, shift }
}

t.test('today and 7 days ahead are made, once', async (t) => {
  const { db, days, existing, replica, insert } = await prepare(t)
  const expected = await days(0, 7)
  t.same(await replica().maintain(), { created: expected, dropped: [], failed: [] })
  t.same(await existing(), [...expected, 'heartbeats_default'].sort())
  t.same(await replica().maintain(), { created: [], dropped: [], failed: [] })
  await insert('now()')
  await insert(`date_trunc('day', now() at time zone 'UTC') at time zone 'UTC' + interval '1 day'`)
  await insert(
    `date_trunc('day', now() at time zone 'UTC') at time zone 'UTC' + interval '1 day - 1 microsecond'`,
  )
  const { rows } = await db.query(
    'select tableoid::regclass::text as name from heartbeats order by 1',
  )
  t.same(
    rows.map((row) => row.name),
    [expected[0], expected[0], expected[1]],
    'midnight UTC is the first instant of its day',
  )
})

t.test('rows in the net move into their day', async (t) => {
  const { db, days, replica, insert } = await prepare(t)
  for (let seq = 0; seq < 50; seq += 1) await insert(`now() + interval '${seq % 3} days'`, seq)
  await insert(`now() - interval '2 days'`, 98)
  await insert(`now() - interval '${RETENTION_DAYS} days'`, 99)
  const before = await db.query('select * from heartbeats order by seq')
  t.equal((await db.query('select from heartbeats_default')).rowCount, 52)
  t.same((await replica().maintain()).failed, [])
  const after = await db.query('select * from heartbeats order by seq')
  t.same(after.rows, before.rows, 'none is lost or changed')
  t.equal((await db.query('select from heartbeats_default')).rowCount, 0, 'also past days')
  const past = [...(await days(-RETENTION_DAYS, -RETENTION_DAYS)), ...(await days(-2, -2))]
  for (const day of past) t.equal((await db.query(`select from ${day}`)).rowCount, 1)
  const [today] = await days(0, 0)
  t.equal((await db.query(`select from ${today}`)).rowCount, 17)
})

t.test('what the net holds beyond the retention goes with it', async (t) => {
  const { db, days, existing, replica, insert, shift } = await prepare(t)
  await insert('now()')
  await insert(`now() - interval '${RETENTION_DAYS + 1} days'`)
  t.same(await replica().maintain(), { created: await days(0, 7), dropped: [], failed: [] })
  t.equal((await db.query('select from heartbeats')).rowCount, 1)

  // After a sleep of a month: the days ahead have passed, and all that they held.
  shift.days = 30
  const slept = await replica().maintain()
  t.same(slept.created, await days(30, 37))
  t.same(slept.dropped, await days(0, 7))
  t.same(await existing(), [...(await days(30, 37)), 'heartbeats_default'].sort())
})

t.test('a day is one of UTC, also where the server’s clock is put forward or back', async (t) => {
  const { db, day, existing, replica, insert, shift } = await prepare(t)
  const { rows } = await db.query('select current_database() as name')
  await db.query(`alter database ${rows[0].name} set timezone = 'Europe/Berlin'`)
  for (const change of ['20270328', '20271031']) {
    const today = `(now() at time zone 'UTC')::date`
    const { rows } = await db.query(`select $1::date - ${today} as days`, [change])
    shift.days = rows[0].days
    const hours = ['-1 s', '0 s', '22:30', '23:30', '24:30']
    for (const after of hours) await insert(`'${change} 00:00Z'::timestamptz + interval '${after}'`)
    t.same((await replica().maintain()).failed, [])
    t.ok((await existing()).includes(`heartbeats_${await day(shift.days)}`))
    t.equal((await db.query('select from heartbeats_default')).rowCount, 0)
    const ofDay = `select from heartbeats_${change}`
    t.equal((await db.query(ofDay)).rowCount, hours.length - 2)
  }
})

t.test('whatever day it is for the session, days are those of UTC', async (t) => {
  const { db, day, days, insert } = await prepare(t)
  const replica = partitions(databaseOf(db), { retentionDays: 7 })
  // Without the pool, which would pin UTC. West of it, it is another day from midnight to noon, east from ten o'clock on.
  for (const zone of ['Etc/GMT+12', 'Etc/GMT-14']) {
    await db.query(`set timezone = '${zone}'`)
    const { rows } = await db.query(`select (now() at time zone 'UTC')::date = now()::date as same`)
    t.comment(`${zone}: ${rows[0].same ? 'the same day now' : 'another day now'}`)
    await insert(`now() - interval '${RETENTION_DAYS} days'`)
    await insert(`now() - interval '${RETENTION_DAYS + 1} days'`)
    const { created, dropped, failed } = await replica.maintain()
    const expected = [...(await days(-RETENTION_DAYS, -RETENTION_DAYS)), ...(await days(0, 7))]
    t.same([created, dropped, failed], [expected, [], []], zone)
    t.equal((await db.query('select from heartbeats')).rowCount, 1)
    t.equal((await db.query('select from heartbeats_default')).rowCount, 0)
    const [from, to] = [await day(-RETENTION_DAYS - 1), await day(-RETENTION_DAYS)]
    await db.query(
      `create table heartbeats_${from} partition of heartbeats
       for values from ('${from} 00:00:00+00') to ('${to} 00:00:00+00')`,
    )
    t.same((await replica.maintain()).dropped, [`heartbeats_${from}`])
    for (const partition of created) await db.query(`drop table ${partition}`)
  }
})

t.test('whole days beyond the retention are dropped', async (t) => {
  const { db, day, days, existing, replica, insert } = await prepare(t)
  for (const offset of [-40, -RETENTION_DAYS - 1, -RETENTION_DAYS, -1]) {
    const [from, to] = [await day(offset), await day(offset + 1)]
    await db.query(
      `create table heartbeats_${from} partition of heartbeats
       for values from ('${from} 00:00:00+00') to ('${to} 00:00:00+00')`,
    )
    await insert(`now() + interval '${offset} days'`)
  }
  await db.query(
    `create table heartbeats_2019_others partition of heartbeats
     for values from ('20190101 00:00:00+00') to ('20200101 00:00:00+00')`,
  )
  const gone = [
    ...(await days(-40, -40)),
    ...(await days(-RETENTION_DAYS - 1, -RETENTION_DAYS - 1)),
  ]
  const { dropped, failed } = await replica().maintain()
  t.same(dropped, gone)
  t.same(failed, [])
  const left = await existing()
  for (const name of gone) t.notOk(left.includes(name))
  const kept = [...(await days(-RETENTION_DAYS, -RETENTION_DAYS)), ...(await days(-1, 7))]
  t.same(left, [...kept, 'heartbeats_2019_others', 'heartbeats_default'].sort(), 'no name of ours')
  t.equal((await db.query('select from heartbeats')).rowCount, 2)
})

t.test('a reader that will not end keeps its day and nothing else', async (t) => {
  const { db, day, days, existing, replica } = await prepare(t)
  const [from, to] = [await day(-30), await day(-29)]
  await db.query(
    `create table heartbeats_${from} partition of heartbeats
     for values from ('${from} 00:00:00+00') to ('${to} 00:00:00+00')`,
  )
  await db.query('begin')
  await db.query(`select from heartbeats_${from}`)
  const changes = await replica().maintain()
  t.same(changes.created, await days(0, 7))
  t.match(changes, { dropped: [], failed: [{ partition: `heartbeats_${from}` }] })
  await db.query('commit')
  t.same((await replica().maintain()).dropped, [`heartbeats_${from}`], 'the next turn drops it')
  t.notOk((await existing()).includes(`heartbeats_${from}`))
})

t.test('replicas that race miss no day, do none twice and fail at none', async (t) => {
  const { db, day, days, existing, replica, insert } = await prepare(t)
  const replicas = [replica(), replica(), replica()]
  const expected = [...(await days(0, 7)), 'heartbeats_default'].sort()
  const [from, to] = [await day(-30), await day(-29)]
  for (let round = 0; round < 20; round += 1) {
    for (const name of await existing()) {
      if (name !== 'heartbeats_default') await db.query(`drop table ${name}`)
    }
    await db.query(
      `create table heartbeats_${from} partition of heartbeats
       for values from ('${from} 00:00:00+00') to ('${to} 00:00:00+00')`,
    )
    await insert('now()', round)
    const all = await Promise.all(replicas.map((each) => each.maintain()))
    t.same(
      all.flatMap(({ failed }) => failed),
      [],
    )
    t.same(done(all, 'created'), await days(0, 7), 'each day is reported once')
    t.same(done(all, 'dropped'), [`heartbeats_${from}`])
    t.same(await existing(), expected)
  }
})

t.test(
  'the index of a large day takes its time, and keeps no other replica from its days',
  async (t) => {
    const { db, day, days, replica } = await prepare(t)
    const [from, to] = [await day(-1), await day(0)]
    await db.query(
      `create table heartbeats_${from} partition of heartbeats
     for values from ('${from} 00:00:00+00') to ('${to} 00:00:00+00')`,
    )
    // As if it had a hundred million rows.
    await db.query(`
    create function dawdle() returns event_trigger language plpgsql as $$ begin perform pg_sleep(3); end $$;
    create event trigger dawdle on ddl_command_end when tag in ('CREATE INDEX') execute function dawdle()`)
    const index = async () => {
      const { rows } = await db.query(`select to_regclass('heartbeats_${from}_device') as name`)
      return rows[0].name
    }
    const indexing = replica({ queryTimeoutMs: 1_500 }).maintain()
    const building = `select from pg_stat_activity
    where datname = current_database() and state = 'active' and query like 'create index if not exists %'`
    while ((await db.query(building)).rowCount === 0) await sleep(20)
    await db.query(`drop table heartbeats_${await day(3)}`)
    const changes = await replica({ queryTimeoutMs: 1_500 }).maintain()
    t.same(changes, { created: await days(3, 3), dropped: [], failed: [] })
    t.equal(await index(), null, 'which is still being built')
    t.same((await indexing).failed, [])
    t.equal(await index(), `heartbeats_${from}_device`)
  },
)

function done(all: readonly PartitionChanges[], which: 'created' | 'dropped'): readonly string[] {
  return all.flatMap((changes) => changes[which]).sort()
}

t.test('days that follow each other are one run, over the ends of months and years', async (t) => {
  const runs = (...days: readonly string[]) =>
    runsOfDays(days.map((day) => `heartbeats_${day}`)).map(({ partition, last }) =>
      [partition, last ?? ''].join().replaceAll('heartbeats_', ''),
    )
  t.same(runs(), [])
  t.same(runs('20261128'), ['20261128,'])
  t.same(runs('20261230', '20261231', '20270101', '20270102'), ['20261230,20270102'])
  t.same(runs('20280228', '20280229', '20280301', '20280303'), ['20280228,20280301', '20280303,'])
})
