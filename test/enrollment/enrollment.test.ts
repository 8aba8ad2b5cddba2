/** Enrollment: a token becomes devices, exactly as many as it allows, and a device may come back. */
import { createHmac } from 'node:crypto'
import t from 'tap'
import { HMAC_SECRET } from '../helpers/service.ts'
import {
  beat,
  countBy,
  db,
  devicesOf,
  issue,
  PARALLEL,
  register,
  service,
  usesOf,
} from './enrolling.ts'

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/

t.test('a bound token enrolls its alias and answers all that a device needs', async (t) => {
  const { token } = await issue('bound-1')
  const { status, body } = await register(token, {
    hardware_id: 'R4S1409240004533',
    app_version: '1.2',
    sdk_int: 33,
    model: null,
    something_new: { nested: [1] },
  })
  t.equal(status, 201)
  t.same(Object.keys(body), [
    'device_id',
    'alias',
    'device_token',
    'hmac_key',
    'heartbeat_interval_s',
    'server_time',
    'instance_id',
    'ignored',
  ])
  t.match(body, { device_id: UUID, alias: 'bound-1', heartbeat_interval_s: 300 })
  t.match(body, { device_token: /^dt_[A-Za-z0-9_-]{43}$/, server_time: /Z$/, instance_id: UUID })
  const raw = Buffer.from(body.device_token.slice(3), 'base64url')
  const random = raw.subarray(0, 26)
  const tag = createHmac('sha256', HMAC_SECRET).update('device-token:v1:').update(random).digest()
  t.same(raw.subarray(26), tag.subarray(0, 6), 'the token carries our tag')
  const label = `device-command-key:v1:${body.device_id}:1`
  t.equal(body.hmac_key, createHmac('sha256', HMAC_SECRET).update(label).digest('base64url'))
  t.equal((await beat(body.device_token)).status, 200)
})

t.test('a bound token refuses another alias and keeps its use', async (t) => {
  const { id, token } = await issue('bound-2')
  t.match(await register(token, { alias: 'bound-3' }), {
    status: 409,
    body: { code: 'alias_mismatch' },
  })
  t.same([await usesOf(id), await devicesOf(id)], [0, 0])
  t.match(await register(token, { alias: 'bound-2' }), { status: 201, body: { alias: 'bound-2' } })
})

t.test('an unbound token needs the alias of the body', async (t) => {
  const { id, token } = await issue(null)
  const missing = await register(token, { hardware_id: 'x' })
  t.match(missing, { status: 422, body: { code: 'invalid_field', errors: [{ field: 'alias' }] } })
  for (const alias of ['', '-a', 'a b', 'é', 'a'.repeat(65), 7, {}]) {
    const refused = await register(token, { alias })
    t.match(refused, { status: 422, body: { errors: [{ field: 'alias' }] } }, JSON.stringify(alias))
  }
  t.equal(await usesOf(id), 0)
  t.match(await register(token, { alias: 'a'.repeat(64) }), { status: 201 })
  t.equal(await usesOf(id), 1)
})

t.test('an unbound token never takes the alias of a live device', async (t) => {
  const holder = await service.enroll('taken-1')
  const { id, token } = await issue(null)
  const refused = await register(token, { alias: 'taken-1' })
  t.match(refused, { status: 409, body: { code: 'alias_taken' } })
  t.equal(await usesOf(id), 0)
  t.equal((await beat(holder.token)).status, 200, 'the holder goes on')
  t.match(await register(token, { alias: 'taken-2' }), { status: 201 }, 'the use is still there')
})

t.test('a k-use token makes exactly k devices of 64 parallel registrations', async (t) => {
  const { id, token } = await issue(null, { uses_allowed: 5 })
  const responses = await Promise.all(
    PARALLEL.map((index) => register(token, { alias: `many-${index}` })),
  )
  t.same(countBy(responses), { '201': 5, '401 token_exhausted': 59 })
  t.same([await usesOf(id), await devicesOf(id)], [5, 5])
})

t.test('64 parallel registrations of one alias make one device of one use', async (t) => {
  const { id, token } = await issue('same-1')
  const responses = await Promise.all(PARALLEL.map(() => register(token)))
  t.same(countBy(responses), { '200': 5, '201': 1, '401 token_exhausted': 58 })
  t.same([await usesOf(id), await devicesOf(id)], [1, 1])
  const enrolled = responses.filter(({ status }) => status < 300).map(({ body }) => body)
  t.equal(new Set(enrolled.map((body) => body.device_id)).size, 1)
  t.equal(new Set(enrolled.map((body) => body.hmac_key)).size, 1)
  t.equal(new Set(enrolled.map((body) => body.device_token)).size, 6)
})

t.test('64 parallel registrations with 64 tokens all succeed', async (t) => {
  const body = { aliases: PARALLEL.map((index) => `all-${index}`) }
  const { tokens } = (await service.call('POST', '/v1/enroll-tokens', { body })).body
  const startedAtMs = performance.now()
  const took: number[] = []
  const enroll = async ({ token }: { token: string }) => {
    const response = await register(token)
    took.push(performance.now() - startedAtMs)
    return response
  }
  t.same(countBy(await Promise.all(tokens.map(enroll))), { '201': 64 })
  t.comment(`p95 of 64 registrations at once: ${took[Math.ceil(64 * 0.95) - 1]?.toFixed(0)} ms`)
})

t.test('64 unbound tokens in parallel give one alias to one device', async (t) => {
  const body = { aliases: PARALLEL.map(() => null) }
  const { tokens } = (await service.call('POST', '/v1/enroll-tokens', { body })).body
  const responses = await Promise.all(
    tokens.map(({ token }: { token: string }) => register(token, { alias: 'race-1' })),
  )
  t.same(countBy(responses), { '201': 1, '409 alias_taken': 63 })
})

t.test('the next use of a bound token enrolls its device again', async (t) => {
  const { id, token } = await issue('lost-8', { uses_allowed: 2 })
  const first = await register(token)
  t.equal((await beat(first.body.device_token)).status, 200)
  const second = await register(token)
  t.match(second, { status: 200, body: { device_id: first.body.device_id } })
  t.equal(await usesOf(id), 2)
  t.equal((await beat(first.body.device_token)).status, 401)
  t.equal((await beat(second.body.device_token)).status, 200)
})

t.test('re-enrollment keeps the device and ends its old token at once', async (t) => {
  const before = await service.enroll('again-1', { hardware_id: 'H1', model: 'R4S' })
  t.equal((await beat(before.token)).status, 200)
  const command = { alias: 'again-1', action: 'ping', request_id: 'again-cmd' }
  t.equal((await service.call('POST', '/admin/command', { body: command })).status, 202)

  const { token } = await issue('again-1')
  const { status, body } = await register(token, { hardware_id: 'H2' }, 'again-register')
  t.equal(status, 200)
  t.equal(body.device_id, before.deviceId)
  t.not(body.hmac_key, before.hmacKey)
  const label = `device-command-key:v1:${before.deviceId}:2`
  t.equal(body.hmac_key, createHmac('sha256', HMAC_SECRET).update(label).digest('base64url'))
  t.match(await beat(before.token), { status: 401, body: { code: 'token_superseded' } })
  t.match(await service.lines.terminalOf('again-register'), { result: 're_enrolled' })
  const device = await service.call('GET', `/admin/devices/${before.deviceId}`)
  t.match(device.body, { enrollment_no: 2, hardware_id: 'H2', model: 'R4S' })

  const { commands } = (await beat(body.device_token)).body
  t.match(commands, [{ request_id: 'again-cmd' }], 'its open command is still there')
  const { request_id, device_id, action, ts, hmac } = commands[0]
  const signed = [request_id, device_id, action, ts].join('|')
  t.equal(
    hmac,
    createHmac('sha256', body.hmac_key).update(signed).digest('hex'),
    'with the new key',
  )
})

t.test('nothing of this ended in a deadlock', async (t) => {
  t.equal(await service.stop(), 0) // the last test: connections hand in their statistics as they end
  const sql = 'select deadlocks::int from pg_stat_database where datname = current_database()'
  t.same((await db.query(sql)).rows, [{ deadlocks: 0 }])
})
