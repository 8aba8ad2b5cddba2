/** The lines of the service itself: its life, its database, its partitions and its own log. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import t from 'tap'
import { pushSettings, startFakeFcm } from '../../sim/fcm/fake-fcm.ts'
import { START_LINE_WAIT_MS } from '../../src/app/lifecycle.ts'
import { until, untilMidnightIsFar } from '../../testkit/until.ts'
import { connect, createDatabase } from '../helpers/database.ts'
import { head, openRaw } from '../helpers/raw.ts'
import { ADMIN, startService } from '../helpers/service.ts'
import { readCluster } from '../runner/cluster.ts'
import { BACKGROUND, isDuration, theme } from './helpers.ts'

const { compare, compareOnly } = theme(t, {
  'service.start': ['INFO'],
  'service.ready': ['INFO'],
  'service.stop': ['INFO SIGTERM', 'INFO SIGINT'],
  'db.unavailable': ['ERROR'],
  'db.recovered': ['INFO'],
  'db.sequence_advanced': ['WARN'],
  'db.statement.fail': ['ERROR'],
  'log.dropped': ['WARN'],
  'partition.create': ['INFO'],
  'partition.drop': ['INFO'],
  'partition.fail': ['ERROR'],
})
const PACKAGE = fileURLToPath(import.meta.resolve('#package.json'))

t.test('a life: started, ready, stopped', async (t) => {
  const { version } = JSON.parse(readFileSync(PACKAGE, 'utf8'))
  for (const reason of ['SIGTERM', 'SIGINT'] as const) {
    const service = await startService(t)
    const { instance_id } = (await service.call('GET', '/healthz')).body
    const isOurs = (value: unknown) => isConfigOf(value, service.dataDir)
    const isSlow = Number(service.lines.of('service.ready')[0]?.['startup_ms']) > START_LINE_WAIT_MS
    const isId = (value: unknown) => value === instance_id || (isSlow && value === null)
    const own = { version, instance_id: isId, database: null, config: isOurs }
    await compareOnly(t, service, 'service.start', 'INFO', BACKGROUND, own)
    const ready = { startup_ms: isDuration }
    await compareOnly(t, service, 'service.ready', 'INFO', BACKGROUND, ready)
    service.process.kill(reason)
    const stopped = { reason, drained_ms: isDuration }
    await compareOnly(t, service, 'service.stop', 'INFO', BACKGROUND, stopped)
    await service.stop()
    t.equal(service.lines.all[0]?.event, 'service.start', 'the first line')
    t.equal(service.lines.all.at(-1)?.event, 'service.stop', 'the last line')
  }
})

/** What the tests' settings say of themselves; config.ts knows the rest. */
function isConfigOf(value: unknown, dataDir: string): boolean {
  const config = new Map(Object.entries(Object(value)))
  return (
    config.get('data_dir') === dataDir &&
    config.get('log_level') === 'INFO' &&
    config.get('push') === 'off' &&
    JSON.stringify(config.get('admin_tokens')) === '[{"name":"tester","scopes":["admin"]}]' &&
    [...config.keys()].every((key) => /^[a-z][a-z0-9_]*$/.test(key))
  )
}

t.test('a database that goes away and comes back', async (t) => {
  const service = await startService(t)
  const admin = await connect(t, readCluster().url)
  const name = new URL(service.databaseUrl).pathname.slice(1)
  const allow = (isAllowed: boolean) =>
    admin.query(
      `alter database ${pg.escapeIdentifier(name)} with allow_connections ${String(isAllowed)}`,
    )
  await allow(false)
  await admin.query(
    'select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = $1',
    [name],
  )
  t.equal((await service.call('GET', '/admin/devices')).status, 503)
  await compareOnly(t, service, 'db.unavailable', 'ERROR', BACKGROUND, {
    error: /\S/,
    cause: /^(lost|not_allowed)$/,
  })
  await allow(true)
  await until(async () => (await service.call('GET', '/admin/devices')).status === 200)
  await compareOnly(t, service, 'db.recovered', 'INFO', BACKGROUND, { down_ms: isDuration })
})

t.test('a sequence that is behind its table is moved on at the start', async (t) => {
  const databaseUrl = await createDatabase(t)
  const db = await connect(t, databaseUrl)
  const first = await startService(t, { databaseUrl })
  const ask = (service: typeof first) =>
    service.call('POST', '/v1/enroll-tokens', { body: { aliases: ['phone'] } })
  t.equal((await ask(first)).status, 201)
  await first.stop()
  t.same(first.lines.of('db.sequence_advanced'), [], 'none is behind')
  // As after logical replication: the rows came, the sequence did not.
  const { rows } = await db.query(`select max(audit_id)::int as highest from audit_log`)
  await db.query(`alter table audit_log alter audit_id restart with 1`)
  const [service, other] = await Promise.all([
    startService(t, { databaseUrl }),
    startService(t, { databaseUrl }),
  ])
  const told = [service, other].find(({ lines }) => lines.of('db.sequence_advanced').length > 0)
  await compareOnly(t, told ?? service, 'db.sequence_advanced', 'WARN', BACKGROUND, {
    table: 'audit_log',
    from: 1,
    to: rows[0].highest + 1,
  })
  const lines = [service, other].flatMap((each) => each.lines.of('db.sequence_advanced'))
  t.equal(lines.length, 1, 'one of both did it')
  t.equal((await ask(service)).status, 201)
})

t.test('a statement of our own that fails, while the database is there', async (t) => {
  const fcm = await startFakeFcm()
  t.teardown(() => fcm.close())
  const service = await startService(t, { env: pushSettings(fcm) })
  const db = await connect(t, service.databaseUrl)
  await db.query('begin')
  await db.query('lock table commands in access exclusive mode')
  const line = await service.lines.waitFor(
    (each) => each.event === 'db.statement.fail' && each['task'] === 'dispatch',
  )
  await db.query('commit')
  compare(t, line, 'db.statement.fail', 'ERROR', BACKGROUND, {
    task: 'dispatch',
    error: 'canceling statement due to lock timeout',
    cause: 'locked',
    statement: 'command_queue.claim',
  })
  t.same(service.lines.of('db.unavailable'), [])
})

t.test('days are made ahead and dropped by retention, and what fails is told', async (t) => {
  await untilMidnightIsFar()
  const databaseUrl = await createDatabase(t)
  const db = await connect(t, databaseUrl)
  const dayAt = async (offset: number): Promise<string> => {
    const text = `select to_char((now() at time zone 'UTC')::date + $1::int, 'YYYYMMDD') as day`
    return (await db.query(text, [offset])).rows[0].day
  }
  for (const offset of [-40, -30]) {
    const [from, to] = [await dayAt(offset), await dayAt(offset + 1)]
    await db.query(
      `create table heartbeats_${from} partition of heartbeats
       for values from ('${from} 00:00:00+00') to ('${to} 00:00:00+00')`,
    )
  }
  const [dropped, held] = [`heartbeats_${await dayAt(-40)}`, `heartbeats_${await dayAt(-30)}`]
  await db.query('begin')
  await db.query(`select from ${held}`) // a reader that will not end
  const service = await startService(t, { databaseUrl })
  await db.query('commit')

  const [today, last] = [`heartbeats_${await dayAt(0)}`, `heartbeats_${await dayAt(7)}`]
  const made = { partition: today, error: null, last }
  await compareOnly(t, service, 'partition.create', 'INFO', BACKGROUND, made)
  const gone = { partition: dropped, error: null }
  await compareOnly(t, service, 'partition.drop', 'INFO', BACKGROUND, gone)
  const failed = { partition: held, error: /\S/ }
  await compareOnly(t, service, 'partition.fail', 'ERROR', BACKGROUND, failed)
})

t.test('a reader that stops costs lines, and each of them is counted', async (t) => {
  const service = await startService(t, { env: { LOG_BUFFER_BYTES: '65536' } })
  const { stdout } = service.process
  if (stdout === null) throw new Error('stdout is not ours')
  stdout.pause()
  const requests = 1_000
  const connection = await openRaw(t, service.origin)
  const bearer = `Authorization: Bearer ${ADMIN}` // of strangers' refusals not each has a line
  const request = head(
    'GET /admin/audit?limit=0 HTTP/1.1',
    bearer,
    `User-Agent: ${'a'.repeat(256)}`,
  )
  connection.write(request.repeat(requests))
  await connection.answer(requests)
  stdout.resume()

  const droppedSoFar = () =>
    service.lines.of('log.dropped').reduce((sum, line) => sum + Number(line['dropped']), 0)
  const read = () => service.lines.of('http.request').length
  await service.lines.waitFor(() => read() + droppedSoFar() === requests, 'every line or its count')
  t.ok(droppedSoFar() > 0)
  for (const line of service.lines.of('log.dropped')) {
    const dropped = Number(line['dropped'])
    const isCounts = (value: unknown) =>
      JSON.stringify(value) === JSON.stringify({ DEBUG: 0, INFO: 0, WARN: dropped, ERROR: 0 })
    const own = { dropped, by_level: isCounts, anonymous: 0 }
    compare(t, line, 'log.dropped', 'WARN', BACKGROUND, own)
  }
})
