/** The lines that end every request which has no line of its own, and scrapes. */
import t, { type Test } from 'tap'
import { makeApk } from '../../sim/apk.ts'
import type { TestResponse } from '../helpers/client.ts'
import { connect } from '../helpers/database.ts'
import { head, openRaw, sendRaw } from '../helpers/raw.ts'
import { ADMIN, startService } from '../helpers/service.ts'
import { end, story, theme, type Value } from './helpers.ts'

const { compare } = theme(t, {
  'metrics.scrape': ['INFO'],
  'http.request': ['DEBUG', 'INFO', 'WARN not_found', 'WARN client_closed'],
  'http.error': ['ERROR internal', 'ERROR db_unavailable', 'ERROR transfer_encoding'],
})
const service = await startService(t, { env: { LOG_LEVEL: 'DEBUG' } })
const db = await connect(t, service.databaseUrl)

/** The one line of a request. */
async function only(t: Test, { requestId }: Pick<TestResponse, 'requestId'>) {
  const [line, ...more] = await story(service, requestId)
  t.same(more, [], 'its only line')
  if (line === undefined) throw new Error('no line')
  return line
}

t.test('health probes are DEBUG, whatever they are told', async (t) => {
  for (const [method, path, reason] of [
    ['GET', '/healthz', null],
    ['HEAD', '/healthz', null],
    ['GET', '/readyz', null],
    ['POST', '/readyz', 'method_not_allowed'],
  ] as const) {
    const response = await service.call(method, path)
    const own = { method, reason, admin: null }
    compare(t, await only(t, response), 'http.request', 'DEBUG', end(response, path), own)
  }
})

t.test('what is answered with 2xx or 3xx is INFO and names the admin', async (t) => {
  const device = { ...(await service.enroll('D01')), alias: 'D01' }
  const build = '/admin/apk/builds/b1?version_code=1'
  const published = await service.call('PUT', build, { raw: makeApk() })
  t.equal(published.status, 201)
  const ping = { alias: 'D01', action: 'ping', request_id: 'c1' }
  t.equal((await service.call('POST', '/admin/command', { body: ping })).status, 202)
  const token = device.token
  const body = { fcm_token: 'push-1' }
  for (const [method, path, options, admin, known] of [
    ['GET', '/admin/devices', {}, 'tester', {}],
    ['GET', '/v1/enroll-tokens', {}, 'tester', {}],
    ['HEAD', '/admin/audit', {}, 'tester', {}],
    ['GET', `/admin/devices/${device.deviceId}`, {}, 'tester', device],
    ['GET', '/admin/commands/c1', {}, 'tester', device],
    ['HEAD', '/v1/apk/download-latest', {}, 'tester', {}],
    ['HEAD', '/v1/apk/download-latest', { token }, null, device],
    ['POST', '/v1/devices/fcm-token', { token, body }, null, device],
  ] as const) {
    const response = await service.call(method, path, options)
    t.equal(response.status, 200, path)
    const own = { method, reason: null, admin }
    const route = path.replace(device.deviceId, '{device_id}').replace('c1', '{request_id}')
    compare(t, await only(t, response), 'http.request', 'INFO', end(response, route, known), own)
  }
})

t.test('what is refused is WARN and names the code', async (t) => {
  const device = { ...(await service.enroll('D02')), alias: 'D02' }
  const token = device.token
  const body = { outcome: 'success' }
  const unmatched = 'unmatched'
  const RESULT = '/v1/action-result'
  const DEVICE = '/admin/devices/{device_id}'
  for (const [method, path, options, reason, route, admin, known] of [
    ['GET', '/v1/nowhere', {}, 'not_found', unmatched, null, {}],
    ['GET', '/admin/devices/%ff', {}, 'bad_path', unmatched, null, {}],
    ['PATCH', '/admin/devices', {}, 'method_not_allowed', '/admin/devices', null, {}],
    ['GET', '/admin/devices/none', {}, 'device_unknown', DEVICE, 'tester', {}],
    ['POST', '/v1/enroll-tokens', { body: {} }, 'invalid_field', '/v1/enroll-tokens', 'tester', {}],
    ['POST', RESULT, { token, body }, 'invalid_field', RESULT, null, device],
    ['POST', '/v1/heartbeat', { token, body: [] }, 'bad_json', '/v1/heartbeat', null, {}],
  ] as const) {
    const response = await service.call(method, path, options)
    const own = { method, reason, admin }
    compare(t, await only(t, response), 'http.request', 'WARN', end(response, route, known), own)
  }
})

t.test('what never became a request has neither method nor user agent', async (t) => {
  const response = await sendRaw(t, service.origin, 'hello\r\n\r\n')
  const at = { ...end(response, 'unmatched'), user_agent: null, latency_ms: 0 }
  const own = { method: null, reason: 'bad_request', admin: null }
  compare(t, await only(t, response), 'http.request', 'WARN', at, own)
})

t.test('a client that left before the answer', async (t) => {
  const leaving = await openRaw(t, service.origin)
  const bearer = `Authorization: Bearer ${ADMIN}`
  const headers = [bearer, 'Content-Length: 100', 'User-Agent: node', 'X-Request-ID: left']
  leaving.write(`${head('POST /v1/enroll-tokens HTTP/1.1', ...headers)}{"aliases`)
  await service.call('GET', '/healthz') // its head has been read by then
  leaving.destroy()
  const response = { requestId: 'left', status: 499 }
  const own = { method: 'POST', reason: 'client_closed', admin: 'tester' }
  const at = end(response, '/v1/enroll-tokens')
  compare(t, await only(t, response), 'http.request', 'WARN', at, own)
})

t.test('each 5xx is ERROR; only a fault of ours has a stack', async (t) => {
  async function compareError(
    t: Test,
    response: Pick<TestResponse, 'requestId' | 'status'>,
    own: Own,
  ) {
    const { route, ...fields } = own
    const line = await only(t, response)
    compare(t, line, 'http.error', 'ERROR', end(response, route), fields)
  }
  interface Own {
    readonly route: string
    readonly method: string
    readonly error: string
    readonly stack: Value
    readonly statement?: string
    readonly cause?: string
  }

  await db.query('begin')
  await db.query('lock table enrollment_tokens in access exclusive mode')
  const away = await service.call('GET', '/v1/enroll-tokens')
  await db.query('commit')
  t.equal(away.status, 503)
  const tokens = { route: '/v1/enroll-tokens', method: 'GET' }
  const locked = { statement: 'enrollment_tokens.list', cause: 'locked' }
  await compareError(t, away, { ...tokens, error: 'db_unavailable', stack: null, ...locked })

  await db.query('alter table audit_log rename to audit_log_away')
  const broken = await service.call('GET', '/admin/audit')
  await db.query('alter table audit_log_away rename to audit_log')
  t.equal(broken.status, 500)
  const stack = /^error: relation "audit_log" does not exist\n {4}at .*\.(?:ts|js):\d+/
  const audit = { route: '/admin/audit', method: 'GET' }
  await compareError(t, broken, { ...audit, error: 'internal', stack, statement: 'audit.list' })

  const beat = 'POST /v1/heartbeat HTTP/1.1'
  const gzip = head(beat, 'Transfer-Encoding: gzip, chunked', 'User-Agent: node')
  const odd = await sendRaw(t, service.origin, `${gzip}0\r\n\r\n`)
  t.equal(odd.status, 501)
  const heartbeat = { route: '/v1/heartbeat', method: 'POST' }
  await compareError(t, odd, { ...heartbeat, error: 'transfer_encoding', stack: null })
})

t.test('a scrape says how much it gave', async (t) => {
  const response = await service.call('GET', '/metrics')
  const samples = response.text.split('\n').filter((line) => line !== '' && line[0] !== '#')
  const own = { series: samples.length, bytes: response.bytes.length }
  compare(t, await only(t, response), 'metrics.scrape', 'INFO', end(response, '/metrics'), own)
})
