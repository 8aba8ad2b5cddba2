/** A database that is away or slow: always 503 with Retry-After, never 401, and back without a restart. */

import { createServer } from 'node:net'
import pg from 'pg'
import t, { type Test } from 'tap'
import { createApi } from '../../src/cli/api/client.ts'
import { lineTo } from '../../testkit/database/tcp-proxy.ts'
import { startReplica } from '../../testkit/service.ts'
import { serviceSettings } from '../../testkit/service-settings.ts'
import { until } from '../../testkit/until.ts'
import { call } from '../helpers/client.ts'
import { connect, createDatabase } from '../helpers/database.ts'
import { listenFor } from '../helpers/listen.ts'
import { ADMIN, type Enrolled, type Running, startService } from '../helpers/service.ts'
import { readCluster } from '../runner/cluster.ts'
import { ask, asks, everyAsk } from './every-request.ts'

/** The key of migrate.ts: its holder migrates. */
const MIGRATION_LOCK = 7_311_860_294

/** A client of another database of the cluster, and the name of the service's. */
async function operator(t: Test, service: Running) {
  const admin = await connect(t, readCluster().url)
  const database = pg.escapeIdentifier(new URL(service.databaseUrl).pathname.slice(1))
  return {
    /** Nobody gets in, and all who are in are thrown out. */
    async takeAway() {
      await admin.query(`alter database ${database} with allow_connections false`)
      await admin.query(
        `select pg_terminate_backend(pid, 10000) from pg_stat_activity
         where quote_ident(datname) = quote_ident($1)`,
        [new URL(service.databaseUrl).pathname.slice(1)],
      )
    },
    bringBack: () => admin.query(`alter database ${database} with allow_connections true`),
  }
}

/** A request waits 0.3 s at most for a connection where some have failed: on a busy machine the first ones may be in vain. */
const untilItServes = (service: Running, { token }: Enrolled) =>
  until(async () => {
    const beat = await service.call('POST', '/v1/heartbeat', { token, body: {} })
    const audit = await service.call('GET', '/admin/audit')
    return beat.status === 200 && audit.status === 200
  }, 'the database')

t.test('a database that is away is 503 for everyone, and back without a restart', async (t) => {
  const service = await startService(t)
  const device = await service.enroll('D01')
  const { takeAway, bringBack } = await operator(t, service)
  await everyAsk(t, service, device, 'before')

  await takeAway()
  for (let round = 0; round < 3; round += 1) {
    const responses = await Promise.all(asks(device).map((each) => ask(service, each)))
    for (const [index, response] of responses.entries()) {
      const { method, path } = asks(device)[index] ?? {}
      t.match(response, { status: 503, body: { code: 'db_unavailable' } }, `${method} ${path}`)
      t.match(response.headers.get('retry-after'), /^[1-9]\d*$/)
    }
    const fault = await service.lines.waitFor((line) => line['status_code'] === 503)
    t.match(fault, { level: 'ERROR' })
    t.equal((await service.call('GET', '/healthz')).status, 200)
    const ready = await service.call('GET', '/readyz')
    t.match(ready, { status: 503, body: { reasons: { database: String } } })
  }
  t.equal((await service.lines.atLeast(1, 'db.unavailable')).length, 1, 'one for the whole episode')
  t.match(service.lines.of('db.unavailable')[0], { level: 'ERROR', error: String })
  t.equal(service.lines.of('db.recovered').length, 0)

  await bringBack()
  await untilItServes(service, device)
  await everyAsk(t, service, device, 'after')
  t.equal((await service.call('GET', '/readyz')).status, 200)
  t.match(await service.lines.waitFor((line) => line.event === 'db.recovered'), {
    level: 'INFO',
    down_ms: Number,
  })
  t.equal(service.lines.of('db.recovered').length, 1)
  t.equal(service.lines.of('db.unavailable').length, 1)
  t.equal(service.process.exitCode, null, 'the same process')

  await takeAway()
  t.equal((await ask(service, { method: 'GET', path: '/admin/audit', status: 200 })).status, 503)
  await bringBack()
  await untilItServes(service, device)
  t.equal((await service.lines.atLeast(2, 'db.unavailable')).length, 2, 'each episode has its own')
  t.equal(await service.stop(), 0)
})

t.test('no phone is told that its token is bad while its connections die', async (t) => {
  const service = await startService(t)
  const devices = await Promise.all(
    Array.from({ length: 5 }, (_, index) => service.enroll(`D${index}`)),
  )
  const admin = await connect(t, readCluster().url)
  const statuses = new Map<number, number>()
  let isOver = false
  const beating = devices.map(async ({ token }) => {
    while (!isOver) {
      const { status } = await service.call('POST', '/v1/heartbeat', { token, body: {} })
      statuses.set(status, (statuses.get(status) ?? 0) + 1)
    }
  })
  for (let round = 0; round < 20; round += 1) {
    const before = service.lines.all.length
    await admin.query('select pg_terminate_backend(pid) from pg_stat_activity where datname = $1', [
      new URL(service.databaseUrl).pathname.slice(1),
    ])
    await service.lines.waitFor(() => service.lines.all.length > before + 20)
  }
  isOver = true
  await Promise.all(beating)
  for (const status of statuses.keys()) t.ok([200, 503].includes(status), `${status}`)
  t.ok((statuses.get(200) ?? 0) > 0)
})

t.test('a table that is locked is 503 and no outage', async (t) => {
  const service = await startService(t)
  const device = await service.enroll('D01')
  const db = await connect(t, service.databaseUrl)
  await db.query('begin')
  await db.query('lock table devices, device_status, device_tokens in access exclusive mode')
  for (const each of asks(device).slice(0, 6)) {
    const response = await ask(service, each)
    t.match(response, { status: 503 }, `${each.method} ${each.path}`)
    t.ok(response.headers.get('retry-after'))
  }
  t.equal((await service.call('GET', '/readyz')).status, 200, 'the database is there')
  const api = createApi({ origin: service.origin, token: ADMIN, hmacSecret: undefined })
  const told = await api.call('listDevices', {}).catch((error: Error) => error.message)
  t.match(told, /answers 503 db_unavailable: .* \(\/readyz is 200\), others are served\.\n/)
  const [, id = ''] = /request_id == "([^"]+)"/.exec(`${told}`) ?? []
  const locked = { event: 'http.error', cause: 'locked' }
  t.match(await service.lines.terminalOf(id), { ...locked, statement: 'devices.list' })
  const beats = service.lines.all.filter((line) => line['route'] === '/v1/heartbeat')
  t.match(beats, [{ ...locked, statement: /^heartbeats\./ }])
  t.same(
    service.lines.of('http.error').filter((line) => !line['statement'] || !line['cause']),
    [],
    'each says which statement it was, and why',
  )
  await db.query('commit')
  const beat = { method: 'POST', path: '/v1/heartbeat', token: device.token, body: {}, status: 200 }
  t.equal((await ask(service, beat)).status, 200)
  t.equal(service.lines.of('db.unavailable').length, 0)
})

t.test('a replica whose connections are all busy stays in the balance', async (t) => {
  const service = await startService(t, { env: { DATABASE_POOL_MAX: '5' } })
  const db = await connect(t, service.databaseUrl)
  await db.query('begin')
  await db.query('lock table commands in access exclusive mode')
  let isOver = false
  const again = async () => {
    while (!isOver) await service.call('DELETE', '/admin/commands/nobodys')
  }
  // So many that next to none of them, nor a ping among them, gets a connection in time.
  const busy = Array.from({ length: 200 }, again)
  try {
    await service.lines.waitFor((line) => line['error'] === 'overloaded')
    for (const look of [1, 2, 3]) {
      t.equal((await service.call('GET', '/readyz')).status, 200, `look ${look}`)
    }
    t.equal(service.lines.of('db.unavailable').length, 0)
  } finally {
    isOver = true
    await db.query('commit')
    await Promise.all(busy)
  }
})

t.test(
  'a replica that nobody asks for anything else hears that the database is silent',
  async (t) => {
    const line = await lineTo(t, await createDatabase(t))
    const service = await startService(t, { databaseUrl: line.url })
    t.equal((await service.call('GET', '/readyz')).status, 200)
    line.freeze()
    await until(async () => (await service.call('GET', '/readyz')).status === 503)
    line.thaw()
    await until(async () => (await service.call('GET', '/readyz')).status === 200)
  },
)

t.test('a database that goes silent is 503 in bounded time', async (t) => {
  const line = await lineTo(t, await createDatabase(t))
  const service = await startService(t, { databaseUrl: line.url })
  const device = await service.enroll('D01')
  line.freeze()
  for (let round = 0; round < 2; round += 1) {
    const responses = await Promise.all(asks(device).map((each) => ask(service, each)))
    for (const [index, { status, body, headers }] of responses.entries()) {
      const { method, path } = asks(device)[index] ?? {}
      // In the first round some wait for connections before anybody knows that it is no load.
      const code = round === 0 ? /^(db_unavailable|overloaded)$/ : 'db_unavailable'
      t.match({ status, code: body.code }, { status: 503, code }, `${method} ${path}`)
      t.ok(headers.get('retry-after'))
    }
    t.equal((await service.call('GET', '/healthz')).status, 200)
    t.equal((await service.call('GET', '/readyz')).status, 503)
  }
  t.equal((await service.lines.atLeast(1, 'db.unavailable')).length, 1)
  line.thaw()
  await everyAsk(t, service, device, 'after')
  await service.lines.waitFor((each) => each.event === 'db.recovered')
  line.freeze()
  t.equal(await service.stop(), 0, 'nor does it hold up the end')
})

/** A service that cannot become ready yet; killed at the end of `t`. */
function startWaiting(t: Test, url: string) {
  const dataDir = t.testdir()
  const life = startReplica({ settings: serviceSettings(url, dataDir) })
  t.teardown(async () => {
    life.signal('SIGKILL')
    await life.ended
  })
  return life
}

t.test('a server that stays silent, or that nobody can speak with, is waited for', async (t) => {
  for (const [query, response, cause] of [
    ['', '', 'silent'],
    ['?sslmode=verify-full', 'N', 'tls_failed'], // it has no TLS
    ['', 'R\0\0\0\x08\0\0\0\x07', 'not_allowed'], // it wants GSSAPI
    ['', 'K\0\0\0\x04', 'other'], // a key without its bytes
  ] as const) {
    const server = createServer((socket) => {
      socket.on('error', () => {})
      socket.on('data', () => socket.write(response))
    })
    const port = await listenFor(t, server)
    const life = startWaiting(t, `postgres://127.0.0.1:${port}/nowhere${query}`)
    const origin = await life.origin
    await until(() => life.databaseLines.length > 0)
    t.match(await call(origin, 'GET', '/readyz'), {
      status: 503,
      body: { reasons: { database: new RegExp(`^${cause}: `) } },
    })
    t.match(life.databaseLines[0], `"cause":"${cause}"`)
    t.match(life.notes(), /waiting for the database: .*; trying again/)
    t.equal((await call(origin, 'GET', '/healthz')).status, 200)
    life.signal('SIGTERM')
    t.same(await life.ended, { code: 0, signal: null }, life.notes())
    t.notMatch(life.notes(), 'stopping; trying again')
    t.equal(life.databaseLines.length, 1)
  }
})

t.test('a database that goes silent while it is migrated is asked again', async (t) => {
  const databaseUrl = await createDatabase(t)
  const db = await connect(t, databaseUrl)
  const line = await lineTo(t, databaseUrl)
  await db.query('select pg_advisory_lock($1)', [MIGRATION_LOCK])
  const life = startWaiting(t, line.url)
  await until(async () => {
    const text = `select from pg_stat_activity where application_name = 'fleetloop-migrate' and datname = current_database()`
    return (await db.query(text)).rowCount === 1
  })
  await until(() => life.notes().includes('waiting for the database: another session migrates, or'))
  line.freeze()
  await until(() => life.databaseLines.length > 0)
  t.match(life.databaseLines[0], /"db\.unavailable"/)
  line.thaw()
  await db.query('select pg_advisory_unlock($1)', [MIGRATION_LOCK])
  await life.ready
  t.match(life.databaseLines, [/"db\.unavailable"/, /"db\.recovered"/])
})

t.test('a start that waits for a locked table says so, and goes on', async (t) => {
  const databaseUrl = await createDatabase(t)
  const db = await connect(t, databaseUrl)
  await db.query('begin; lock table schema_migrations in access exclusive mode')
  const life = startWaiting(t, databaseUrl)
  const note =
    /waiting for the database: sql\/0001\S+ needs a table that another session has locked/
  await until(() => note.test(life.notes()))
  await db.query('commit')
  await life.ready
  t.equal(life.notes().match(/waiting for/g)?.length, 1, 'told once')
})
