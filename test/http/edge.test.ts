/** What never becomes a route's business: every refusal is answered, logged once and counted once. */
import t, { type Test } from 'tap'
import { AppError, type ErrorCode } from '../../src/domain/errors.ts'
import { respondRaw } from '../../src/http/connection/raw-response.ts'
import { problemOf } from '../../src/http/errors.ts'
import { head, openRaw, sendRaw } from '../helpers/raw.ts'
import { type Running, startService } from '../helpers/service.ts'
import { AUTHORIZED, GET, REFUSED } from './refused-requests.ts'

const UUID_V7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/
const CHUNKED = 'Transfer-Encoding: chunked'
const service = await startService(t, { env: { LOG_LEVEL: 'DEBUG' } })

t.test('every refusal at the edge is answered, logged once and counted once', async (t) => {
  for (const { title, bytes, status, code, route } of REFUSED) {
    await t.test(title, async (t) => {
      const connection = await openRaw(t, service.origin)
      connection.write(bytes)
      const response = await connection.answer()
      t.equal(response.status, status)
      t.match(response.headers, {
        'content-type': 'application/problem+json',
        'x-content-type-options': 'nosniff',
        'cache-control': 'no-store',
      })
      t.match(response.requestId, UUID_V7)
      t.match(response.body, {
        type: 'about:blank',
        title: String,
        status,
        code,
        detail: String,
        request_id: response.requestId,
      })
      t.notOk('server' in response.headers)
      if (status === 405) t.equal(response.headers['allow'], 'POST')
      const line = await service.lines.terminalOf(response.requestId)
      t.match(line, {
        event: status === 501 ? 'http.error' : 'http.request',
        level: status === 501 ? 'ERROR' : 'WARN',
        status_code: status,
        route: route ?? 'unmatched',
        ip: '127.0.0.1',
      })
      t.equal(line[status === 501 ? 'error' : 'reason'], code)
      t.type(line['latency_ms'], 'number')
      const elsewhere = await sendRaw(t, service.origin, head('GET /healthz HTTP/1.1'))
      t.equal(elsewhere.status, 200, 'another connection is served')
      connection.destroy()
      t.equal(connection.answers.length, 1, 'no smuggled request was answered')
    })
  }
  await countersEqualLines(t, service)
})

t.test('a following request on the same connection is its own', async (t) => {
  const connection = await openRaw(t, service.origin)
  connection.write(head(GET, 'X-Request-ID: first'))
  connection.write(head('POST /v1/heartbeat HTTP/1.1', 'X-Request-ID: second', 'Content-Length: 0'))
  connection.write(head(GET, 'Expect: nothing', 'X-Request-ID: third'))
  connection.write(head('HEAD /healthz HTTP/1.1', 'X-Request-ID: fourth', 'Connection: close'))
  await connection.answer(3)
  t.same(
    connection.answers.slice(0, 3).map((response) => [response.status, response.requestId]),
    [
      [404, 'first'],
      [401, 'second'],
      [417, 'third'],
    ],
  )
})

t.test('a request that is refused for its body does not end its connection', async (t) => {
  const connection = await openRaw(t, service.origin)
  for (const count of [1, 2, 3]) {
    connection.write(`${head('POST /v1/enroll-tokens HTTP/1.1', AUTHORIZED, 'Content-Length: 1')}x`)
    const { status, headers } = await connection.answer(count)
    t.same([status, headers['connection']], [400, 'keep-alive'])
  }
})

t.test('garbage after a served request is refused on its own', async (t) => {
  const connection = await openRaw(t, service.origin)
  connection.write(head(GET, 'X-Request-ID: before'))
  t.match(await connection.answer(1), { status: 404, requestId: 'before' })
  connection.write('garbage\r\n\r\n')
  const refusal = await connection.answer(2)
  t.match(refusal, { status: 400, body: { code: 'bad_request' }, requestId: UUID_V7 })
  await connection.closed()
  t.match(await service.lines.terminalOf('before'), { status_code: 404 })
  t.match(await service.lines.terminalOf(refusal.requestId), { status_code: 400 })
  t.equal(connection.answers.length, 2)
})

t.test(
  'a connection that is lost, or closing already, is refused nothing: no line, no count',
  async (t) => {
    for (const [code, socket, isDestroyed] of [
      ['ECONNRESET', { writable: true, writableEnded: false }, true],
      ['ECONNRESET', { writable: false, writableEnded: true }, true],
      ['HPE_INVALID_EOF_STATE', { writable: false, writableEnded: true }, true],
      ['HPE_INVALID_METHOD', { writable: false, writableEnded: true }, false],
      ['HPE_INVALID_METHOD', { writable: false, writableEnded: false }, true],
    ] as const) {
      const calls: string[] = []
      const told = (what: string) => () => void calls.push(what)
      const connection = {
        socket: { ...socket, destroy: told('destroy'), write: told('write') },
        closeGently: told('close'),
      }
      respondRaw(Object.assign(new Error('of the test'), { code }), connection as never, {
        log: { write: told('line'), writeLimited: told('line') },
        metrics: { ended: told('count') } as never,
        newId: () => 'id',
        random: () => 0,
      })
      t.same(calls, isDestroyed ? ['destroy'] : [], `${code} ${JSON.stringify(socket)}`)
    }
  },
)

t.test('garbage behind a request in flight does not take its answer away', async (t) => {
  const device = await service.enroll('behind')
  const body = JSON.stringify({ battery_pct: 50 })
  const connection = await openRaw(t, service.origin)
  const request = head(
    'POST /v1/heartbeat HTTP/1.1',
    `Authorization: Bearer ${device.token}`,
    'Content-Type: application/json',
    `Content-Length: ${body.length}`,
  )
  connection.write(`${request}${body}\x00\x01garbage\r\n\r\n`)
  const response = await connection.answer()
  t.match(response, { status: 200, body: { ok: true }, headers: { connection: 'close' } })
  await connection.closed()
})

t.test('hostile paths make no series and no second line', async (t) => {
  const service = await startService(t) // whose series are its own
  const paths = [
    '/"};drop{a="b"} 1',
    '/%22%0a',
    '//',
    '/%',
    '/%ff',
    '/../../etc/passwd',
    '/\u2028',
    `/${'a'.repeat(4_000)}`,
    '/v1/heartbeat/',
    '/v1/heartbeat%00',
    '/V1/HEARTBEAT',
    '/__proto__',
    '/constructor/prototype',
  ]
  for (const path of paths) {
    const response = await sendRaw(
      t,
      service.origin,
      head(`GET ${path.replaceAll(' ', '%20')} HTTP/1.1`, `X-Request-ID: h-${paths.indexOf(path)}`),
    )
    t.ok(
      [400, 404].includes(response.status),
      `${encodeURI(path).slice(0, 40)}: ${response.status}`,
    )
    const line = await service.lines.terminalOf(response.requestId)
    t.equal(line['route'], 'unmatched')
  }
  const metrics = await service.call('GET', '/metrics')
  const series = metrics.text.match(/^http_requests_total\{.*\}/gm) ?? []
  t.same(series.sort(), [
    'http_requests_total{route="unmatched",method="GET",status_code="4xx"}',
    'http_requests_total{route="unmatched",method="OTHER",status_code="4xx"}', // the parser's refusals
  ])
})

/** All terminal lines so far against all requests counted so far. */
async function countersEqualLines(t: Test, service: Running): Promise<void> {
  await service.call('GET', '/healthz', { headers: { 'x-request-id': 'fence' } })
  await service.lines.terminalOf('fence')
  const metrics = await service.call('GET', '/metrics')
  const counted = [...metrics.text.matchAll(/^http_requests_total\{.*\} (\d+)$/gm)]
  const sum = counted.reduce((total, [, value]) => total + Number(value), 0)
  const ends = service.lines.all.filter(
    (line) => line['status_code'] !== null && line.event !== 'metrics.scrape',
  )
  t.equal(sum, ends.length, 'as many requests counted as terminal lines')
  const ids = ends.map((line) => line['request_id'])
  t.equal(new Set(ids).size, ids.length, 'one terminal line each')
}

t.test('who is asked to come back later is given one to five seconds, never none', async (t) => {
  const wait = (random: number, code: ErrorCode = 'overloaded') =>
    problemOf(new AppError(code, 'Later.'), 'r', () => random).headers['retry-after']
  t.same([wait(0), wait(0.5), wait(0.999_999)], ['1', '3', '5'])
  t.equal(wait(0, 'rate_limited'), '1')
  t.equal(wait(0, 'internal'), undefined)
})

t.test('a whole body in small chunks gets one response, which is the last', async (t) => {
  const chunks = `${'1\r\nx\r\n'.repeat(300)}0\r\n\r\n`
  for (const path of ['/v1/heartbeat', '/v1/nowhere']) {
    const connection = await openRaw(t, service.origin)
    connection.write(head(`POST ${path} HTTP/1.1`, 'Transfer-Encoding: chunked') + chunks)
    await connection.closed()
    t.equal(connection.answers.length, 1, path)
    t.match(connection.answers[0], { headers: { connection: 'close' } }, path)
  }
})

t.test('a large body in chunks is parsed for those who are admitted only', async (t) => {
  const padded = `{"label":"x"${' '.repeat(5_000)}}`
  for (const [title, chunks, status] of [
    ['chunks of one byte', '1\r\nx\r\n'.repeat(600), 413],
    ['extensions of 17 KB', `0;${'a'.repeat(17_000)}\r\n\r\n`, 413],
    ['what is no chunk', `zz\r\n${'a'.repeat(5_000)}`, 400],
    ['a whole one', `${padded.length.toString(16)}\r\n${padded}\r\n0\r\n\r\n`, 422],
  ] as const) {
    for (const [credential, expected] of [
      [AUTHORIZED, status],
      ['Authorization: Bearer at_none', 401],
    ] as const) {
      const connection = await openRaw(t, service.origin)
      const post = head('POST /v1/enroll-tokens HTTP/1.1', credential, CHUNKED)
      connection.write(post + chunks)
      t.equal((await connection.answer()).status, expected, `${title}: ${credential}`)
      connection.destroy()
    }
  }
})

t.test('whose body is refused within it gives up its turn at once', async (t) => {
  const chunk = `40\r\n${' '.repeat(64)}\r\n`
  const heartbeat = (token: string) =>
    head('POST /v1/heartbeat HTTP/1.1', `Authorization: Bearer ${token}`, CHUNKED)
  const upload = head('PUT /admin/apk/builds/b1?version_code=1 HTTP/1.1', AUTHORIZED, CHUNKED)
  for (const [title, behind, status] of [
    ['small chunks', chunk.repeat(300), 413],
    ['what is no chunk', `${chunk.repeat(40)}zz\r\n`, 400],
  ] as const) {
    const { token } = await service.enroll(title.replaceAll(' ', '-'))
    for (let n = 0; n < 5; n += 1) {
      for (const post of [heartbeat(token), upload]) {
        const connection = await openRaw(t, service.origin)
        connection.write(post + behind)
        t.equal((await connection.answer()).status, status, title)
        await connection.closed()
      }
    }
    const connection = await openRaw(t, service.origin)
    connection.write(`${heartbeat(token)}f\r\n{"status":"ok"}\r\n0\r\n\r\n`)
    t.equal((await connection.answer()).status, 200, title)
    connection.write(`${upload}1\r\nx\r\n0\r\n\r\n`)
    t.match((await connection.answer(2)).body, { code: 'apk_invalid' }, title)
  }
})
