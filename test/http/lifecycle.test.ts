/** The life of a request: its id, its body, its one line, and a client that leaves before the answer. */
import t, { type Test } from 'tap'
import { until } from '../../testkit/until.ts'
import { connect } from '../helpers/database.ts'
import { COMMON_KEYS, requestsOf } from '../helpers/lines.ts'
import { head, openRaw, sendRaw } from '../helpers/raw.ts'
import { ADMIN, type Running, startService } from '../helpers/service.ts'

const UUID_V7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/
const AUTHORIZED = `Authorization: Bearer ${ADMIN}`
const TOKENS = 'POST /v1/enroll-tokens HTTP/1.1'
const PUT = 'PUT /admin/apk/builds/b1'
const KIB = 1024
const TIB = KIB ** 4

const service = await startService(t, { env: { LOG_LEVEL: 'DEBUG' } })

t.test('a request id is taken where it is well formed, and made where it is not', async (t) => {
  const ask = (...lines: readonly string[]) =>
    sendRaw(t, service.origin, head('GET /v1/nowhere HTTP/1.1', ...lines))
  for (const id of ['a', 'A.b_c:d-9', 'x'.repeat(128)]) {
    t.equal((await ask(`X-Request-ID: ${id}`)).requestId, id)
    t.equal((await service.lines.terminalOf(id))['request_id'], id)
  }
  for (const bad of ['', 'a b', 'a/b', 'x'.repeat(129), '<script>', 'é', 'a"b', '../x']) {
    t.match((await ask(`X-Request-ID: ${bad}`)).requestId, UUID_V7, JSON.stringify(bad))
  }
  t.match((await ask()).requestId, UUID_V7, 'none given')
  t.match((await ask('X-Request-ID: a', 'X-Request-ID: b')).requestId, UUID_V7, 'two given')
  const split = await ask('X-Request-ID: a\rX-Evil: 1')
  t.equal(split.status, 400)
  t.match(split.requestId, UUID_V7, 'no header is injected')
})

t.test('every line has the common keys in their order, and a cut user agent', async (t) => {
  const device = await service.enroll('D01')
  const agent = 'u'.repeat(300)
  const asked = [
    ['GET', '/healthz', null, 200, 'http.request', 'DEBUG'],
    ['GET', '/admin/devices', ADMIN, 200, 'http.request', 'INFO'],
    ['GET', '/admin/commands/none', ADMIN, 404, 'http.request', 'WARN'],
    ['GET', '/metrics', ADMIN, 200, 'metrics.scrape', 'INFO'],
    ['GET', '/admin/devices', null, 401, 'sec.auth.denied', 'WARN'],
    ['POST', '/v1/heartbeat', device.token, 200, 'heartbeat.ingest', 'INFO'],
    ['GET', '/v1/heartbeat', null, 405, 'http.request', 'WARN'],
  ] as const
  for (const [index, [method, path, token, status, event, level]] of asked.entries()) {
    const response = await service.call(method, path, {
      token,
      headers: { 'user-agent': agent, 'x-request-id': `k-${index}` },
      ...(method === 'POST' && { body: {} }),
    })
    t.equal(response.status, status, `${method} ${path}`)
    t.equal(response.headers.get('x-content-type-options'), 'nosniff')
    t.equal(response.headers.get('cache-control'), 'no-store')
    t.match(await service.lines.terminalOf(`k-${index}`), {
      event,
      level,
      status_code: status,
      user_agent: agent.slice(0, 256),
      ip: '127.0.0.1',
    })
  }
  for (const line of service.lines.all) {
    t.same(Object.keys(line).slice(0, COMMON_KEYS.length), COMMON_KEYS, line.event)
    const isTerminal = line['status_code'] !== null
    t.equal(line['latency_ms'] !== null, isTerminal, 'latency with a status')
    t.match(line['ts'], /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
  }
  for (const index of asked.keys()) await endsOnce(t, service, `k-${index}`)
})

t.test('a HEAD is its GET without the body', async (t) => {
  const connection = await openRaw(t, service.origin)
  connection.write(head('HEAD /admin/devices HTTP/1.1', AUTHORIZED, 'X-Request-ID: head-1'))
  await service.lines.terminalOf('head-1')
  const get = await service.call('GET', '/admin/devices')
  const asked = await service.call('HEAD', '/admin/devices')
  t.equal(asked.status, 200)
  t.equal(asked.text, '')
  t.equal(asked.headers.get('content-length'), String(get.bytes.length))
  t.equal((await service.call('HEAD', '/v1/nowhere')).status, 404)
})

t.test('bodies that are none of ours are refused by their own code', async (t) => {
  const bytes = (...octets: number[]) => Uint8Array.from(octets)
  const json = { 'content-type': 'application/json' }
  const refused = [
    ['no JSON', '{', json, 400, 'bad_json'],
    ['two values', '{}{}', json, 400, 'bad_json'],
    ['NaN', '{"a":NaN}', json, 400, 'bad_json'],
    ['an array', '[]', json, 400, 'bad_json'],
    ['null', 'null', json, 400, 'bad_json'],
    ['a string', '"a"', json, 400, 'bad_json'],
    ['bad UTF-8', bytes(0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d), json, 400, 'bad_json'],
    ['overlong UTF-8', bytes(0x22, 0xc0, 0xaf, 0x22), json, 400, 'bad_json'],
    ['a byte order mark', bytes(0xef, 0xbb, 0xbf, 0x7b, 0x7d), json, 400, 'bad_json'],
    ['nothing but depth', '['.repeat(16_000), json, 400, 'bad_json'],
    ['text', '{}', { 'content-type': 'text/plain' }, 415, 'unsupported_media'],
    [
      'a form',
      'a=1',
      { 'content-type': 'application/x-www-form-urlencoded' },
      415,
      'unsupported_media',
    ],
    ['almost JSON', '{}', { 'content-type': 'application/jsonx' }, 415, 'unsupported_media'],
    ['gzip', '{}', { ...json, 'content-encoding': 'gzip' }, 415, 'unsupported_media'],
    ['too large', `{"note":"${'a'.repeat(16 * KIB)}"}`, json, 413, 'body_too_large'],
  ] as const
  for (const [title, raw, headers, status, code] of refused) {
    const response = await service.call('POST', '/v1/enroll-tokens', { raw, headers })
    t.match(response, { status, body: { status, code, request_id: response.requestId } }, title)
    t.match(await service.lines.terminalOf(response.requestId), {
      event: 'http.request',
      reason: code,
      status_code: status,
      admin: 'tester',
    })
    await endsOnce(t, service, response.requestId)
  }
  const depth = `{"aliases":${'['.repeat(8_000)}${']'.repeat(8_000)}}`
  const taken = [
    ['deep JSON', depth, json, 422],
    ['a polluted prototype', '{"__proto__":{"aliases":["D01"]}}', json, 422],
    ['a polluted constructor', '{"constructor":{"prototype":{"aliases":["D01"]}}}', json, 422],
    [
      'a charset',
      '{"aliases":["D01"]}',
      { 'content-type': 'application/json; charset=utf-8' },
      201,
    ],
    ['identity', '{"aliases":["D02"]}', { ...json, 'content-encoding': 'identity' }, 201],
    ['upper case', '{"aliases":["D03"]}', { 'content-type': 'APPLICATION/JSON' }, 201],
  ] as const
  for (const [title, raw, headers, status] of taken) {
    const response = await service.call('POST', '/v1/enroll-tokens', { raw, headers })
    t.equal(response.status, status, title)
  }
})

t.test('a body is read up to its limit, however it comes', async (t) => {
  const device = await service.enroll('D01')
  const beat = (sizeBytes: number) => `{"x":"${'a'.repeat(sizeBytes - 8)}"}`
  const post = (path: string, token: string, raw: string) =>
    service.call('POST', path, { token, raw, headers: { 'content-type': 'application/json' } })
  t.equal((await post('/v1/heartbeat', device.token, beat(64 * KIB))).status, 200)
  t.equal((await post('/v1/heartbeat', device.token, beat(64 * KIB + 1))).status, 413)
  t.equal((await post('/v1/action-result', device.token, beat(64 * KIB + 1))).status, 413)
  t.equal((await post('/v1/register', device.enrollmentToken, beat(16 * KIB + 1))).status, 413)

  const chunked = await openRaw(t, service.origin)
  const chunk = `1000\r\n${'a'.repeat(4 * KIB)}\r\n`
  chunked.write(`${head(TOKENS, AUTHORIZED, 'Transfer-Encoding: chunked')}${chunk.repeat(5)}`)
  const response = await chunked.answer()
  t.match(response, {
    status: 413,
    body: { code: 'body_too_large' },
    headers: { connection: 'close' },
  })
  await chunked.closed()

  const declared = await openRaw(t, service.origin)
  declared.write(head(TOKENS, AUTHORIZED, 'Content-Length: 1000000000'))
  t.equal((await declared.answer()).status, 413, 'before any byte of the body')
  await declared.closed()
})

t.test('who waits for 100 Continue is refused before the body', async (t) => {
  const expect = 'Expect: 100-continue'
  const refused = [
    [head(TOKENS, expect, 'Content-Length: 10'), 401],
    [head(TOKENS, expect, AUTHORIZED, 'Content-Length: 20000'), 413],
    [head(TOKENS, expect, AUTHORIZED, 'Content-Length: 10', 'Content-Type: text/plain'), 415],
    [head('PUT /admin/apk/builds/b1 HTTP/1.1', expect, 'Content-Length: 1000000'), 401],
    [head(`${PUT}?version_code=x HTTP/1.1`, expect, AUTHORIZED, 'Content-Length: 1000000'), 422],
    [head(`${PUT}?version_code=1 HTTP/1.1`, expect, AUTHORIZED, `Content-Length: ${TIB}`), 413],
    [head('POST /v1/nowhere HTTP/1.1', expect, 'Content-Length: 10'), 404],
    [head('PUT /v1/heartbeat HTTP/1.1', expect, 'Content-Length: 10'), 405],
  ] as const
  for (const [bytes, status] of refused) {
    const connection = await openRaw(t, service.origin)
    connection.write(bytes)
    t.equal((await connection.answer()).status, status)
    await connection.closed()
    t.equal(connection.answers.length, 1)
  }
  const connection = await openRaw(t, service.origin)
  const body = '{"aliases":["D01"]}'
  connection.write(head(TOKENS, expect, AUTHORIZED, `Content-Length: ${body.length}`))
  t.equal((await connection.answer(1)).status, 100)
  connection.write(body)
  t.equal((await connection.answer(2)).status, 201)
})

t.test('what does not arrive in time is 408, and of many such nothing stays', async (t) => {
  const device = await service.enroll('honest')
  const beat = () => service.call('POST', '/v1/heartbeat', { token: device.token, body: {} })
  const open = async () => {
    const { text } = await service.call('GET', '/metrics')
    return Number(/^fleetloop_connections_open (\d+)$/m.exec(text)?.[1])
  }
  const base = await open()
  const hold = async (bytes: (index: number) => string) =>
    Promise.all(
      Array.from({ length: 100 }, async (_, index) => {
        const connection = await openRaw(t, service.origin)
        connection.write(bytes(index))
        return connection
      }),
    )
  const slow = await hold(() => 'GET /healthz HTTP/1.1\r\nHost: a\r\nX-Slow:')
  const half = await hold(
    (index) =>
      `${head(TOKENS, AUTHORIZED, 'Content-Length: 100', `X-Request-ID: half-${index}`)}{"aliases`,
  )
  await until(async () => (await open()) >= 200)
  t.equal((await beat()).status, 200, 'an honest phone is served beside them')
  for (const connection of [...slow, ...half]) {
    const { status, body } = await connection.answer()
    t.match({ status, body }, { status: 408, body: { code: 'request_timeout' } })
    await connection.closed()
  }
  for (const [index, connection] of half.entries()) {
    t.equal(connection.answers[0]?.requestId, `half-${index}`)
    t.match(await service.lines.terminalOf(`half-${index}`), {
      event: 'http.request',
      level: 'WARN',
      status_code: 408,
      reason: 'request_timeout',
    })
  }
  await until(async () => (await open()) <= base + 2)
  const late = () => service.lines.all.filter((line) => line['status_code'] === 408)
  await service.lines.waitFor(() => requestsOf(late()) >= 200, 'each or its count')
  t.equal(requestsOf(late()), 200, 'each has one terminal line, or is counted by one of a stranger')
})

t.test('a client that leaves before the answer ends with 499', async (t) => {
  const service = await startService(t) // whose counters are its own
  await service.enroll('D01')
  await service.call('POST', '/admin/command', {
    body: { alias: 'D01', action: 'ping', request_id: 'c1' },
  })
  const waiting = await openRaw(t, service.origin)
  const path = '/admin/commands/c1?wait_ms=30000'
  waiting.write(head(`GET ${path} HTTP/1.1`, AUTHORIZED, 'X-Request-ID: left'))
  await service.call('GET', '/admin/devices') // its request has been read by then
  waiting.destroy()
  t.match(await service.lines.terminalOf('left'), {
    event: 'http.request',
    level: 'WARN',
    status_code: 499,
    reason: 'client_closed',
    route: '/admin/commands/{request_id}',
    admin: 'tester',
  })
  const cut = await openRaw(t, service.origin)
  cut.write(`${head(TOKENS, AUTHORIZED, 'Content-Length: 100', 'X-Request-ID: cut')}{"aliases`)
  await service.call('GET', '/admin/devices')
  cut.destroy()
  t.match(await service.lines.terminalOf('cut'), { status_code: 499, reason: 'client_closed' })
  const { text } = await service.call('GET', '/metrics')
  t.match(text, 'route="/admin/commands/{request_id}",method="GET",status_code="4xx"} 1\n')
  t.match(text, 'route="/v1/enroll-tokens",method="POST",status_code="4xx"} 1\n')
  await endsOnce(t, service, 'left')
  await endsOnce(t, service, 'cut')
})

t.test('a fault is 500 outside and a stack inside', async (t) => {
  const db = await connect(t, service.databaseUrl)
  await db.query('alter table audit_log rename to audit_log_away')
  const response = await service.call('GET', '/admin/audit')
  t.match(response, { status: 500, body: { code: 'internal', title: 'Internal Server Error' } })
  t.notMatch(response.text, /audit_log|select|relation|\.ts|\.js/i, 'no internals')
  t.match(await service.lines.terminalOf(response.requestId), {
    event: 'http.error',
    level: 'ERROR',
    status_code: 500,
    route: '/admin/audit',
    method: 'GET',
    error: 'internal',
    stack: /audit_log/,
  })
  await endsOnce(t, service, response.requestId)
})

/** After a later request's line, so that a second line would have come. */
async function endsOnce(t: Test, service: Running, requestId: string): Promise<void> {
  await service.lines.terminalOf(requestId)
  const fence = await service.call('GET', '/v1/nowhere')
  await service.lines.terminalOf(fence.requestId)
  const lines = service.lines.all.filter(
    (line) => line['request_id'] === requestId && line['status_code'] !== null,
  )
  t.equal(lines.length, 1, `one terminal line of ${requestId}`)
}
