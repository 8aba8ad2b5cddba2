/** Enrollment: a token becomes devices, exactly as many as it allows, and a device may come back. */
import { createHmac } from 'node:crypto'
import t from 'tap'
import type { TestResponse } from '../helpers/client.ts'
import { connect } from '../helpers/database.ts'
import { HMAC_SECRET, startService } from '../helpers/service.ts'

/** A phone that says which one it is. */
const PHONE = { hardware_id: 'R4S1409240004533' }
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/
const PARALLEL = Array.from({ length: 64 }, (_, index) => index)

const service = await startService(t)
const db = await connect(t, service.databaseUrl)

/** One token; `alias` null: unbound. */
async function issue(alias: string | null, options = {}): Promise<{ id: string; token: string }> {
  const body = { aliases: [alias], ...options }
  const made = await service.call('POST', '/v1/enroll-tokens', { body })
  return { id: made.body.tokens[0].token_id, token: made.body.tokens[0].token }
}

/** Asked again while the answer is 503, as a phone does: a slow machine may have no connection left for 64 at once. */
async function register(
  token: string,
  body: unknown = PHONE,
  requestId?: string,
): Promise<TestResponse> {
  const headers = requestId === undefined ? {} : { 'x-request-id': requestId }
  for (;;) {
    const response = await service.call('POST', '/v1/register', { token, body, headers })
    if (response.status !== 503) return response
  }
}

function beat(token: string): Promise<TestResponse> {
  return service.call('POST', '/v1/heartbeat', { token, body: {} })
}

async function usesOf(tokenId: string): Promise<number> {
  const sql = 'select uses_consumed from enrollment_tokens where token_id = $1'
  return (await db.query(sql, [tokenId])).rows[0].uses_consumed
}

async function devicesOf(tokenId: string): Promise<number> {
  const sql = 'select count(*)::int as n from devices where enrolled_by = $1'
  return (await db.query(sql, [tokenId])).rows[0].n
}

function countBy(responses: readonly TestResponse[]): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const { status, body } of responses) {
    const key = status < 400 ? String(status) : `${status} ${body.code}`
    counts[key] = (counts[key] ?? 0) + 1
  }
  return counts
}

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

t.test(
  'any answer of a repeated registration works, and the first used ends the others',
  async (t) => {
    for (const chosen of [0, 1, 2, 3, 4, 5]) {
      const { token } = await issue(`first-${chosen}`)
      const responses = await Promise.all(PARALLEL.slice(0, 6).map(() => register(token)))
      const tokens = responses.map(({ body }) => body.device_token)
      t.equal((await beat(tokens[chosen])).status, 200)
      const after = await Promise.all(tokens.map(beat))
      t.same(countBy(after), { '200': 1, '401 token_superseded': 5 })
      t.equal(after[chosen]?.status, 200, 'it stays')
    }
  },
)

t.test('one answer survives when all are used at once', async (t) => {
  for (const path of ['/v1/heartbeat', '/v1/devices/fcm-token', '/v1/devices/fcm-token']) {
    const { token } = await issue('at-once')
    const registered = await Promise.all(PARALLEL.slice(0, 6).map(() => register(token)))
    const tokens: string[] = registered.map(({ body }) => body.device_token)
    const use = (token: string) => service.call('POST', path, { token, body: { fcm_token: 'f' } })
    const first = await Promise.all(tokens.map(use))
    t.ok(first.every(({ status }) => status === 200 || status === 401))
    const after = await Promise.all(tokens.map(use))
    t.same(countBy(after), { '200': 1, '401 token_superseded': 5 })
    const survivor = after.findIndex(({ status }) => status === 200)
    t.equal(first[survivor]?.status, 200, path)
  }
})

t.test('a lost answer is given again only to who asked first', async (t) => {
  const { id, token } = await issue('lost-1')
  const first = await register(token, { hardware_id: 'H1' })
  t.match(await register(token, { hardware_id: 'H2' }), { status: 401 }, 'another phone')
  t.match(await register(token, {}), { status: 401 }, 'no hardware_id is another one')
  const again = await register(token, { hardware_id: 'H1' }, 'lost-again')
  t.match(again, { status: 200, body: { device_id: first.body.device_id } })
  t.equal(again.body.hmac_key, first.body.hmac_key)
  t.not(again.body.device_token, first.body.device_token)
  const odd = await register(token, { hardware_id: 'H1', model: 'R4S' })
  t.match(odd, { status: 200 }, 'what the first call left open')
  const other = await register(token, { hardware_id: 'H1', model: 'R5' })
  t.match(other, { status: 401, body: { code: 'token_exhausted' } }, 'another model')
  t.equal(await usesOf(id), 1)
  t.match(await service.lines.terminalOf('lost-again'), {
    event: 'register.success',
    result: 'reissued',
    token_id: id.slice(-4),
  })
  const consumed = service.lines
    .of('sec.token.consume')
    .filter((line) => line['request_id'] === 'lost-again')
  t.match(consumed, [{ reason: 'reissue', token_id: id.slice(-4), admin: null }])
  const reissue = { token_id: id, proof: 'hardware_id' }
  t.match(await reissuesOf(first.body.device_id), [reissue, reissue])
})

const DESCRIPTION = { model: 'R4S', manufacturer: 'Example', android_version: '13' }

async function reissuesOf(deviceId: string): Promise<readonly object[]> {
  const sql = `select detail from audit_log where subject = $1 and what = 'device.reissued'`
  return (await db.query(sql, [deviceId])).rows.map(({ detail }) => detail)
}

t.test('an id that many phones share, or none, lets no second phone take over', async (t) => {
  const ids = [undefined, null, '', 'unknown', 'UNKNOWN', 'null', 'N/A', '0000000000000000']
  const more = ['0123456789ABCDEF', '9774d56d682e549c', '02:00:00:00:00:00', 'EMULATOR30X7X0X0']
  for (const [index, hardware_id] of [...ids, ...more].entries()) {
    const { id, token } = await issue(`shared-${index}`)
    const first = await register(token, { hardware_id })
    t.equal(first.status, 201, String(hardware_id))
    for (const body of [{ hardware_id }, { hardware_id, ...DESCRIPTION }]) {
      const second = await register(token, body)
      t.match(second, { status: 401, body: { code: 'token_exhausted' } }, String(hardware_id))
    }
    t.equal((await beat(first.body.device_token)).status, 200, 'the first phone goes on')
    t.equal(await usesOf(id), 1)
    t.same(await reissuesOf(first.body.device_id), [])
  }
})

t.test('a description that is whole and agrees proves the phone that has no id', async (t) => {
  for (const [index, hardware_id] of [undefined, 'unknown'].entries()) {
    const { id, token } = await issue(`described-${index}`)
    const body = { hardware_id, ...DESCRIPTION }
    const first = await register(token, body)
    const others = [
      { hardware_id },
      { ...body, model: 'R5' },
      { ...body, manufacturer: undefined },
      { ...body, android_version: '14' },
      { ...body, hardware_id: 'R4S1409240004533' },
    ]
    for (const other of others) {
      const refused = await register(token, other)
      t.match(refused, { status: 401, body: { code: 'token_exhausted' } }, JSON.stringify(other))
    }
    const again = await register(token, { ...body, app_version: '2' })
    t.match(again, { status: 200, body: { device_id: first.body.device_id } })
    t.equal(await usesOf(id), 1)
    t.match(await reissuesOf(first.body.device_id), [{ token_id: id, proof: 'description' }])
  }
  const { token } = await issue('vague')
  const vague = { ...DESCRIPTION, model: 'unknown' }
  t.equal((await register(token, vague)).status, 201)
  t.match(await register(token, vague), { status: 401 }, 'a description of unknown')
})

t.test('of a phone without an id only what it said itself counts', async (t) => {
  await service.enroll('handed-on', { hardware_id: 'H1', ...DESCRIPTION })
  const { token } = await issue('handed-on')
  const second = await register(token, {})
  t.match(second, { status: 200 })
  t.match(await register(token, DESCRIPTION), { status: 401, body: { code: 'token_exhausted' } })
  t.equal((await beat(second.body.device_token)).status, 200)
  const shown = await service.call('GET', `/admin/devices/${second.body.device_id}`)
  t.match(shown.body, { model: null, manufacturer: null, android_version: null })
})

t.test('with uses left, a phone that proves nothing takes one of them', async (t) => {
  const { id, token } = await issue('next-use', { uses_allowed: 2 })
  const first = await register(token, { hardware_id: 'unknown' })
  const second = await register(token, { hardware_id: 'unknown' })
  t.match([first.status, second.status], [201, 200])
  t.equal(await usesOf(id), 2)
  t.match(await beat(first.body.device_token), { body: { code: 'token_superseded' } })
  const unbound = await issue(null, { uses_allowed: 2 })
  t.equal((await register(unbound.token, { alias: 'next-1' })).status, 201)
  const taken = await register(unbound.token, { alias: 'next-1' })
  t.match(taken, { status: 409, body: { code: 'alias_taken' } })
})

t.test('a lost answer is given again five times', async (t) => {
  const { token } = await issue('lost-2')
  const responses: TestResponse[] = []
  for (const _ of [1, 2, 3, 4, 5, 6, 7]) responses.push(await register(token))
  t.same(
    responses.map(({ status }) => status),
    [201, 200, 200, 200, 200, 200, 401],
  )
})

t.test('the lost answer of an unbound token consumes nothing, another alias does', async (t) => {
  const { id, token } = await issue(null, { uses_allowed: 3 })
  const first = await register(token, { alias: 'lost-6', hardware_id: 'H1' })
  const again = await register(token, { alias: 'lost-6', hardware_id: 'H1' })
  t.match(again, { status: 200, body: { device_id: first.body.device_id } })
  t.equal(await usesOf(id), 1)
  t.equal((await register(token, { alias: 'lost-7', hardware_id: 'H1' })).status, 201)
  t.equal(await usesOf(id), 2)
  t.equal((await beat(again.body.device_token)).status, 200)
  const late = await register(token, { alias: 'lost-6', hardware_id: 'H1' })
  t.match(late, { status: 409, body: { code: 'alias_taken' } })
  t.equal(await usesOf(id), 2)
})

t.test('no answer is given again once a token of it has authenticated', async (t) => {
  const { token } = await issue('lost-3')
  const { body } = await register(token)
  t.equal((await beat(body.device_token)).status, 200)
  t.match(await register(token), { status: 401, body: { code: 'token_exhausted' } })
  t.equal((await beat(body.device_token)).status, 200)
})

t.test('no answer is given again after expiry or revocation', async (t) => {
  const expired = await issue('lost-4', { uses_allowed: 2 })
  const revoked = await issue('lost-5', { uses_allowed: 2 })
  for (const { token } of [expired, revoked]) t.equal((await register(token)).status, 201)
  await db.query('update enrollment_tokens set expires_at = now() where token_id = $1', [
    expired.id,
  ])
  await service.call('DELETE', `/v1/enroll-tokens/${revoked.id}`)
  t.match(await register(expired.token), { status: 401, body: { code: 'token_expired' } })
  t.match(await register(revoked.token), { status: 401, body: { code: 'token_revoked' } })
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
