/** Credentials: how a device token is judged, and what each refusal says. */
import { createHmac, randomBytes } from 'node:crypto'
import t from 'tap'
import type { LogLine } from '../../testkit/log-book.ts'
import type { TestResponse } from '../helpers/client.ts'
import { connect } from '../helpers/database.ts'
import { ADMIN, HMAC_SECRET, startService } from '../helpers/service.ts'

const UNKNOWN_ID = '018f0000-0000-7000-8000-000000000000'
const DEVICE_ROUTES = [
  ['POST', '/v1/heartbeat'],
  ['POST', '/v1/action-result'],
  ['POST', '/v1/devices/fcm-token'],
  ['POST', '/v1/devices/push-id'],
  ['POST', '/v1/devices/ack'],
  ['POST', `/v1/devices/${UNKNOWN_ID}/ack`],
  ['GET', '/v1/apk/download-latest'],
] as const

const service = await startService(t)
const db = await connect(t, service.databaseUrl)

/** A device token with our tag, that no database has heard of. */
function forgottenToken(): string {
  const random = randomBytes(26)
  const tag = createHmac('sha256', HMAC_SECRET).update('device-token:v1:').update(random).digest()
  return `dt_${Buffer.concat([random, tag.subarray(0, 6)]).toString('base64url')}`
}

function strangeToken(): string {
  return `dt_${randomBytes(32).toString('base64url')}`
}

function ask(
  [method, path]: readonly [string, string],
  token: string | null,
  headers: Record<string, string> = {},
): Promise<TestResponse> {
  const body = { fcm_token: 'f', request_id: 'none', outcome: 'success' }
  return service.call(method, path, { token, headers, ...(method === 'POST' && { body }) })
}

const beat = (token: string | null, headers = {}) => ask(['POST', '/v1/heartbeat'], token, headers)

/** All lines of the answered request, its terminal line last. */
async function story({ requestId }: TestResponse): Promise<readonly LogLine[]> {
  await service.lines.terminalOf(requestId)
  return service.lines.all.filter((line) => line['request_id'] === requestId)
}

t.test('an empty installation tells no phone that its token is bad', async (t) => {
  const fresh = await startService(t)
  for (const token of [forgottenToken(), strangeToken(), 'legacy-token']) {
    for (const [method, path] of DEVICE_ROUTES) {
      const body = method === 'POST' ? { body: { fcm_token: 'f', request_id: 'x' } } : {}
      const response = await fresh.call(method, path, { token, ...body })
      t.match(response, { status: 503, body: { code: 'not_provisioned' } }, path)
      t.match(response.headers.get('retry-after'), /^[1-9]\d*$/)
    }
  }
  await fresh.enroll('D01')
  t.equal(
    (await fresh.call('POST', '/v1/heartbeat', { token: strangeToken(), body: {} })).status,
    401,
  )
})

t.test('a token that we issued and the database forgot is our trouble', async (t) => {
  await service.enroll('forgotten-1')
  for (const route of DEVICE_ROUTES) {
    const response = await ask(route, forgottenToken())
    t.match(response, { status: 503, body: { code: 'not_provisioned' } }, route[1])
    t.match(response.headers.get('retry-after'), /^[1-9]\d*$/)
    const terminal = route[0] === 'GET' ? 'apk.download.fail' : 'http.error'
    t.match(await story(response), [
      { event: 'device.unknown_to_database', level: 'ERROR', status_code: null },
      { event: terminal, level: 'ERROR', status_code: 503 },
    ])
  }
})

t.test('a token without our tag is refused', async (t) => {
  await service.enroll('strange-1')
  for (const route of DEVICE_ROUTES) {
    const response = await ask(route, strangeToken())
    t.match(response, { status: 401, body: { code: 'token_unknown' } }, route[1])
    const denied = { event: 'sec.auth.denied', level: 'WARN', reason: 'unknown', token_id: null }
    t.match(await story(response), [denied])
  }
})

t.test('garbage is refused without the database, and nothing else is while it hangs', async (t) => {
  const { token } = await service.enroll('locked-1')
  t.equal((await beat(strangeToken())).status, 401)
  await db.query('begin')
  await db.query('lock table devices, device_tokens, enrollment_tokens in access exclusive mode')
  try {
    t.match(await beat(strangeToken()), { status: 401, body: { code: 'token_unknown' } })
    const responses = await Promise.all([
      beat(token),
      beat(forgottenToken()),
      ask(['POST', '/v1/action-result'], token),
      ask(['POST', '/v1/register'], `et_${'A'.repeat(43)}`),
      ask(['GET', '/v1/apk/download-latest'], `et_${'A'.repeat(43)}`),
    ])
    for (const { status, body, headers } of responses) {
      t.equal(status, 503, body?.code)
      t.match(headers.get('retry-after'), /^[1-9]\d*$/)
    }
  } finally {
    await db.query('rollback')
  }
  t.equal((await beat(token)).status, 200)
})

t.test('X-Device-Token means the same as Authorization', async (t) => {
  const { token } = await service.enroll('header-1')
  t.equal((await beat(null, { 'x-device-token': token })).status, 200)
  t.equal((await beat(token, { 'x-device-token': token })).status, 200)
  const differ = await beat(token, { 'x-device-token': strangeToken() })
  t.match(differ, { status: 400, body: { code: 'bad_request' } })
  t.match(await beat(ADMIN, { 'x-device-token': token }), { status: 400 })
  const download = await ask(['GET', '/v1/apk/download-latest'], null, { 'x-device-token': token })
  t.match(download, { status: 404, body: { code: 'apk_none' } })
})

t.test(
  'a missing or malformed credential is 401 unauthenticated on every guarded route',
  async (t) => {
    for (const route of [
      ...DEVICE_ROUTES,
      ['POST', '/v1/register'],
      ['GET', '/admin/devices'],
    ] as const) {
      const missing = await ask(route, null)
      t.match(missing, { status: 401, body: { code: 'unauthenticated' } }, route[1])
      t.match(
        (await story(missing)).find((line) => line.event.startsWith('sec.')),
        {
          event: 'sec.auth.denied',
          reason: 'missing',
        },
      )
      const malformed = await ask(route, null, { authorization: 'Basic dGVzdDp0ZXN0' })
      t.match(malformed, { status: 401, body: { code: 'unauthenticated' } }, route[1])
      t.match(
        (await story(malformed)).find((line) => line.event.startsWith('sec.')),
        {
          reason: 'malformed',
        },
      )
    }
  },
)

t.test('a good credential in the wrong place is 401 wrong_credential', async (t) => {
  const { token, enrollmentToken } = await service.enroll('wrong-1')
  for (const [route, wrong] of [
    ...DEVICE_ROUTES.slice(0, 5).map((route) => [route, enrollmentToken] as const),
    [['POST', '/v1/register'], token],
    [['GET', '/admin/devices'], token],
    [['GET', '/admin/devices'], enrollmentToken],
  ] as const) {
    const response = await ask(route, wrong)
    t.match(response, { status: 401, body: { code: 'wrong_credential' } }, route[1])
    t.match(
      (await story(response)).find((line) => line.event.startsWith('sec.')),
      {
        event: 'sec.auth.denied',
        reason: 'wrong_credential',
      },
    )
  }
})

t.test('a replaced token is 401 token_superseded on every device route', async (t) => {
  const { token, deviceId } = await service.enroll('super-1')
  await service.enroll('super-1')
  for (const route of DEVICE_ROUTES) {
    const response = await ask(route, token)
    t.match(response, { status: 401, body: { code: 'token_superseded' } }, route[1])
    const lines = await story(response)
    t.match(
      lines.find((line) => line.event.startsWith('sec.')),
      {
        event: 'sec.auth.denied',
        reason: 'superseded',
        device_id: deviceId,
        alias: 'super-1',
      },
    )
    t.match(lines.at(-1), { status_code: 401 })
  }
})

t.test('what replaced a token still holds when its device is deleted', async (t) => {
  const { token, deviceId } = await service.enroll('super-2')
  const { token: last } = await service.enroll('super-2')
  t.equal((await service.call('DELETE', `/admin/devices/${deviceId}`)).status, 204)
  for (const route of DEVICE_ROUTES) {
    t.match(await ask(route, token), { status: 401, body: { code: 'token_superseded' } }, route[1])
    t.match(await ask(route, last), { status: 410, body: { code: 'device_deleted' } }, route[1])
  }
})

t.test(
  'a deleted device is told so, its alias is free and its commands are cancelled',
  async (t) => {
    const { token, deviceId } = await service.enroll('gone-1')
    const command = { alias: 'gone-1', action: 'ping', request_id: 'gone-cmd' }
    t.equal((await service.call('POST', '/admin/command', { body: command })).status, 202)
    const path = `/admin/devices/${deviceId}`
    const deleted = await service.call('DELETE', path)
    t.equal(deleted.status, 204)
    for (const route of DEVICE_ROUTES) {
      const response = await ask(route, token)
      t.match(response, { status: 410, body: { code: 'device_deleted' } }, route[1])
      const lines = await story(response)
      t.match(
        lines.find((line) => line.event.startsWith('sec.')),
        {
          event: 'sec.auth.denied',
          reason: 'deleted',
          device_id: deviceId,
        },
      )
      t.match(lines.at(-1), { status_code: 410 })
    }
    t.match(await story(deleted), [
      { event: 'device.delete', admin: 'tester', device_id: deviceId, alias: 'gone-1' },
      { event: 'http.request', status_code: 204 },
    ])
    t.match(service.lines.of('command.cancelled'), [
      { request_id: 'gone-cmd', action: 'ping', admin: 'tester', reason: 'device_deleted' },
    ])
    t.match((await service.call('GET', '/admin/commands/gone-cmd')).body, { status: 'cancelled' })
    const to = { device_id: deviceId, action: 'ping' }
    t.match(await service.call('POST', '/admin/command', { body: to }), { status: 410 })
    const byAlias = { body: { alias: 'gone-1', action: 'ping' } }
    const nobody = { status: 404, body: { code: 'device_unknown' } }
    t.match(await service.call('POST', '/admin/command', byAlias), nobody)
    const again = await service.enroll('gone-1')
    t.not(again.deviceId, deviceId, 'the alias belongs to a new device')
    const its = { status: 202, body: { device_id: again.deviceId } }
    t.match(await service.call('POST', '/admin/command', byAlias), its)
    t.equal((await beat(again.token)).status, 200)
    t.equal((await service.call('DELETE', path)).status, 204, 'deleted again')
    const sql = "select what from audit_log where subject = $1 and what = 'device.delete'"
    t.equal((await db.query(sql, [deviceId])).rowCount, 1)
  },
)

t.test('the first secret signs new enrollments, and every secret verifies', async (t) => {
  const old = await startService(t, { env: { HMAC_SECRET: `old=${HMAC_SECRET}-old` } })
  const before = await old.enroll('rotated-1')
  const { databaseUrl } = old
  const env = { HMAC_SECRET: `new=${HMAC_SECRET}-new,old=${HMAC_SECRET}-old` }
  const next = await startService(t, { databaseUrl, env })
  const after = await next.enroll('rotated-2')
  const label = `device-command-key:v1:${after.deviceId}:1`
  const key = createHmac('sha256', `${HMAC_SECRET}-new`).update(label).digest('base64url')
  t.equal(after.hmacKey, key)
  for (const [service, token, status] of [
    [next, before.token, 200],
    [next, after.token, 200],
    [old, before.token, 200],
  ] as const) {
    t.equal((await service.call('POST', '/v1/heartbeat', { token, body: {} })).status, status)
  }
})
