/** The response to a registration is given again, to the phone that asked first and to nobody else. */
import t from 'tap'
import type { TestResponse } from '../helpers/client.ts'
import { beat, countBy, db, issue, PARALLEL, register, service, usesOf } from './enrolling.ts'

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

t.test('nothing of this ended in a deadlock', async (t) => {
  t.equal(await service.stop(), 0) // the last test: connections hand in their statistics as they end
  const sql = 'select deadlocks::int from pg_stat_database where datname = current_database()'
  t.same((await db.query(sql)).rows, [{ deadlocks: 0 }])
})
