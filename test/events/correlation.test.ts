/** One terminal line for each request, and one id for each story (docs/reference/events.md). */
import t from 'tap'
import { makeApk } from '../../sim/apk.ts'
import { pushSettings, startFakeFcm } from '../../sim/fcm/fake-fcm.ts'
import type { CallOptions } from '../helpers/client.ts'
import { head, openRaw, sendRaw } from '../helpers/raw.ts'
import { ADMIN, settle, startService } from '../helpers/service.ts'
import { story } from './helpers.ts'

const UUID_V7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/
const AUTHORIZED = `Authorization: Bearer ${ADMIN}`
const fcm = await startFakeFcm()
t.teardown(() => fcm.close())
fcm.register('push-1', () => {})
const service = await startService(t, {
  env: {
    LOG_LEVEL: 'DEBUG',
    ...pushSettings(fcm),
  },
})
const device = await service.enroll('D01', { fcm_token: 'push-1' })
await service.call('PUT', '/admin/apk/builds/b1?version_code=1', { raw: makeApk() })

t.test('each request ends in one line with its status, and gets its id back', async (t) => {
  const { token, enrollmentToken } = device
  const TOKENS = '/v1/enroll-tokens'
  const COMMAND = '/admin/command'
  const LATEST = '/v1/apk/download-latest'
  const requests: readonly [string, string, CallOptions, number][] = [
    ['GET', '/healthz', {}, 200],
    ['GET', '/readyz', {}, 200],
    ['GET', '/metrics', {}, 200],
    ['GET', '/metrics', { token: 'nobody' }, 401],
    ['GET', '/v1/nowhere', {}, 404],
    ['DELETE', '/healthz', {}, 405],
    ['POST', '/v1/register', { token: enrollmentToken, body: { alias: 'other' } }, 409],
    ['POST', '/v1/register', { token: 'nothing', body: {} }, 401],
    ['POST', '/v1/heartbeat', { token, body: {} }, 200],
    ['POST', '/v1/heartbeat', { token, body: {} }, 200],
    ['POST', '/v1/heartbeat', { token, body: [] }, 400],
    ['POST', '/v1/heartbeat', { token: null, body: {} }, 401],
    ['POST', '/v1/action-result', { token, body: { request_id: 'none', outcome: 'ok' } }, 404],
    ['POST', '/v1/devices/fcm-token', { token, body: { fcm_token: 'push-1' } }, 200],
    ['POST', '/v1/devices/ack', { token, body: {} }, 422],
    ['POST', '/v1/devices/none/ack', { token, body: {} }, 404],
    ['GET', LATEST, { token }, 200],
    ['GET', LATEST, { token: enrollmentToken, headers: { range: 'bytes=0-0' } }, 206],
    ['GET', LATEST, { headers: { range: 'bytes=99999-' } }, 416],
    ['HEAD', LATEST, {}, 200],
    ['GET', `${LATEST}?build_type=release`, {}, 404],
    ['POST', TOKENS, { body: { aliases: [null, null] } }, 201],
    ['GET', TOKENS, {}, 200],
    ['DELETE', `${TOKENS}/none`, {}, 404],
    ['POST', COMMAND, { body: { alias: 'D01', action: 'ping' } }, 202],
    ['POST', COMMAND, { body: { alias: 'D01', action: 'dance' } }, 422],
    ['GET', '/admin/commands', {}, 200],
    ['GET', '/admin/commands/none', {}, 404],
    ['DELETE', '/admin/commands/none', {}, 404],
    ['GET', '/admin/devices', {}, 200],
    ['GET', `/admin/devices/${device.deviceId}`, {}, 200],
    ['DELETE', '/admin/devices/none', {}, 404],
    ['PUT', '/admin/apk/builds/b2', { raw: 'no zip' }, 422],
    ['GET', '/admin/apk/builds', {}, 200],
    ['GET', '/admin/apk/builds/b1/download', {}, 200],
    ['DELETE', '/admin/apk/builds/none', {}, 404],
    ['GET', '/admin/audit', {}, 200],
  ]
  for (const [index, [method, path, options, status]] of requests.entries()) {
    const id = `each-${index}`
    const headers = { ...options.headers, 'x-request-id': id }
    const response = await service.call(method, path, { ...options, headers })
    t.same([response.status, response.requestId], [status, id], `${method} ${path}`)
    const ended = (await story(service, id)).filter((line) => line['status_code'] !== null)
    t.match(ended, [{ status_code: status, latency_ms: Number, request_id: id }])
    t.equal(ended.length, 1)
  }
  const COMPLETE = /"status_code":(?:null,"latency_ms":null|\d{3},"latency_ms":\d+\.\d{3})[,}]/
  t.same(
    service.lines.raw.filter((line) => !COMPLETE.test(line)),
    [],
    'both or neither, milliseconds with 3 decimals',
  )
})

t.test('an id that is not fit to be one is replaced', async (t) => {
  const fit = ['a', 'A-z.0_9:', 'x'.repeat(128)]
  const unfit = ['', 'x'.repeat(129), 'a b', 'a,b', 'a"b', '{}', 'caf\u00e9', '../x', '%41']
  for (const id of [...fit, ...unfit]) {
    const request = head('GET /v1/nowhere HTTP/1.1', `X-Request-ID: ${id}`)
    const response = await sendRaw(t, service.origin, Buffer.from(request, 'latin1'))
    if (fit.includes(id)) t.equal(response.requestId, id)
    else t.match(response.requestId, UUID_V7, JSON.stringify(id))
    t.equal(response.body.request_id, response.requestId)
    t.equal((await story(service, response.requestId)).length, 1)
  }
  const twice = head('GET /v1/nowhere HTTP/1.1', 'X-Request-ID: a', 'X-Request-ID: b')
  t.match((await sendRaw(t, service.origin, twice)).requestId, UUID_V7, 'of two, none')
})

t.test('one id tells the whole story of a command', async (t) => {
  const id = 'story:1'
  const accepted = await service.call('POST', '/admin/command', {
    body: { alias: 'D01', action: 'ping', request_id: id },
    headers: { 'x-request-id': 'ingress-1' },
  })
  t.match(accepted, { status: 202, requestId: 'ingress-1', body: { request_id: id } })
  const send = await fcm.waitForSend(({ data }) => data['request_id'] === id)
  t.equal(send.data['request_id'], id, 'the message carries it')
  const result = await service.call('POST', '/v1/action-result', {
    token: device.token,
    body: { request_id: id, outcome: 'success' },
    headers: { 'x-request-id': 'ingress-2' },
  })
  t.match(result, { status: 200, requestId: 'ingress-2' })
  await service.lines.terminalOf('ingress-2')
  await service.lines.waitFor((line) => line.event === 'http.request' && line['request_id'] === id)
  const told = service.lines.all.filter((line) => line['request_id'] === id)
  t.same(told.map(({ event }) => event).sort(), [
    'action_result.ingest',
    'dispatch.request',
    'dispatch.sent',
    'http.request',
  ])
  for (const line of told) t.match(line, { device_id: device.deviceId, alias: 'D01' })
  const ingress = told.map((line) => [line.event, line['http_request_id']])
  t.same(Object.fromEntries(ingress), {
    'dispatch.request': 'ingress-1',
    'http.request': 'ingress-1',
    'dispatch.sent': undefined,
    'action_result.ingest': 'ingress-2',
  })
  const stray = service.lines.all.filter((line) => /^ingress-/.test(String(line['request_id'])))
  t.same(stray, [], 'the ingress ids head no line')
})

t.test('a client that leaves has one line, 499, wherever its request stood', async (t) => {
  const beat = 'POST /v1/heartbeat HTTP/1.1'
  const bearer = `Authorization: Bearer ${device.token}`
  const expect = 'Expect: 100-continue'
  const put = 'PUT /admin/apk/builds/b3?version_code=3 HTTP/1.1'
  for (const [id, request, ...headers] of [
    ['gone-beat', beat, bearer],
    ['gone-upload', put, AUTHORIZED],
    ['gone-tokens', 'POST /v1/enroll-tokens HTTP/1.1', AUTHORIZED],
  ] as const) {
    const connection = await openRaw(t, service.origin)
    const length = 'Content-Length: 100'
    connection.write(head(request, ...headers, length, expect, `X-Request-ID: ${id}`))
    t.equal((await connection.answer()).status, 100, 'its request is in flight')
    connection.write('{"')
    connection.destroy()
    const lines = await story(service, id)
    t.match(lines, [{ event: 'http.request', level: 'WARN', status_code: 499 }], id)
    t.match(lines[0], { reason: 'client_closed' })
    t.equal(lines.length, 1)
  }
})

t.test('so have the requests behind another one of a client that leaves', async (t) => {
  const body = { alias: 'D01', action: 'ring', request_id: 'waited-for' }
  await service.call('POST', '/admin/command', { body })
  const wait = 'GET /admin/commands/waited-for?wait_ms=30000 HTTP/1.1'
  const beat = '{"status":"ok"}'
  const length = `Content-Length: ${beat.length}`
  const bearer = `Authorization: Bearer ${device.token}`
  const waits = (id: string) => head(wait, AUTHORIZED, `X-Request-ID: ${id}`)
  const pulls = (id: string) =>
    head('GET /v1/apk/download-latest HTTP/1.1', bearer, `X-Request-ID: ${id}`)
  const queues = [
    { 'a-1': waits('a-1'), 'a-2': waits('a-2'), 'a-3': pulls('a-3') },
    {
      'b-1': waits('b-1'),
      'b-2': head('GET /v1/nowhere HTTP/1.1', 'X-Request-ID: b-2'),
      'b-3': pulls('b-3'),
    },
    {
      'c-1': waits('c-1'),
      'c-2': head('POST /v1/heartbeat HTTP/1.1', bearer, length, 'X-Request-ID: c-2') + beat,
      'c-3': pulls('c-3'),
    },
  ]
  for (const queue of queues) {
    const connection = await openRaw(t, service.origin)
    connection.write(Object.values(queue).join(''))
    await settle(service) // so all of them have been read
    connection.destroy()
    for (const id of Object.keys(queue)) {
      const lines = (await story(service, id)).filter((line) => line['status_code'] !== null)
      t.match(lines, [{ status_code: 499, level: 'WARN', reason: 'client_closed' }], id)
      t.equal(lines.length, 1)
    }
  }
})

t.test('who left while a command was pushed left its line in the command’s story', async (t) => {
  fcm.setMode({ fcm: 'hang' })
  t.teardown(() => fcm.setMode({ fcm: 'ok' }))
  const body = '{"alias":"D01","action":"ping","request_id":"story:2"}'
  const connection = await openRaw(t, service.origin)
  const length = `Content-Length: ${body.length}`
  const request = 'POST /admin/command?wait_ms=10000 HTTP/1.1'
  connection.write(head(request, AUTHORIZED, length, 'X-Request-ID: ingress-3') + body)
  await fcm.waitForSend(({ data }) => data['request_id'] === 'story:2')
  connection.destroy()
  t.match(await service.lines.terminalOf('story:2'), {
    event: 'http.request',
    status_code: 499,
    reason: 'client_closed',
    admin: 'tester',
    device_id: device.deviceId,
    alias: 'D01',
  })
})
