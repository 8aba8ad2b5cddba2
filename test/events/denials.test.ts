/** The lines of credentials, signatures and transports that are refused: each ends its request. */
import { createHash, createHmac } from 'node:crypto'
import t, { type Test } from 'tap'
import type { CallOptions, TestResponse } from '../helpers/client.ts'
import { ADMIN, type Running, startService } from '../helpers/service.ts'
import { end, inside, story, theme } from './helpers.ts'

const { compare } = theme(t, {
  'sec.auth.denied': [
    'WARN missing',
    'WARN malformed',
    'WARN unknown',
    'WARN superseded',
    'WARN wrong_credential',
    'WARN scope',
    'WARN deleted',
  ],
  'sec.hmac.invalid': [
    'WARN missing',
    'WARN malformed',
    'WARN stale',
    'WARN replayed',
    'WARN mismatch',
  ],
  'sec.https.enforced': ['WARN plaintext'],
  'proxy.untrusted': ['WARN'],
})
const READER = 'reader-token-Qd8vXr2kWz9mBt4sLh7cYp3n'
const SECRET = 'test-admin-hmac-secret-Qd8vXr2kWz9mBt4sLh7cYp3n'
const service = await startService(t, {
  env: { ADMIN_TOKENS: `tester=${ADMIN},reader:read=${READER}` },
})

/** The one line of a request that was refused. */
async function only(t: Test, from: Running, response: TestResponse) {
  const [line, ...more] = await story(from, response.requestId)
  t.same(more, [], 'its only line')
  if (line === undefined) throw new Error('no line')
  return line
}

t.test('who cannot prove who they are', async (t) => {
  const device = { ...(await service.enroll('D01')), alias: 'D01' }
  const again = await service.call('POST', '/v1/enroll-tokens', { body: { aliases: ['D01'] } })
  const { token } = again.body.tokens[0]
  await service.call('POST', '/v1/register', { token, body: {} })
  const dead = { ...(await service.enroll('D02')), alias: 'D02' }
  await service.call('DELETE', `/admin/devices/${dead.deviceId}`)

  const BEAT = ['POST', '/v1/heartbeat'] as const
  const LIST = ['GET', '/admin/devices'] as const
  const malformed = { authorization: 'Basic dGVzdA==' }
  const cases: readonly [
    reason: string,
    route: readonly [string, string],
    options: CallOptions,
    status: number,
    known?: { deviceId: string; alias: string },
  ][] = [
    ['missing', BEAT, { token: null }, 401],
    ['missing', LIST, { token: null }, 401],
    ['malformed', BEAT, { token: null, headers: malformed }, 401],
    ['malformed', LIST, { token: null, headers: malformed }, 401],
    ['unknown', BEAT, { token: `dt_${'a'.repeat(43)}` }, 401],
    ['unknown', LIST, { token: 'nobody' }, 401],
    ['superseded', BEAT, { token: device.token }, 401, device],
    ['wrong_credential', BEAT, { token }, 401],
    ['wrong_credential', LIST, { token: device.token }, 401],
    ['scope', ['GET', '/metrics'], { token: READER }, 403],
    ['deleted', BEAT, { token: dead.token }, 410, dead],
  ]
  for (const [reason, [method, path], options, status, known] of cases) {
    const isPost = method === 'POST'
    const response = await service.call(method, path, { ...(isPost && { body: {} }), ...options })
    t.equal(response.status, status, `${reason} ${path}`)
    const line = await only(t, service, response)
    compare(t, line, 'sec.auth.denied', 'WARN', end(response, path, known), {
      reason,
      token_id: null,
    })
  }
})

/** Written from openapi.json, not from the code. */
function sign(body: string, agoS = 0): string {
  const time = Math.floor(Date.now() / 1_000) - agoS
  const hash = createHash('sha256').update(body).digest('hex')
  const text = `${time}\nPOST\n/v1/enroll-tokens\n\n${hash}`
  return `t=${time},v1=${createHmac('sha256', SECRET).update(text).digest('hex')}`
}

t.test('a signature that does not hold', async (t) => {
  const signing = await startService(t, { env: { ADMIN_HMAC_SECRET: SECRET } })
  const path = '/v1/enroll-tokens'
  const raw = '{"aliases":["S1"]}'
  const post = (signature?: string) =>
    signing.call('POST', path, {
      raw,
      headers: {
        'content-type': 'application/json',
        ...(signature !== undefined && { 'x-signature': signature }),
      },
    })
  const accepted = sign(raw)
  t.equal((await post(accepted)).status, 201)
  const cases = [
    ['missing', undefined],
    ['malformed', 't=now,v1=abc'],
    ['stale', sign(raw, 200)],
    ['replayed', accepted],
    ['mismatch', sign('{"aliases":["S2"]}')],
  ] as const
  for (const [reason, signature] of cases) {
    const response = await post(signature)
    t.match(response, { status: 401, body: { code: 'signature_invalid' } }, reason)
    const own = { reason, token_id: null }
    const line = await only(t, signing, response)
    compare(t, line, 'sec.hmac.invalid', 'WARN', end(response, path), own)
  }
})

t.test('a device’s signature names the device', async (t) => {
  const device = { ...(await service.enroll('D03')), alias: 'D03' }
  const path = '/v1/action-result'
  const response = await service.call('POST', path, {
    token: device.token,
    body: { request_id: 'any', outcome: 'success' },
    headers: { 'x-signature': sign('') },
  })
  const own = { reason: 'mismatch', token_id: null }
  const line = await only(t, service, response)
  compare(t, line, 'sec.hmac.invalid', 'WARN', end(response, path, device), own)
})

t.test('plaintext through a trusted proxy', async (t) => {
  const proxied = await startService(t, { env: { TRUSTED_PROXIES: '127.0.0.1/32' } })
  for (const path of ['/admin/devices', '/metrics']) {
    const headers = { 'x-forwarded-for': '203.0.113.9', 'x-forwarded-proto': 'http' }
    const response = await proxied.call('GET', path, { headers })
    t.match(response, { status: 403, body: { code: 'https_required' } })
    const at = { ...end(response, path), ip: '203.0.113.9' }
    const own = { reason: 'plaintext', token_id: null }
    const line = await only(t, proxied, response)
    compare(t, line, 'sec.https.enforced', 'WARN', at, own)
  }
})

t.test('a proxy that TRUSTED_PROXIES does not name', async (t) => {
  const headers = { 'x-forwarded-for': '203.0.113.9', 'x-forwarded-proto': 'https' }
  const path = '/admin/devices'
  const response = await service.call('GET', path, { headers })
  await service.lines.terminalOf(response.requestId)
  const lines = service.lines.of('proxy.untrusted')
  t.equal(lines.length, 1)
  const at = inside(response.requestId, path)
  for (const line of lines) compare(t, line, 'proxy.untrusted', 'WARN', at, {})
})
