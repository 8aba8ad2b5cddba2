/** The way to PostgreSQL under bad input, lost connections, time-outs and overload. */

import { createServer, type Socket } from 'node:net'
import pg from 'pg'
import t, { type Test } from 'tap'
import { DatabaseHealth } from '../../src/db/health/health.ts'
import { CONNECT, type Outcome } from '../../src/db/health/outcome.ts'
import { troubleOf } from '../../src/db/health/trouble.ts'
import { Connections } from '../../src/db/postgres/connections.ts'
import { backoffMs, Dialer } from '../../src/db/postgres/dialer.ts'
import { Pool, type PoolOptions } from '../../src/db/postgres/pool.ts'
import type { ServerClient } from '../../src/db/postgres/server-client.ts'
import { sessionVerifier } from '../../src/db/postgres/session-check.ts'
import { OwnWaitError } from '../../src/db/postgres/sqlstate.ts'
import { createStores } from '../../src/db/stores.ts'
import type { AttemptRecord, Claim } from '../../src/domain/delivery/outbox.ts'
import { failedCallOf } from '../../src/domain/failed-call.ts'
import { errorText } from '../../src/lib/error-text.ts'
import { lineTo } from '../../testkit/database/tcp-proxy.ts'
import { tokenId } from '../../testkit/push-id.ts'
import { until } from '../../testkit/until.ts'
import { connect, createDatabase, PATIENT } from '../helpers/database.ts'
import { listenFor } from '../helpers/listen.ts'
import { readCluster } from '../runner/cluster.ts'

/** A test of a time limit gives its own. */
async function prepare(t: Test, options: Partial<PoolOptions> = {}) {
  const url = await createDatabase(t)
  const outcomes: unknown[] = []
  const pool = new Pool({
    ...PATIENT,
    url,
    maxConnections: 1,
    isPrepared: true,
    onOutcome: (outcome) => outcomes.push(outcome.kind === 'failed' ? outcome.error : undefined),
    ...options,
  })
  t.teardown(() => pool.close(5_000))
  const db = await connect(t, url)
  await db.query('create table things (id integer primary key)')
  const pid = async (): Promise<number> => {
    const { rows } = await pool.query<{ pid: number }>(sql('select pg_backend_pid() as pid'))
    return rows[0]?.pid ?? 0
  }
  const kill = (backend: number) => db.query('select pg_terminate_backend($1, 10000)', [backend])
  return { url, pool, db, pid, kill, outcomes }
}

const UNKNOWN_ID = '018f0000-0000-7000-8000-000000000000'
const ACTIVE = `select from pg_stat_activity where pid = $1 and state = 'active' and query like '%sleep%'`

const CLAIM: Claim = {
  requestId: 'none',
  leaseId: UNKNOWN_ID,
  deviceId: UNKNOWN_ID,
  alias: 'D01',
  action: 'ping',
  params: {},
  attempt: 1,
  pushFailures: 0,
  expiresAt: new Date(0),
  pushId: tokenId('push-1'),
  pushIdAt: null,
  enrollmentNo: 1,
  hmacSecretId: 'default',
}

const STORES = {
  isPrepared: true,
  verifyServer: async () => {},
  isUnsafeAllowed: true,
  maxConnections: 5, // two of them for all requests
  dedupWindowS: 10,
  heartbeatIntervalS: 300,
  heartbeatRetentionDays: 7,
  deviceOfflineS: 1_500,
  instance: 'one',
}

function sql(text: string, values: readonly unknown[] = []) {
  return { name: '', text, values }
}

t.test('bad input costs no connection', async (t) => {
  const { pool, pid } = await prepare(t)
  const first = await pid()
  await pool.query(sql('insert into things values (1)'))
  for (const [text, code] of [
    ['insert into things values (1)', '23505'],
    ['insert into things values (null)', '23502'],
    [`select 'x'::uuid`, '22P02'],
    ['select 1/0', '22012'],
    ['select * from nowhere', '42P01'],
    [`do $$ begin raise exception 'no'; end $$`, 'P0001'],
  ] as const) {
    await t.rejects(pool.query(sql(text)), { code }, code)
    t.equal(await pid(), first, `the connection stays after ${code}`)
    await t.rejects(
      pool.transaction((tx) => tx.query(sql(text))),
      { code },
    )
    t.equal(await pid(), first, `and after a transaction with ${code}`)
  }
})

t.test('a transaction is kept whole or not at all', async (t) => {
  const { pool, db } = await prepare(t)
  const value = await pool.transaction(async (tx) => {
    await tx.query(sql('insert into things values (1)'))
    return 'kept'
  })
  t.equal(value, 'kept')
  const fault = new Error('changed my mind')
  const refused = pool.transaction(async (tx) => {
    await tx.query(sql('insert into things values (2)'))
    throw fault
  })
  await t.rejects(refused, fault)
  t.same((await db.query('select id from things')).rows, [{ id: 1 }])
})

t.test('a COMMIT that answers ROLLBACK is an error', async (t) => {
  const { pool, db } = await prepare(t)
  const swallowed = pool.transaction(async (tx) => {
    await tx.query(sql('insert into things values (1)'))
    await tx.query(sql('select 1/0')).catch(() => {})
    return 'acknowledged'
  })
  await t.rejects(swallowed, { message: /ROLLBACK/ })
  t.equal((await db.query('select from things')).rowCount, 0)
  t.equal((await pool.query(sql('select 1'))).rowCount, 1, 'the next query works')
})

t.test('a connection killed while idle costs nobody a query for long', async (t) => {
  const { pool, pid, kill } = await prepare(t)
  const first = await pid()
  await kill(first)
  // The pool may not have heard yet: then the query says so, and the next one works.
  await pool.query(sql('select 1')).catch((error) => t.match(error, { code: 'db_unavailable' }))
  t.not(await pid(), first)
})

t.test('a connection killed within a transaction is db_unavailable', async (t) => {
  const { pool, db, pid, kill } = await prepare(t)
  const first = await pid()
  const lost = pool.transaction(async (tx) => {
    await tx.query(sql('insert into things values (1)'))
    await kill(first) // idle in transaction: pg would end the process
    await tx.query(sql('insert into things values (2)'))
  })
  await t.rejects(lost, { name: 'AppError', code: 'db_unavailable' })
  t.not(await pid(), first)
  t.equal((await db.query('select from things')).rowCount, 0)
})

t.test('a connection killed before its COMMIT is db_unavailable', async (t) => {
  const { pool, pid, kill } = await prepare(t)
  const first = await pid()
  const lost = pool.transaction(async () => {
    await kill(first)
    return 'acknowledged'
  })
  await t.rejects(lost, { code: 'db_unavailable' })
  t.not(await pid(), first)
})

t.test('a connection killed within a query is db_unavailable', async (t) => {
  const { pool, db, pid, kill, outcomes } = await prepare(t)
  const first = await pid()
  const lost = pool.query(sql('select pg_sleep(60)'))
  const isSleeping = async () => {
    const { rows } = await db.query(`select 1 from pg_stat_activity where wait_event = 'PgSleep'`)
    return rows.length > 0
  }
  while (!(await isSleeping()));
  await Promise.all([t.rejects(lost, { code: 'db_unavailable' }), kill(first)])
  t.ok(
    outcomes.some((outcome) => outcome instanceof Error),
    'the health watch was told',
  )
  t.not(await pid(), first)
  t.equal(outcomes.at(-1), undefined, 'and of the return')
})

t.test('an error that ends the session is db_unavailable, whatever its code', async (t) => {
  const { pool, pid } = await prepare(t)
  const first = await pid()
  await pool.query(sql('set exit_on_error = on'))
  await t.rejects(pool.query(sql('select 1/0')), { code: 'db_unavailable' })
  t.not(await pid(), first)
})

t.test('what takes too long is given up, and its connection with it', async (t) => {
  const { pool, db, pid } = await prepare(t, { queryTimeoutMs: 2_000, lockTimeoutMs: 500 })
  const first = await pid()
  await t.rejects(pool.query(sql('select pg_sleep(60)')), { code: 'db_unavailable' })
  t.not(await pid(), first)
  await db.query('begin')
  await db.query('lock table things')
  await t.rejects(pool.query(sql('select from things')), { code: 'db_unavailable' }, 'a lock')
  await db.query('commit')
  t.equal((await pool.query(sql('select from things'))).rowCount, 0, 'the next query works')
})

t.test('a server that does not answer is given up on our side', async (t) => {
  const { pool, pid, db } = await prepare(t, { queryTimeoutMs: 2_000, isPrepared: false })
  const first = await pid()
  // Without statement_timeout (PgBouncer) only our own clock ends it.
  await t.rejects(pool.query(sql('select pg_sleep(60)')), { code: 'db_unavailable' })
  t.not(await pid(), first, 'the poisoned connection is not handed out again')
  await db.query('select pg_terminate_backend($1)', [first])
})

t.test('a database that lets nobody in is db_unavailable', async (t) => {
  const { url } = await prepare(t)
  const nowhere = (change: (target: URL) => void) => {
    const target = new URL(url)
    change(target)
    return target.href
  }
  const away = [
    nowhere((target) => {
      target.pathname = '/no_such_database'
    }),
    nowhere((target) => {
      target.username = 'nobody_of_that_name'
    }),
    'postgres://localhost:1/postgres',
    'postgres://host.invalid/postgres',
  ]
  for (const [index, target] of away.entries()) {
    const pool = new Pool({ url: target, maxConnections: 1, isPrepared: true })
    await t.rejects(pool.query(sql('select 1')), { code: 'db_unavailable' }, `${index}`)
    await pool.close(1_000)
  }
})

t.test('a closed pool is db_unavailable, and says nothing about the database', async (t) => {
  const outcomes: unknown[] = []
  const onOutcome = (error: unknown) => outcomes.push(error)
  const pool = new Pool({ url: readCluster().url, maxConnections: 1, isPrepared: true, onOutcome })
  await pool.close(5_000)
  await t.rejects(pool.query(sql('select 1')), { code: 'db_unavailable' })
  t.same(outcomes, [])
})

t.test('an end waits for the statement that is under way', async (t) => {
  const url = await createDatabase(t)
  const pool = new Pool({ url, maxConnections: 1, isPrepared: true })
  const stores = createStores({ ...STORES, url })
  for (const [title, database, owner] of [
    ['a pool', pool, pool],
    ['all pools', stores.database, stores],
  ] as const) {
    await database.query(sql('select 1'))
    const ended: string[] = []
    await Promise.all([
      database.query(sql('select pg_sleep(0.2)')).then(() => ended.push('statement')),
      owner.close(30_000).then(() => ended.push('close')),
    ])
    t.same(ended, ['statement', 'close'], title)
  }
})

t.test('a server that only reads is as good as none, and its reads prove nothing', async (t) => {
  const lines: unknown[] = []
  const health = new DatabaseHealth(
    ({ event }) => lines.push(event),
    performance.now.bind(performance),
  )
  const { url, db, kill, pool, pid } = await prepare(t, { onOutcome: health.observe })
  const insert = { name: 'insert', text: 'insert into things values (1)' }
  const read = { name: 'read', text: 'select from things' }
  // Reads have a connection from before, which stays as it was; writes need a new one.
  const reads = new Pool({ url, maxConnections: 1, isPrepared: true, onOutcome: health.observe })
  t.teardown(() => reads.close(1_000))
  await reads.query(read)
  const first = await pid()
  const database = pg.escapeIdentifier(new URL(url).pathname.slice(1))
  await db.query(`alter database ${database} set default_transaction_read_only = on`)
  await kill(first)
  for (const _ of ['once', 'and again']) {
    await t.rejects(pool.query(insert), { code: 'db_unavailable' })
    await t.rejects(pool.query(read), { code: 'db_unavailable' })
    await reads.query(read)
  }
  t.same(lines, ['db.unavailable'])
  // A server may also turn under a connection: it says so, and the connection is the last time used.
  const before = await reads.query<{ pid: number }>({
    name: 'pid',
    text: 'select pg_backend_pid() as pid',
  })
  await reads.query({ name: 'turn', text: 'set default_transaction_read_only = on' })
  await t.rejects(reads.query(read), { code: 'db_unavailable' })
  await db.query(`alter database ${database} reset default_transaction_read_only`)
  const after = await reads.query<{ pid: number }>({
    name: 'pid',
    text: 'select pg_backend_pid() as pid',
  })
  t.not(after.rows[0]?.pid, before.rows[0]?.pid)
  t.equal((await pool.query(insert)).rowCount, 1)
  while (health.isDown) await pool.query(read)
  t.same(lines, ['db.unavailable', 'db.recovered'])
})

t.test('a session that changes while we run is used no more, and named', async (t) => {
  const verifySession = sessionVerifier({ isUnsafeAllowed: false, arePinsChecked: true })
  const { url, db, kill, pool, pid, outcomes } = await prepare(t, { verifySession })
  const database = pg.escapeIdentifier(new URL(url).pathname.slice(1))
  const set = (text: string) => db.query(`alter database ${database} ${text}`)
  const show = async (name: string) => (await pool.query(sql(`show ${name}`))).rows
  await set(`set idle_session_timeout = '10s'`)
  await set(`set datestyle = 'German'`)
  t.same(await show('idle_session_timeout'), [{ idle_session_timeout: '0' }])
  t.same(await show('datestyle'), [{ DateStyle: 'ISO, MDY' }])

  await db.query('create schema other')
  for (const [name, value, said] of [
    ['synchronous_commit', 'off', /synchronous_commit is "off" and must be "on"/],
    ['session_replication_role', 'replica', /session_replication_role is "replica"/],
    ['search_path', 'other', /leads to schema other; when the service started it led to public/],
  ] as const) {
    await set(`set ${name} = ${value}`)
    t.ok(await pid(), 'open connections go on')
    await kill(await pid())
    await until(() =>
      pool.query(sql('select 1')).then(
        () => false,
        (error) => said.test(error.cause.message),
      ),
    )
    t.match(outcomes.at(-1), { code: '08004', message: said })
    t.match(troubleOf(outcomes.at(-1)), 'session')
    await set(`reset ${name}`)
    t.ok(await pid())
  }
})

t.test('a transaction that the server ends for its length is our trouble, no fault', async (t) => {
  const { url, db, pool } = await prepare(t)
  const { rows } = await db.query(`select current_setting('server_version_num')::int as version`)
  if (rows[0].version < 170_000) return t.comment('before 17 there is no transaction_timeout')
  const database = pg.escapeIdentifier(new URL(url).pathname.slice(1))
  await db.query(`alter database ${database} set transaction_timeout = '100ms'`)
  const code = { code: 'db_unavailable', cause: { code: '25P04' } }
  await t.rejects(pool.query(sql('select pg_sleep(60)')), code)
})

t.test('a call that fails is marked with its statement and the reason', async (t) => {
  const { db, pool, pid, kill } = await prepare(t, {
    queryTimeoutMs: 2_000,
    connectTimeoutMs: 300,
    lockTimeoutMs: 500,
  })
  await until(() => pid().then(Boolean, () => false)) // the one connection that it needs
  const failed = async (work: Promise<unknown>) => {
    const error = await work.then(
      () => undefined,
      (error: unknown) => error,
    )
    return { ...failedCallOf(error), message: Object(error).message }
  }
  const one = (name: string, text: string) => ({ name, text })
  const slow = one('things.slow', 'select pg_sleep(60)')
  const tooSlow = { statement: 'things.slow', cause: 'too_slow', message: /^This took / }
  t.match(await failed(pool.query(slow)), tooSlow)
  t.match(await failed(pool.transaction((tx) => tx.query(slow))), tooSlow, 'not as `begin`')
  const absent = one('things.absent', 'select from nowhere')
  t.match(await failed(pool.query(absent)), { statement: 'things.absent', cause: null })

  await db.query('begin')
  await db.query('lock table things')
  const list = one('things.list', 'select from things')
  t.match(await failed(pool.query(list)), { statement: 'things.list', cause: 'locked' })
  const holding = pool.transaction((tx) => tx.query(slow)).catch(() => {})
  const starved = await failed(pool.query(list))
  t.match(starved, { statement: 'things.list', cause: 'no_connection', message: /^Too many/ })
  t.match(await failed(pool.transaction(async () => {})), { statement: 'begin' })
  await holding
  await db.query('commit')

  const backend = await pid()
  const cut = failed(pool.query(slow))
  await until(async () => (await db.query(ACTIVE, [backend])).rowCount === 1)
  await kill(backend)
  const lost = { statement: 'things.slow', cause: 'lost', message: /^The database does not answer/ }
  t.match(await cut, lost)
})

t.test('background work leaves connections to requests, however much of it waits', async (t) => {
  const url = await createDatabase(t)
  const db = await connect(t, url)
  const stores = createStores({ ...STORES, url })
  t.teardown(() => stores.close(1_000))
  await db.query('begin')
  await db.query('lock table command_events in share mode')
  const record: AttemptRecord = {
    pushState: 'sent',
    fcmHttpCode: 200,
    fcmStatus: 'OK',
    latencyMs: 1,
    retryInMs: null,
    reason: null,
    pushKind: 'token',
  }
  const records = Array.from({ length: 6 }, () => stores.outbox.record(CLAIM, record))
  const settled = Promise.allSettled(records)
  t.equal(stores.gauges.backgroundWaiting(), 5, 'one is at work')
  const page = { limit: 2, after: null }
  const none = {
    ...{ since: null, until: null, admin: null },
    ...{ what: null, subject: null, alias: null },
  }
  for (let n = 0; n < 6; n += 1) t.same(await stores.audit.list(page, none), [])
  t.equal(stores.gauges.dbPoolWaiting(), 0)
  t.ok(stores.gauges.backgroundWaiting() > 0, 'they still wait')
  await db.query('commit')
  t.ok((await settled).some(({ status }) => status === 'fulfilled'))
  t.equal(stores.gauges.backgroundWaiting(), 0)
})

t.test('waiting has a bound: one more is refused at once', async (t) => {
  const { pool, db } = await prepare(t)
  await db.query('begin')
  await db.query('lock table things')
  const first = pool.query(sql('select from things'))
  const waiting = Array.from({ length: 500 }, () => pool.query(sql('select 1')))
  const settled = Promise.allSettled([first, ...waiting])
  await t.rejects(pool.query(sql('select 1')), { name: 'AppError', code: 'overloaded' })
  await t.rejects(
    pool.transaction(async () => {}),
    { code: 'overloaded' },
  )
  t.equal(pool.waiting, 500)
  await db.query('commit')
  await settled
  t.equal(pool.waiting, 0)
  t.equal((await pool.query(sql('select 1'))).rowCount, 1)
})

t.test(
  'a wait for our own connections is overload, and no word against the database',
  async (t) => {
    const { pool, outcomes } = await prepare(t, { connectTimeoutMs: 1_000, queryTimeoutMs: 30_000 })
    await pool.query(sql('select 1'))
    let release = () => {}
    const held = pool.transaction(
      () =>
        new Promise<void>((resolve) => {
          release = resolve
        }),
    )
    await t.rejects(pool.query(sql('select 1')), { code: 'overloaded' })
    release()
    await held
    t.same(
      outcomes.filter((error) => error !== undefined),
      [],
    )
  },
)

t.test('an answer is what the database says, be it an error, and no loss', async (t) => {
  const { pool, db, pid, kill } = await prepare(t, { lockTimeoutMs: 500 })
  t.equal(pool.msSinceResponse, Number.POSITIVE_INFINITY)
  let sinceMs = performance.now()
  /** It is asked first: however long we are held up between the two, that is not counted against it. */
  const hasMoved = () => pool.msSinceResponse <= performance.now() - sinceMs
  const moved = (title: string) => {
    t.ok(hasMoved(), title)
    sinceMs = performance.now()
  }
  const backend = await pid()
  moved('a success')
  await t.rejects(pool.query(sql('select 1/0')), { code: '22012' })
  moved('a fault of the statement')
  await db.query('begin')
  await db.query('lock table things')
  await t.rejects(pool.query(sql('select from things')), { code: 'db_unavailable' })
  moved('a lock that was not had in time')
  await db.query('commit')
  const slow = pool.query(sql('select pg_sleep(30)'))
  slow.catch(() => {}) // awaited below
  await kill(backend)
  await t.rejects(slow, { code: 'db_unavailable' })
  t.notOk(hasMoved(), 'a lost connection is none')
})

t.test(
  'where no connection can be made it is known, though all who wait for one give up before',
  async (t) => {
    const { url, kill } = await prepare(t)
    const line = await lineTo(t, url)
    const lines: string[] = []
    const health = new DatabaseHealth(
      ({ event }) => lines.push(event),
      performance.now.bind(performance),
    )
    let isConnectFailed = false
    const onOutcome = (outcome: Outcome) => {
      health.observe(outcome)
      if (outcome.kind === 'worked' || outcome.what !== CONNECT || isConnectFailed) return
      // A lost connection alone is forgotten after a second, which a busy machine may take up to here.
      isConnectFailed = true
      lines.length = 0
    }
    const options = { url: line.url, maxConnections: 1, isPrepared: true, onOutcome }
    const hot = new Pool({ ...options, ...PATIENT })
    const main = new Pool({ ...options, queryTimeoutMs: 30_000, connectTimeoutMs: 300 })
    t.teardown(() => Promise.all([hot.close(5_000), main.close(5_000)]))
    const ask = (pool: Pool) =>
      pool.query<{ pid: number }>(sql('select pg_backend_pid() as pid')).then(
        ({ rows }) => rows[0]?.pid ?? 0,
        ({ code }) => String(code),
      )
    await ask(hot)
    let backend: string | number = 0
    await until(async () => {
      backend = await ask(main) // on a busy machine it may give up the first time
      return typeof backend === 'number' && !health.isDown
    })
    isConnectFailed = false
    line.freezeNew()
    await kill(Number(backend))
    let isOver = false
    let failures = 0
    const waiting = Array.from({ length: 20 }, async () => {
      while (!isOver) {
        const wasDown = health.isDown
        const response = await ask(main)
        failures += 1
        if (wasDown) t.equal(response, 'db_unavailable')
      }
    })
    let missed = 0
    const beating = (async () => {
      while (!isOver) if (typeof (await ask(hot)) !== 'number') missed += 1
    })()
    await until(() => failures > 100 && isConnectFailed)
    t.ok(health.isDown)
    isOver = true
    await Promise.all([...waiting, beating])
    line.thaw()
    await until(async () => typeof (await ask(main)) === 'number')
    await until(async () => {
      await ask(main)
      return !health.isDown
    })
    t.same(lines, ['db.recovered'], 'one episode, whatever worked meanwhile')
    t.equal(missed, 0, 'who has a connection goes on')
  },
)

t.test('each connection that cannot be made is told, with the reason', async (t) => {
  const { url } = await prepare(t)
  const silent = await lineTo(t, url)
  silent.freezeNew()
  const gone = new URL(silent.url)
  gone.port = '1'
  const nowhere = new URL(url)
  nowhere.pathname = '/nowhere'
  for (const [title, to, text, connectTimeoutMs] of [
    ['refused', gone.href, /ECONNREFUSED/, 20_000],
    ['no such database', nowhere.href, /does not exist/, 20_000],
    ['silent', silent.url, /silent/, 300],
  ] as const) {
    const told: string[] = []
    const pool = new Pool({
      url: to,
      maxConnections: 1,
      isPrepared: true,
      connectTimeoutMs,
      onOutcome: (outcome) =>
        told.push(
          outcome.kind === 'failed' ? `${outcome.what}: ${errorText(outcome.error)}` : 'worked',
        ),
    })
    t.teardown(() => pool.close(5_000))
    await t.rejects(pool.query(sql('select 1')), { code: 'db_unavailable' }, title)
    t.match(told[0], /^connect: /)
    t.match(told[0], text)
  }
})

t.test('a connection whose check takes the server too long cannot be made', async (t) => {
  const health = new DatabaseHealth(
    () => {},
    () => performance.now(),
  )
  const { pool } = await prepare(t, {
    onOutcome: health.observe,
    verifySession: async (client) => {
      await client.query(`set statement_timeout = '1ms'; select pg_sleep(1)`)
    },
  })
  await t.rejects(pool.query(sql('select 1')), { code: 'db_unavailable' })
  t.equal(health.trouble, 'silent')
})

t.test('while nobody answers one attempt is made at a time, however many ask', async (t) => {
  const open = new Set<Socket>()
  let most = 0
  const server = createServer((socket) => {
    const closed = () => open.delete(socket)
    open.add(
      socket
        .on('error', () => {})
        .on('close', closed)
        .resume(),
    )
    most = Math.max(most, open.size)
  })
  const port = await listenFor(t, server)
  const common = {
    url: `postgres://u@127.0.0.1:${port}/d`,
    dialer: new Dialer(),
    maxConnections: 5,
    isPrepared: true,
    connectTimeoutMs: 100,
  }
  const pools = [new Pool(common), new Pool(common)] as const
  const responses = pools.flatMap((pool) =>
    Array.from({ length: 20 }, () => pool.query(sql('select 1'))),
  )
  await Promise.all(responses.map((response) => t.rejects(response, { code: 'db_unavailable' })))
  await until(() => open.size === 1) // the attempt outlives those who asked for it
  for (const socket of open) socket.destroy() // it failed: the next one begins
  await until(() => open.size === 1)
  t.equal(most, 1)
  common.dialer.close()
  await Promise.all(pools.map((pool) => pool.close(5_000)))
  await until(() => open.size === 0)
})

t.test('attempts that fail come further and further apart', async (t) => {
  const waits = (code: string, random: number) =>
    [1, 2, 3, 4, 5].map((failures) => backoffMs({ code }, failures, () => random))
  t.same(waits('57P03', 1), [200, 400, 400, 400, 400])
  t.same(waits('57P03', 0), [100, 100, 100, 100, 100], 'never less')
  t.same(waits('ECONNREFUSED', 1), [0, 0, 0, 0, 0], 'where nobody is there')
})

t.test('attempts are counted, and those that fail', async (t) => {
  const dialer = new Dialer()
  const refused = Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' })
  const dial = (attempt: () => Promise<ServerClient>) =>
    dialer.dial({ attempt, isWanted: () => true, onSilent: () => {}, silentAfterMs: 10_000 })
  for (const failed of [1, 2, 3]) {
    await t.rejects(
      dial(() => Promise.reject(refused)),
      refused,
    )
    t.equal(dialer.failedAttempts, failed)
  }
  await dial(async () => ({}) as ServerClient)
  t.same([dialer.attempts, dialer.failedAttempts], [4, 3])
})

t.test('once a connection is made the others follow one by one', async (t) => {
  const { url, db } = await prepare(t)
  const line = await lineTo(t, url)
  line.freezeNew()
  const pool = new Pool({
    url: line.url,
    maxConnections: 4,
    isPrepared: true,
    queryTimeoutMs: 30_000,
    lockTimeoutMs: 30_000,
    dialer: new Dialer(),
  })
  t.teardown(() => pool.close(5_000))
  const first = Array.from({ length: 8 }, () => pool.query(sql('select 1')))
  await Promise.all(first.map((each) => t.rejects(each, { code: 'db_unavailable' })))
  line.thaw()
  const ask = (text: string) => until(() => pool.query(sql(text)).then(Boolean, () => false))
  await ask('select 1')
  const locker = await connect(t, url)
  await locker.query('begin; lock table things')
  const wanted = Array.from({ length: 4 }, () => ask('select from things'))
  await until(async () => {
    const { rows } = await db.query(
      `select count(*)::int as n from pg_stat_activity where datname = current_database() and application_name = 'fleetloop'`,
    )
    return rows[0].n === 4
  }, 'as many as are wanted')
  await locker.query('commit')
  await Promise.all(wanted)
})

t.test('what was given up is cancelled, and counts until the server has closed it', async (t) => {
  // Without statement_timeout, as through PgBouncer, or in a commit that waits for a standby.
  const dialer = new Dialer()
  const { pool, db } = await prepare(t, {
    queryTimeoutMs: 5_000,
    connectTimeoutMs: 2_000,
    isPrepared: false,
    dialer,
  })
  const backends = async () => {
    const { rows } = await db.query(`select state, query from pg_stat_activity
      where datname = current_database() and application_name = 'fleetloop'`)
    return rows
  }
  await pool.query(sql('select 1'))
  const first = pool.query(sql('select pg_sleep(60)'))
  const busy = [1, 2].map(() => t.rejects(pool.query(sql('select 1')), { code: 'overloaded' }))
  await Promise.all([t.rejects(first, { code: 'db_unavailable' }), ...busy])
  await until(async () => {
    t.ok((await backends()).length <= 1, 'never more than the pool may have')
    return pool.query(sql('select 1')).then(Boolean, () => false)
  })
  t.match(await backends(), [{ state: 'idle', query: 'select 1' }])
  t.equal(dialer.givenUp, 0)
})

t.test('a server that is gone holds up no cancel request to another one', async (t) => {
  const dialer = new Dialer()
  const options = { queryTimeoutMs: 500, isPrepared: false, dialer }
  const { pool, url } = await prepare(t, options)
  const line = await lineTo(t, url)
  const gone = new Pool({ url: line.url, maxConnections: 1, ...options })
  t.teardown(() => gone.close(5_000))
  await gone.query(sql('select 1'))
  line.freeze()
  await t.rejects(gone.query(sql('select 1')), { code: 'db_unavailable' })
  gone.drop(() => true) // as after a failover
  await t.rejects(pool.query(sql('select pg_sleep(60)')), { code: 'db_unavailable' })
  await until(() => pool.query(sql('select 1')).then(Boolean, () => false))
  t.equal(dialer.cancels, 2)
})

t.test('a wait for a connection has an end', async (t) => {
  const { setTimeout } = globalThis
  const timers: { readonly run: () => void; readonly ms: number }[] = []
  const fake = (run: () => void, ms: number) => void timers.push({ run, ms })
  const nothing = () => {}
  const connections = new Connections({
    dialer: new Dialer(),
    attempt: () => Promise.reject(new Error('none is to be made')),
    max: 0,
    waitMs: 2_000,
    isTroubled: () => true,
    onSilent: nothing,
    onFailed: nothing,
    onLost: nothing,
  })
  Object.assign(globalThis, { setTimeout: fake })
  const taken = connections.take()
  timers[0]?.run()
  Object.assign(globalThis, { setTimeout })
  t.same(
    timers.map(({ ms }) => ms),
    [300, 1_700],
  )
  timers[1]?.run()
  await t.rejects(taken, OwnWaitError)
})
