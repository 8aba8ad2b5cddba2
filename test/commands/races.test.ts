/** What must hold when something else happens at the same time: another token, an end, a database that stops answering. */
import { createHash, randomUUID } from 'node:crypto'
import t, { type Test } from 'tap'
import { makeApk } from '../../sim/apk.ts'
import { pushSettings } from '../../sim/fcm/fake-fcm.ts'
import { apkStore } from '../../src/db/apks/apks.ts'
import { cancelSomeOf, commandOutbox, countOpenOf } from '../../src/db/commands/outbox.ts'
import { deviceStore } from '../../src/db/devices/devices.ts'
import type { Database } from '../../src/db/postgres/pool.ts'
import { memorySource } from '../../testkit/memory-source.ts'
import { tokenId } from '../../testkit/push-id.ts'
import { until } from '../../testkit/until.ts'
import { connect } from '../helpers/database.ts'
import { startReplicas } from '../helpers/replicas.ts'
import { startService } from '../helpers/service.ts'

const {
  fcm,
  service,
  db,
  pool,
  outbox,
  replica,
  enroll,
  command,
  row,
  tokenDied,
  attemptsOf,
  isPush,
} = await startReplicas(t)

const read = async (id: string) => (await service.call('GET', `/admin/commands/${id}`)).body

/** From here until `unlock` no command can be read, while it can be written. */
async function lockReads(t: Test) {
  const locker = await connect(t, service.databaseUrl)
  await locker.query('begin')
  await locker.query('lock table device_status in access exclusive mode')
  return { unlock: () => locker.query('rollback') }
}

t.test('a command that is durable is answered 202 when it can be read no more', async (t) => {
  const pushing = await startService(t, {
    databaseUrl: service.databaseUrl,
    env: pushSettings(fcm),
  })
  fcm.setMode({ fcm: 'hang' })
  t.teardown(() => fcm.setMode({ fcm: 'ok' }))
  const { deviceId } = await enroll()
  const body = { device_id: deviceId, action: 'reboot' }
  const headers = { 'x-request-id': 'durable' }
  const path = '/admin/command?wait_ms=10000'
  const answered = pushing.call('POST', path, { body, headers })
  await fcm.waitForSend(({ data }) => data['request_id'] === 'durable')
  const { unlock } = await lockReads(t)
  t.match(await answered, {
    status: 202,
    body: { request_id: 'durable', device_id: deviceId, status: 'queued', duplicate: false },
  })
  await unlock()
  await pushing.stop()
  await service.call('DELETE', '/admin/commands/durable')
})

t.test('a cancellation that cannot be answered was not made, and its retry is', async (t) => {
  const { deviceId } = await enroll()
  const id = await command(deviceId)
  const { unlock } = await lockReads(t)
  t.equal((await service.call('DELETE', `/admin/commands/${id}`)).status, 503)
  await unlock()
  t.match(await row(id), { state: 'open' })
  const retry = await service.call('DELETE', `/admin/commands/${id}`)
  t.match(retry, { status: 200, body: { request_id: id, status: 'cancelled' } })
  const line = await service.lines.waitFor(
    (one) => one.event === 'command.cancelled' && one['request_id'] === id,
  )
  t.match(line, { action: 'ping', device_id: deviceId, reason: 'admin' })
})

t.test('a build that is withdrawn needs no further look to be told of', async (t) => {
  await service.call('PUT', '/admin/apk/builds/b1?version_code=1', { raw: makeApk() })
  const asked: string[] = []
  const once: Database = {
    query(query) {
      asked.push(query.name)
      if (asked.length > 1) throw new Error('the database is away')
      return pool.query(query)
    },
    transaction: (work) => pool.transaction(work),
  }
  const by = { admin: 'tester', requestId: 'withdraw-1', ip: null }
  const outcome = await apkStore(once).withdraw('b1', by)
  t.match(outcome, { kind: 'withdrawn', build: { buildId: 'b1', withdrawnBy: 'tester' } })
  t.equal((await apkStore(pool).withdraw('b1', by)).kind, 'already_withdrawn')
  t.equal((await apkStore(pool).withdraw('b2', by)).kind, 'unknown')
})

t.test(
  'a build whose bytes changed on our disk before they were stored is not stored',
  async (t) => {
    const bytes = makeApk({ sizeBytes: 1_200_000, seed: 'changed' })
    const sha256 = createHash('sha256').update(bytes).digest()
    const about = { buildType: 'debug', versionCode: 1, versionName: null, gitSha: null }
    const more = { ciRunId: null, signerFingerprint: null, sizeBytes: bytes.length, sha256 }
    bytes[1_100_000] = (bytes[1_100_000] ?? 0) ^ 1
    const by = { admin: 'tester', requestId: 'changed', ip: null }
    const build = { buildId: 'changed', ...about, ...more }
    const apk = { packageName: 'a.b', minSdk: 24, targetSdk: 34, isDebuggable: true }
    const facts = { ...apk, signing: 'none', signers: [] } as const
    const upload = { build, facts, replaced: [], isSignerAccepted: false, isStaged: false }
    const published = apkStore(pool).publish(upload, memorySource(bytes), by)
    await t.rejects(published, /another SHA-256/)
    t.equal(await apkStore(pool).find('changed'), undefined)
  },
)

t.test('a push token that comes while its command is claimed is always pushed to', async (t) => {
  const devices = deviceStore(pool)
  // So many are due before it that the claim reaches it after the token has come.
  const crowd = await enroll()
  await tokenDied(crowd.deviceId)
  await db.query(
    `insert into commands (request_id, device_id, action, params, request_hash, admin, expires_at, push_state)
     select 'crowd-' || n, $1, 'ping', '{}', '', 'tester', now() + interval '1 h', 'waiting'
     from generate_series(1, 900) n`,
    [crowd.deviceId],
  )
  for (let round = 0; round < 10; round += 1) {
    await db.query(
      `update commands set next_attempt_at = now() - interval '1 h', lease_id = null
       where device_id = $1`,
      [crowd.deviceId],
    )
    const { deviceId } = await enroll()
    const id = await command(deviceId)
    await tokenDied(deviceId)
    const [claims] = await Promise.all([
      commandOutbox(pool, 'raced').claim(1_000, randomUUID()), // one that looks at all that is due
      devices.setPushId({ deviceId, enrollmentNo: 1 }, tokenId(`raced-${id}`), `set-${id}`),
    ])
    const claim = claims.find(({ requestId }) => requestId === id)
    if (claim?.pushId === null) t.equal(await outbox.recordNoToken(claim), 'due')
    const { push_state, is_due } = await row(id)
    t.ok(is_due || push_state === 'sending', `round ${round}: ${push_state}`)
    await service.call('DELETE', `/admin/commands/${id}`)
  }
  await db.query('delete from commands where device_id = $1', [crowd.deviceId])
})

t.test('what is due is claimed once, and ends once, wherever its time lies', async (t) => {
  const clock = { nowMs: 0 }
  const walking = commandOutbox(pool, 'walking', () => clock.nowMs)
  const { deviceId } = await enroll()
  const insert = (by: Pick<typeof db, 'query'>, name: string, time: string, most = 1) =>
    by.query(
      `insert into commands (request_id, device_id, action, params, request_hash, admin, created_at, expires_at,
         push_state, next_attempt_at)
       select $2 || '-' || to_char(n, 'FM000'), $1, 'ping', '{}', '', 'tester', now() - interval '2 days',
         case when $2 like 'over-%' then ${time} else now() + interval '1 h' end, 'waiting',
         case when $2 not like 'over-%' then ${time} end
       from generate_series(1, $3::int) n`,
      [deviceId, name, most],
    )
  const claimAll = async (afterMs: number) => {
    clock.nowMs += afterMs
    const ids: string[] = []
    do {
      const claims = await walking.claim(64, randomUUID())
      ids.push(...claims.map(({ requestId }) => requestId))
    } while (walking.hasMoreDue())
    return ids
  }
  const named = (name: string, count: number) =>
    Array.from({ length: count }, (_, n) => `${name}-${String(n + 1).padStart(3, '0')}`)

  await insert(db, 'equal', `now() - interval '1 h'`, 150)
  t.same(await claimAll(0), named('equal', 150), 'all of one time, in the order of the index')
  await insert(db, 'now', 'now()')
  t.same(await claimAll(500), named('now', 1))
  await insert(db, 'past', `now() - interval '1 day'`)
  t.same(await claimAll(10), [], 'the front does not look so far back')
  t.same(await claimAll(1_000), named('past', 1), 'the look at all that is due does')

  const other = await connect(t, service.databaseUrl)
  await insert(db, 'locked', 'now()')
  await other.query(`begin; select from commands where request_id = 'locked-001' for update`)
  await insert(db, 'behind', 'now()')
  t.same(await claimAll(500), named('behind', 1))
  await other.query('rollback')
  t.same(await claimAll(500), named('locked', 1), 'although the front has passed it')

  await other.query('begin')
  await insert(other, 'late', 'now()')
  await insert(db, 'early', 'now()')
  t.same(await claimAll(500), named('early', 1))
  await other.query('commit')
  t.same(await claimAll(500), named('late', 1), 'what was committed late')

  await insert(db, 'over-equal', `now() - interval '1 h'`, 600)
  await insert(db, 'over-now', 'now()')
  const ended: string[] = []
  do {
    ended.push(...(await walking.expire(500)).map(({ requestId }) => requestId))
  } while (walking.hasMoreExpired())
  // The service sweeps as well, every 5 s.
  const { rows: byService } = await db.query(
    `select request_id from command_events where stage = 'expired' and instance <> 'walking' and request_id like 'over-%'`,
  )
  const all = [...ended, ...byService.map(({ request_id }) => request_id)]
  t.same(all.sort(), [...named('over-equal', 600), ...named('over-now', 1)])
  await db.query('delete from commands where device_id = $1', [deviceId])
})

t.test('a claim without a push token is decided by the device as it is by then', async (t) => {
  for (const hasNewToken of [false, true]) {
    const { deviceId, token } = await enroll()
    const id = await command(deviceId)
    await tokenDied(deviceId)
    const [claim] = await outbox.claim(1, randomUUID())
    t.match(claim, { requestId: id, pushId: null, attempt: 0 })
    t.match(await row(id), { push_state: 'sending', push_attempts: 0, is_due: false })
    if (claim === undefined) throw new Error('nothing was claimed')
    if (hasNewToken) {
      const body = { fcm_token: `late-${id}` }
      await service.call('POST', '/v1/devices/fcm-token', { token, body })
    }
    t.equal(await outbox.recordNoToken(claim), hasNewToken ? 'due' : 'no_token')
    const expected = hasNewToken
      ? { push_state: 'waiting', is_due: true }
      : { push_state: 'no_token', next_attempt_at: null }
    t.match(await row(id), { ...expected, lease_id: null, attempt: 0, push_failures: 0 })
    t.equal(await outbox.recordNoToken(claim), 'lease_lost')
    const stages = (await read(id)).timeline.map(({ stage }: { stage: string }) => stage)
    t.same(stages, hasNewToken ? ['accepted'] : ['accepted', 'no_push_token'])
    await service.call('DELETE', `/admin/commands/${id}`)
  }
})

t.test('commands without a push token keep no other waiting', async (t) => {
  const tokenless: string[] = []
  while (tokenless.length < 6) {
    const { deviceId } = await enroll()
    tokenless.push(await command(deviceId))
    await tokenDied(deviceId)
  }
  const id = await command((await enroll()).deviceId)
  const { dispatcher } = replica(t, { maxInFlight: 2 })
  dispatcher.wake() // and no poll
  await until(isPush(id, 'sent'))
  t.same(attemptsOf(id), ['1'])
  for (const other of tokenless) await until(isPush(other, 'no_token'))
})

t.test('what has expired stays expired when its device is deleted', async (t) => {
  const { deviceId } = await enroll()
  const expired = await command(deviceId)
  const open = await command(deviceId)
  await db.query('update commands set expires_at = now() where request_id = $1', [expired])
  t.match(await read(expired), { status: 'expired' })
  await service.call('DELETE', `/admin/devices/${deviceId}`)
  t.match(await read(expired), { status: 'expired', verdict: { code: 'expired' } })
  t.match(await read(open), { status: 'cancelled', verdict: { code: 'cancelled' } })

  const other = await enroll()
  const values = [await command(other.deviceId)]
  const text = 'update commands set expires_at = now() where request_id = $1'
  await pool.transaction(async (tx) => {
    await tx.query({ name: 'test.expire', text, values }) // now() stands still until the commit
    t.equal(await countOpenOf(tx, other.deviceId), 0)
    t.same(await cancelSomeOf(tx, other.deviceId, { admin: null, instance: 'raced' }), [])
  })
})

t.test('a repeat by alias stays one when its device was deleted', async (t) => {
  const { deviceId } = await service.enroll('gone')
  const body = { alias: 'gone', action: 'ping', request_id: 'by-alias' }
  const send = (other: object = {}) =>
    service.call('POST', '/admin/command', { body: { ...body, ...other } })
  t.equal((await send()).status, 202)
  await service.call('DELETE', `/admin/devices/${deviceId}`)
  t.match(await send(), {
    status: 200,
    body: { device_id: deviceId, status: 'cancelled', duplicate: true },
  })
  const conflict = { status: 409, body: { code: 'request_id_conflict' } }
  t.match(await send({ action: 'ring' }), conflict)
  t.match(await send({ alias: 'never' }), conflict, 'another alias is another device')
  await service.enroll('gone')
  t.match(await send(), conflict, 'and so is one that has the alias since')
})
