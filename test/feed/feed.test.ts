/** GET /admin/events: each change is there once, in order, without a gap, and only once nothing can come before it. */
import { randomUUID } from 'node:crypto'
import t from 'tap'
import { makeApk } from '../../sim/apk.ts'
import { offlineSweep } from '../../src/db/devices/offline.ts'
import { eventFeed } from '../../src/db/events/feed.ts'
import { Pool } from '../../src/db/postgres/pool.ts'
import { until } from '../../testkit/until.ts'
import { connect, PATIENT } from '../helpers/database.ts'
import { startService } from '../helpers/service.ts'
import { FORCE, readAll, TOKEN, told } from './reading.ts'

// Only the sweeps of the tests find silent devices: the service's own would take them from these.
const env = { HEARTBEAT_DEDUP_WINDOW_S: '0', DEVICE_OFFLINE_S: '31536000' }
const service = await startService(t, { env })
const db = await connect(t, service.databaseUrl)
const pool = new Pool({ ...PATIENT, url: service.databaseUrl, maxConnections: 4, isPrepared: true })
t.teardown(() => pool.close(1_000))

const now = async (): Promise<string> =>
  (await service.call('GET', '/admin/events?after=now')).body.cursor
const post = (path: string, body: unknown) => service.call('POST', path, { body })

/** Makes one change of each kind; returns the cursor before them and the ids in it. */
async function changeEverything() {
  const after = await now()
  const { deviceId, token, enrollmentToken } = await service.enroll('F01')
  const beat = (body: unknown) => service.call('POST', '/v1/heartbeat', { token, body })
  const tokens = (await service.call('GET', '/v1/enroll-tokens?alias=F01')).body.tokens
  const tokenId = tokens[0].token_id
  await beat({ battery_pct: 50 })
  await service.call('POST', '/v1/register', { token: enrollmentToken, body: {} })
  const again = await post('/v1/enroll-tokens', { aliases: ['F01', 'unused'] })
  const [second, unused] = again.body.tokens
  const registered = await service.call('POST', '/v1/register', { token: second.token, body: {} })
  await service.call('DELETE', `/v1/enroll-tokens/${unused.token_id}`)
  for (const request_id of ['f-done', 'f-cancelled', 'f-expired']) {
    await post('/admin/command?wait_ms=0', { alias: 'F01', action: 'ping', request_id })
  }
  const device = { token: registered.body.device_token }
  const result = { request_id: 'f-done', outcome: 'failure', message: 'no' }
  await service.call('POST', '/v1/action-result', { ...device, body: result })
  await service.call('DELETE', '/admin/commands/f-cancelled')
  await db.query(`update commands set expires_at = now() where request_id = 'f-expired'`)
  await until(async () => (await db.query(EXPIRED)).rowCount === 1, 'the sweep')
  await service.call('PUT', '/admin/apk/builds/f1?version_code=1', { raw: makeApk({ seed: 'f1' }) })
  const raw = makeApk({ seed: 'f2', versionCode: 2 })
  await service.call('PUT', '/admin/apk/builds/f2?version_code=2&release=staged', { raw })
  await service.call('POST', '/admin/apk/builds/f2/release')
  await service.call('DELETE', '/admin/apk/builds/f1')
  const soon = new Date(Date.now() + 3_600_000).toISOString()
  await post('/admin/jobs', { job_id: 'fj', where: 'alias:F01', action: 'ping', not_before: soon })
  await post('/admin/jobs/fj/pause', undefined)
  await post('/admin/jobs/fj/resume', undefined)
  await post('/admin/jobs/fj/abort', {})
  return { after, deviceId, tokenId, second, unused }
}

t.test('each change is one event, with who and what it is about', async (t) => {
  const { after, deviceId, tokenId, second, unused } = await changeEverything()
  const { events } = await readAll(service, after, { limit: '3' })
  t.same(told(events), [
    ['token.created', tokenId],
    ['token.consumed', tokenId],
    ['device.enrolled', deviceId],
    ['token.created', second.token_id],
    ['token.created', unused.token_id],
    ['token.consumed', second.token_id],
    ['device.re_enrolled', deviceId],
    ['token.revoked', unused.token_id],
    ['command.ended', 'f-done'],
    ['command.ended', 'f-cancelled'],
    ['command.ended', 'f-expired'],
    ['build.published', 'f1'],
    ['build.staged', 'f2'],
    ['build.released', 'f2'],
    ['build.withdrawn', 'f1'],
    ['job.created', 'fj'],
    ['job.paused', 'fj'],
    ['job.scheduled', 'fj'],
    ['job.aborted', 'fj'],
  ])
  const of = (type: string) => events.find((event) => event.type === type)
  t.match(of('device.re_enrolled'), {
    device_id: deviceId,
    alias: 'F01',
    detail: { enrollment_no: 2, token_id: second.token_id },
  })
  t.match(of('command.ended'), {
    device_id: deviceId,
    alias: 'F01',
    detail: { action: 'ping', state: 'completed', outcome: 'failure' },
  })
  t.match(of('build.staged')?.detail, { build_type: 'debug', version_code: 2 })
  t.match(of('token.consumed')?.detail, { uses_allowed: 1, uses_consumed: 1 })
  t.match(of('job.paused')?.detail, { action: 'ping', state: 'paused', reason: 'admin' })
  t.equal(new Set(events.map(({ id }) => id)).size, events.length)

  const rest = await readAll(service, events[9]?.id)
  t.same(rest.events, events.slice(10), 'from the id of any event')
  const types = 'build.withdrawn,job.created'
  const some = await readAll(service, after, { types, limit: '1' })
  t.same(told(some.events), [
    ['build.withdrawn', 'f1'],
    ['job.created', 'fj'],
  ])
  const none = await readAll(service, after, { types: 'feed.started' })
  t.same(none.events, [])
  t.equal(none.cursor, rest.cursor, 'the cursor passes what the filter leaves out')
  t.same((await readAll(service)).events[0]?.type, 'feed.started', 'without a cursor: all')
})
const EXPIRED = `select from commands where request_id = 'f-expired' and state = 'expired'`

t.test('what a former attempt changes twice, and what fails, is no event', async (t) => {
  const after = await now()
  await service.call('DELETE', '/admin/commands/f-cancelled')
  await service.call('POST', '/admin/apk/builds/f2/release')
  await service.call('DELETE', '/admin/apk/builds/f1')
  await post('/admin/jobs/fj/abort', {})
  await post('/v1/enroll-tokens', { aliases: ['a', 'a'] })
  const raced = await connect(t, service.databaseUrl)
  await raced.query('begin')
  await raced.query(TOKEN, [randomUUID()])
  await raced.query(FORCE)
  await raced.query('rollback')
  t.same((await readAll(service, after)).events, [])
})

t.test('what is settled on one server is not read on another', async (t) => {
  const settled = { through: 1_000, server: 'another' }
  const feed = eventFeed(pool)
  await t.rejects(feed.newest(settled), { code: 'db_unavailable' })
  const asked = { after: null, settled, types: null, limit: 1 }
  await t.rejects(feed.read(asked), { code: 'db_unavailable' })
})

t.test('of a deleted device only its deletion is told, with its name', async (t) => {
  const after = await now()
  const { deviceId, token } = await service.enroll('F02')
  await service.call('POST', '/v1/heartbeat', { token, body: {} })
  await post('/admin/command?wait_ms=0', { alias: 'F02', action: 'ping', request_id: 'f02-ping' })
  await service.call('DELETE', `/admin/devices/${deviceId}`)
  const { events } = await readAll(service, after)
  t.same(
    events.map(({ type }) => type),
    ['token.created', 'token.consumed', 'device.deleted', 'command.ended'],
  )
  t.match(events[2], { device_id: deviceId, alias: 'F02', subject: deviceId })
  t.match(events[3], { subject: 'f02-ping', device_id: null, alias: null })
  const successor = await service.enroll('F02')
  const later = await readAll(service, events[3]?.id)
  t.match(later.events.at(-1), { type: 'device.enrolled', device_id: successor.deviceId })

  await db.query('update device_status set offline_at = now() where device_id = $1', [deviceId])
  await service.call('DELETE', `/admin/devices/${deviceId}?erase=true`)
  const status = 'select offline_at from device_status where device_id = $1'
  t.same((await db.query(status, [deviceId])).rows, [{ offline_at: null }])
  const erased = await readAll(service, after)
  t.match(erased.events[2], { type: 'device.deleted', device_id: deviceId, alias: deviceId })
  t.match(erased.events[3], { subject: deviceId, device_id: null, alias: null, detail: null })
  t.same(erased.events.slice(4), later.events)
  // Not `f02`: a UUID may hold that.
  const rows = await db.query(
    `select f::text as row from fleet_events f where f::text like '%f02-ping%'`,
  )
  t.same(rows.rows, [])
})

t.test('a device that falls silent is told once, and so is its return', async (t) => {
  const { deviceId, token } = await service.enroll('F03')
  const never = await service.enroll('F04')
  const beat = () => service.call('POST', '/v1/heartbeat', { token, body: {} })
  await beat()
  const after = await now()
  const sweep = offlineSweep(pool, 1_500)
  const age = (id: string, seconds: number) =>
    db.query(
      `update device_status set last_seen_at = now() - make_interval(secs => $2) where device_id = $1`,
      [id, seconds],
    )
  await age(deviceId, 1_400)
  t.equal(await sweep(), 0, 'not yet')
  await age(deviceId, 1_600)
  const { rows } = await db.query('select last_seen_at from device_status where device_id = $1', [
    deviceId,
  ])
  t.same(await Promise.all([sweep(), offlineSweep(pool, 1_500)()]).then(sum), 1, 'by one of two')
  t.equal(await sweep(), 0)
  const { events, cursor } = await readAll(service, after)
  t.match(events, [{ type: 'device.offline', device_id: deviceId, alias: 'F03' }])
  const { last_seen_at: told } = Object(events[0]?.detail)
  t.equal(new Date(told).getTime(), rows[0].last_seen_at.getTime())
  await Promise.all([beat(), beat(), beat()])
  const back = await readAll(service, cursor)
  t.match(back.events, [{ type: 'device.online', device_id: deviceId }])
  t.equal(back.events.length, 1)
  t.same(back.events[0]?.detail, events[0]?.detail, 'since when it was silent')
  await service.call('DELETE', `/admin/devices/${deviceId}`)
  await age(deviceId, 1_600)
  t.equal(await sweep(), 0, `neither a deleted one, nor ${never.deviceId}, never heard of`)
})

const sum = (numbers: readonly number[]) => numbers.reduce((one, other) => one + other, 0)

t.test('a silent device beyond the first slice is found by a later call', async (t) => {
  const { rows } = await db.query(`
    with made as (
      insert into devices (device_id, alias, enrollment_no, enrolled_by, hmac_secret_id, request_id, deleted_at)
      select gen_random_uuid(), 'slice-' || n, 1, gen_random_uuid(), 'x', 'r', now() from generate_series(1, 40000) n
      returning device_id)
    insert into device_status (device_id, last_seen_at, is_deleted) select device_id, now(), true from made returning 1`)
  t.equal(rows.length, 40_000)
  const { rows: last } = await db.query(
    'select device_id from device_status order by ctid desc limit 1',
  )
  await db.query(
    `update device_status set is_deleted = false, last_seen_at = now() - interval '1 h' where device_id = $1`,
    [last[0].device_id],
  )
  const sweep = offlineSweep(pool, 1_500)
  const found = [await sweep(), await sweep(), await sweep(), await sweep()]
  t.equal(found[0], 0)
  t.equal(sum(found), 1, String(found))

  await db.query(`
    update device_status set is_deleted = false, last_seen_at = now() - interval '1 h'
    where device_id in (select device_id from devices where alias like 'slice-%' order by alias limit 6000)`)
  const many = offlineSweep(pool, 1_500)
  const calls = [await many(), await many(), await many(), await many(), await many(), await many()]
  t.ok(sum(calls) >= 5_999, `all within the usual time: ${calls}`)
})
