/** The order of the feed of events, and when an event may be read: only once nothing can come before it. */
import { randomUUID } from 'node:crypto'
import t from 'tap'
import { SettledEvents } from '../../src/db/events/settled-events.ts'
import { Pool, type Query } from '../../src/db/postgres/pool.ts'
import { prunes } from '../../src/db/retention.ts'
import { until } from '../../testkit/until.ts'
import { connect, PATIENT } from '../helpers/database.ts'
import { startService } from '../helpers/service.ts'
import { FORCE, openStream, readAll, TOKEN, told } from './reading.ts'

const service = await startService(t)
const db = await connect(t, service.databaseUrl)
const pool = new Pool({ ...PATIENT, url: service.databaseUrl, maxConnections: 4, isPrepared: true })
t.teardown(() => pool.close(1_000))
const now = async (): Promise<string> =>
  (await service.call('GET', '/admin/events?after=now')).body.cursor

t.test('what an unfinished transaction may still precede is not read', async (t) => {
  const [slow, quick] = [
    await connect(t, service.databaseUrl),
    await connect(t, service.databaseUrl),
  ]
  const [first, second, third] = [randomUUID(), randomUUID(), randomUUID()]
  const after = await now()
  await slow.query('begin')
  await slow.query(TOKEN, [first])
  await slow.query(FORCE) // as at its commit: it takes its number
  await quick.query(TOKEN, [second])
  t.same((await readAll(service, after)).events, [])
  const held = service.call('GET', `/admin/events?after=${after}&wait_ms=30000`)
  const stream = await openStream(t, service.origin, { query: `?after=${after}` })
  await until(async () => {
    const { body } = await service.call('GET', `/admin/events?after=${after}`)
    return body.behind_s >= 1
  }, 'behind_s')
  t.match((await service.call('GET', '/metrics')).text, /^fleetloop_events_behind_seconds (?!0$)/m)
  t.equal(stream.events().length, 0)
  await slow.query('commit')
  const expected = [first, second, third].map((id) => ['token.created', id])
  t.same(told((await held).body.events), expected.slice(0, 2))
  await quick.query(TOKEN, [third])
  t.same(told((await readAll(service, after)).events), expected)
  await until(() => stream.events().length === 3, 'the stream')
  t.same(told(stream.events()), expected)
  stream.close()
  t.equal((await service.call('GET', '/admin/events?after=now')).body.behind_s, 0)
})

t.test(
  'a page goes on behind a great gap of numbers, and behind all that a filter leaves out',
  async (t) => {
    const after = await now()
    const events = (from: number, to: number, type: string) =>
      db.query(
        `insert into fleet_events (type, subject) select $3, 'g' || n from generate_series($1::int, $2::int) n`,
        [from, to, type],
      )
    await events(1, 5_200, 'token.consumed')
    await db.query(`select nextval('fleet_events_event_id_seq') from generate_series(1, 12000)`)
    await events(5_201, 5_203, 'token.revoked')
    const { events: all } = await readAll(service, after, { limit: '500' })
    t.same(
      all.map(({ subject }) => subject),
      Array.from({ length: 5_203 }, (_, n) => `g${n + 1}`),
    )
    const first = await service.call(
      'GET',
      `/admin/events?after=${after}&types=token.revoked&wait_ms=30000`,
    )
    t.match(first.body, { events: [], has_more: true }, 'an empty page does not wait')
    const some = await readAll(service, after, { types: 'token.revoked' })
    t.equal(some.events.length, 3)
    t.equal(some.cursor, (await readAll(service, after, { limit: '500' })).cursor)
  },
)

t.test('a transaction that is long, but writes no event, holds nothing back', async (t) => {
  const long = await connect(t, service.databaseUrl)
  await long.query('begin')
  await long.query('create table unrelated (n int)')
  await long.query(TOKEN, [randomUUID()]) // its event comes with its commit
  const after = await now()
  const id = randomUUID()
  await db.query(TOKEN, [id])
  t.same(told((await readAll(service, after)).events), [['token.created', id]])
  await long.query('rollback')
})

t.test('order is that of the commits where one change waited for another', async (t) => {
  const [early, late] = [
    await connect(t, service.databaseUrl),
    await connect(t, service.databaseUrl),
  ]
  const { deviceId } = await service.enroll('F05')
  const after = await now()
  // `early` has its transaction id first, and then waits for a row that `late` has changed.
  await early.query('begin')
  const own = randomUUID()
  await early.query(TOKEN, [own])
  await late.query('begin')
  const lock = 'update devices set enrollment_no = enrollment_no + 1 where device_id = $1'
  await late.query(lock, [deviceId])
  const waited = early.query(lock, [deviceId])
  await until(async () => {
    const sql = `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`
    return (await db.query(sql)).rowCount === 1
  }, 'the wait')
  await late.query('commit')
  await waited
  await early.query('commit')
  const { events } = await readAll(service, after)
  t.same(
    events.map(({ type, detail }) => [type, detail?.['enrollment_no'] ?? null]),
    [
      ['device.re_enrolled', 2],
      ['token.created', null],
      ['device.re_enrolled', 3],
    ],
  )
})

t.test('a cursor is 410 once its event is gone, and 422 where it is none', async (t) => {
  const { events } = await readAll(service)
  const refusal = async (after: string, status: number, code: string) => {
    const response = await service.call('GET', `/admin/events?after=${encodeURIComponent(after)}`)
    t.match(response, { status, body: { code } }, after)
    const stream = await openStream(t, service.origin, { headers: { 'last-event-id': after } })
    t.equal(stream.status, status)
  }
  const forged = (at: string, id: unknown, list = 'events') =>
    Buffer.from(JSON.stringify([at, id, list])).toString('base64url')
  const { id: newest = '', at: newestAt = '' } = events.at(-1) ?? {}
  const [, newestNo] = JSON.parse(Buffer.from(newest, 'base64url').toString())
  await refusal(forged(newestAt, String(Number(newestNo) + 1_000)), 410, 'cursor_gone')
  await refusal(forged('2026-01-31T09:15:27.042000Z', newestNo), 410, 'cursor_gone')
  for (const bad of [
    'x',
    '0',
    forged(newestAt, newestNo, 'audit'),
    forged(newestAt, '1e3'),
    forged(newestAt, 7),
  ]) {
    await refusal(bad, 422, 'invalid_field')
  }
  t.match(
    (await service.call('GET', '/admin/events?types=device.enroled')).body.detail,
    'Did you mean device.enrolled?',
  )

  const before = events.length
  await db.query(`update fleet_events set at = at - interval '8 days' where event_id <= $1`, [
    newestNo,
  ])
  const { rows: kept } = await db.query('select count(*)::int as n from fleet_events')
  const days = {
    commandRetentionDays: 3_650,
    auditRetentionDays: 3_650,
    downloadRetentionDays: 3_650,
  }
  const rest = { tokenRetentionDays: 3_650, deviceRetentionDays: 3_650, signatureS: 1_000 }
  for (const prune of prunes(pool, { ...days, ...rest, eventsRetentionDays: 7 })) {
    let last: string | null = null
    for (let count = 10; count === 10; ) ({ count, last } = await prune(10, last))
  }
  await refusal(events[3]?.id ?? '', 410, 'cursor_gone')
  const left = await db.query('select event_id::text as id from fleet_events order by event_id')
  t.same(
    left.rows,
    [{ id: newestNo }],
    `the newest of ${before}, of ${kept[0].n}, is kept whatever its age`,
  )
  const id = randomUUID()
  const after = await now()
  await db.query(TOKEN, [id])
  t.same(told((await readAll(service, after)).events), [['token.created', id]])
})

t.test('everybody who waits shares one poll, and nobody polls without them', async (t) => {
  let statements = 0
  const counted = {
    query<Row extends object>(query: Query) {
      statements += 1
      return pool.query<Row>(query)
    },
  }
  const settled = new SettledEvents(counted, () => performance.now())
  const { through } = await settled.current()
  t.equal(statements, 2)
  const wait = () => settled.wait(through, 30_000, new AbortController().signal)
  const waiting = Array.from({ length: 100 }, wait)
  t.equal(settled.isPolling, true)
  await until(() => statements >= 4, 'two polls')
  await db.query(TOKEN, [randomUUID()])
  const before = statements
  t.same(new Set(await Promise.all(waiting)), new Set([true]))
  t.ok(statements <= before + 6, `${statements - before} statements for 100 readers`)
  t.equal(settled.isPolling, false)

  const leaving = new AbortController()
  const left = settled.wait(settled.settled.through, 30_000, leaving.signal)
  leaving.abort()
  t.equal(await left, false)
  t.equal(settled.isPolling, false)
  t.equal(
    await settled.wait(settled.settled.through, 1, new AbortController().signal),
    false,
    'in time',
  )
})

t.test('a database that went back is noticed: nothing settled before counts', async (t) => {
  const answers = { last: 100, server: 'one', writers: [] as string[] }
  const fake = {
    async query<Row extends object>() {
      return { rows: [{ ...answers }] as unknown as readonly Row[], rowCount: 1 }
    },
  }
  const settled = new SettledEvents(fake, () => 0)
  t.match(await settled.current(), { through: 100, server: 'one' })
  Object.assign(answers, { last: 90, server: 'two', writers: ['3/1'] })
  const refreshed = settled.current()
  await until(() => settled.settled.server === 'two', 'the other server')
  t.equal(settled.settled.through, 0)
  answers.writers = ['3/2', '4/1']
  t.match(await refreshed, { through: 90 }, 'its only writer has ended; others came later')
})

t.test('numbers that a crash lets PostgreSQL give out once more are not settled', async (t) => {
  const answers = { last: 100, server: 'one', writers: [] as string[] }
  let isAway = false
  let nowMs = 0
  const fake = {
    async query<Row extends object>() {
      if (isAway) throw new Error('away')
      return { rows: [{ ...answers }] as unknown as readonly Row[], rowCount: 1 }
    },
  }
  const crashes = {
    'seen by a look that fails': async (settled: SettledEvents) => {
      isAway = true
      await t.rejects(settled.current())
      isAway = false
    },
    'while nobody looks': async () => {
      nowMs += 5_000
    },
    'the last number is lower': async () => {
      answers.last = 132
    },
  }
  for (const [name, crash] of Object.entries(crashes)) {
    Object.assign(answers, { last: 100, writers: [] })
    const settled = new SettledEvents(fake, () => (nowMs += 20))
    t.match(await settled.current(), { through: 100 })
    Object.assign(answers, { last: 133, writers: ['3/17'] })
    await settled.current()
    await crash(settled)
    answers.writers = ['3/1'] // it has the number 133 now
    t.match(await settled.current(), { through: 100 }, name)
    answers.writers = []
    t.match(await settled.current(), { through: answers.last }, name)
  }
})

t.test('a change that fails to be told is not made', async (t) => {
  await db.query(
    `alter table fleet_events add constraint full_disk check (type <> 'token.created') not valid`,
  )
  const id = randomUUID()
  await t.rejects(db.query(TOKEN, [id]), { code: '23514' })
  await db.query('alter table fleet_events drop constraint full_disk')
  const left = await db.query('select from enrollment_tokens where token_id = $1', [id])
  t.equal(left.rowCount, 0)
})
