/**
 * Whatever bytes a client sends: every request is answered and none with a fault of ours, every line stays one
 * line of valid JSON with its keys in order, and the number of series stays below what is known at start.
 */
import { METHODS } from 'node:http'
import t, { type Test } from 'tap'
import { makeApk } from '../../sim/apk.ts'
import { ROUTE_LIST } from '../../src/routes/table.ts'
import { EVENTS } from '../../src/telemetry/log/events.ts'
import { OPTIONAL_KINDS } from '../../src/telemetry/log/field-kinds.ts'
import type { LogLine } from '../../testkit/log-book.ts'
import { COMMON_KEYS, requestsOf } from '../helpers/lines.ts'
import { openRaw, type RawResponse, sendRaw } from '../helpers/raw.ts'
import { ADMIN, type Enrolled, startService } from '../helpers/service.ts'

const ACTIONS = ['ping', 'ring']
/** Factories only keep what they are given, so the table can be made without a service. */
const ROUTES = new Set(ROUTE_LIST.map(({ path }) => path))
const LABELS: Readonly<Record<string, ReadonlySet<string>>> = {
  route: new Set([...ROUTES, 'unmatched']),
  method: new Set(['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'OTHER']),
  status_code: new Set(['200', '3xx', '4xx', '5xx']),
  action: new Set([...ACTIONS, 'OTHER']),
  source: new Set(['enrollment', 'ota', 'manual']),
}
const MAX_BUILD_TYPES = 32 + 1 // and OTHER
const HISTOGRAM_SERIES = 13 + 2 // buckets with +Inf, sum, count
/** Requests at once on one connection: below what makes the service say 503. */
const BATCH = 50

const service = await startService(t, {
  env: {
    LOG_LEVEL: 'DEBUG',
    COMMAND_ACTIONS: ACTIONS.join(','),
    RATE_LIMIT_TOKENS_PER_HOUR: '1000000',
    TRUSTED_PROXIES: '127.0.0.1/32', // so that what is forwarded is read
  },
})
const device = await service.enroll('D01')
/** Of one phone only so many heartbeats may wait. */
const phones: Enrolled[] = []
// One after the other: a 503 that is asked again would be a request more than is counted.
for (let index = 0; index < 8; index += 1) phones.push(await service.enroll(`P${index}`))
const tokenOf = (index: number) => phones[index % phones.length]?.token ?? ''
const atStart = (await service.call('GET', '/metrics')).text
/** All that the clients below were answered. */
const answered: RawResponse[] = []
/** Requests beside those: enrolling takes two, then the scrape above. */
let calls = 3 + 2 * phones.length

/** A command that is in order, for a key that may not be. */
const COMMAND = '{"alias":"D01","action":"ping"}'
/** Every byte as one character of Latin-1, as Node writes and reads a head. */
const BYTES = Array.from({ length: 256 }, (_, byte) => String.fromCharCode(byte))
const ODD = [
  '\ud800',
  '\udc00',
  'a\ud83d',
  '\u2028',
  '\u2029',
  '\u202e\u2066\u061c',
  '\u200b\u{e0041}',
  '\ufeff',
  '\uffff',
  '\u{1f4f1}',
  'a\r\nb',
  'a\r\n{"level":"ERROR"}',
  'x","level":"ERROR","x":"',
  '\u001b[2J',
  '%0d%0a',
  '%00',
  "' or 1=1 --",
  '{route="x"} 1',
  '__proto__',
  'constructor',
  'q'.repeat(2_000),
  '"'.repeat(2_000),
  '\ud800'.repeat(500),
]

interface Parts {
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string | Uint8Array
}

/** The bytes of a request: its head in Latin-1, so that any byte can stand in it, its body in UTF-8. */
function bytesOf(method: string, path: string, { headers = {}, body = '' }: Parts = {}): Buffer {
  const fields = {
    host: 'test',
    authorization: `Bearer ${ADMIN}`,
    ...headers,
    ...(body !== '' && { 'content-length': `${Buffer.byteLength(body)}` }),
  }
  const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}`)
  const head = [`${method} ${path} HTTP/1.1`, ...lines, '', ''].join('\r\n')
  return Buffer.concat([Buffer.from(head, 'latin1'), Buffer.from(body)])
}

/** Each on a connection of its own: what may break its connection. */
async function sendEach(t: Test, requests: readonly Buffer[]): Promise<readonly RawResponse[]> {
  const responses: RawResponse[] = []
  for (let from = 0; from < requests.length; from += BATCH) {
    const batch = requests.slice(from, from + BATCH)
    responses.push(...(await Promise.all(batch.map((bytes) => sendRaw(t, service.origin, bytes)))))
  }
  return checked(t, requests, responses)
}

/** All on one connection: what the service takes for requests. */
async function sendAll(t: Test, requests: readonly Buffer[]): Promise<readonly RawResponse[]> {
  const connection = await openRaw(t, service.origin)
  for (let from = 0; from < requests.length; from += BATCH) {
    for (const bytes of requests.slice(from, from + BATCH)) connection.write(bytes)
    await connection.answer(Math.min(from + BATCH, requests.length))
  }
  return checked(t, requests, connection.answers)
}

function checked(t: Test, requests: readonly Buffer[], responses: readonly RawResponse[]) {
  answered.push(...responses)
  t.equal(responses.length, requests.length, 'each is answered')
  const faults = responses.flatMap(({ status, requestId }, index) =>
    status >= 200 && status < 500 && requestId !== '' ? [] : [`${status} ${requests[index]}`],
  )
  t.same(faults, [], 'none with a fault of ours, each with an id')
  return responses
}

const statuses = (responses: readonly RawResponse[]) =>
  [...new Set(responses.map(({ status }) => status))].sort()

t.test('every byte in a path, as it is and encoded', async (t) => {
  const raw = BYTES.flatMap((byte) => [
    bytesOf('GET', `/v1/a${byte}b`),
    bytesOf('GET', `/admin/devices/${byte}`),
  ])
  t.same(statuses(await sendEach(t, raw)), [400, 404])
  const encoded = BYTES.flatMap((byte) => {
    const code = `%${byte.charCodeAt(0).toString(16).padStart(2, '0')}`
    return [
      bytesOf('GET', `/v1/${code}`),
      bytesOf('GET', `/admin/commands/a${code}`),
      bytesOf('DELETE', `/v1/enroll-tokens/${code}${code}`),
      bytesOf('GET', `/admin/apk/builds/${code}/download`),
      bytesOf('GET', `/admin/devices?alias=${code}`),
    ]
  })
  t.same(statuses(await sendAll(t, encoded)), [200, 400, 404, 422])
})

t.test('every byte in the headers that reach a line', async (t) => {
  const https = { 'x-forwarded-proto': 'https' }
  const requests = BYTES.flatMap((byte) => [
    bytesOf('GET', '/v1/nowhere', { headers: { 'user-agent': `a${byte}b` } }),
    bytesOf('GET', '/v1/nowhere', { headers: { 'x-request-id': `a${byte}b` } }),
    bytesOf('GET', '/v1/nowhere', { headers: { ...https, 'x-forwarded-for': `1.2.3.4${byte}` } }),
    bytesOf('GET', '/admin/devices', { headers: { authorization: `Bearer a${byte}b` } }),
    bytesOf('POST', '/admin/command', { headers: { 'idempotency-key': byte }, body: COMMAND }),
  ])
  t.same(statuses(await sendEach(t, requests)), [202, 400, 401, 404, 422])
})

t.test('user agents up to the size of a head, and beyond', async (t) => {
  const fitting = ['a', '"', '\\', '\u00ff', '\t'].map((one) =>
    bytesOf('GET', '/v1/nowhere', { headers: { 'user-agent': `x${one.repeat(7_900)}x` } }),
  )
  t.same(statuses(await sendEach(t, fitting)), [404])
  const beyond = ['a', '"', '\u00ff'].map((one) =>
    bytesOf('GET', '/v1/nowhere', { headers: { 'user-agent': one.repeat(100_000) } }),
  )
  t.same(statuses(await sendEach(t, beyond)), [431])
})

t.test('every byte and odd text in bodies', async (t) => {
  const bearer = (token: string) => ({ headers: { authorization: `Bearer ${token}` } })
  const { token, enrollmentToken } = device
  const post = (path: string, secret: string, body: object) =>
    bytesOf('POST', path, { ...bearer(secret), body: JSON.stringify(body) })
  const texts = [...BYTES, ...ODD]
  const beats = texts.map((x, index) =>
    post('/v1/heartbeat', tokenOf(index), {
      ...{ status: x, network_type: x, battery_pct: x, app_version: x, ts: x, fcm_token: x },
      ...{ is_ping_response: true, ping_request_id: x, [x]: x, memory: { [x]: x } },
    }),
  )
  t.same(statuses(await sendAll(t, beats)), [200], 'no field ever costs a heartbeat')
  const others = texts.flatMap((x) => [
    post('/v1/action-result', token, { request_id: x, outcome: 'ok', message: x, output: x }),
    post('/v1/devices/ack', token, { correlation_id: 'none', status: x, [x]: x }),
    post('/v1/register', enrollmentToken, { alias: x, hardware_id: x, model: x }),
    post('/admin/command', ADMIN, { alias: x, action: 'ping', request_id: x }),
    post('/admin/command', ADMIN, { alias: 'D01', action: x, params: { [x]: x } }),
    post('/admin/command', ADMIN, { alias: 'D01', action: 'ping', params: { note: x } }),
    post('/v1/enroll-tokens', ADMIN, { aliases: [x], note: x }),
  ])
  await sendAll(t, others)
  const broken = BYTES.map((byte, index) => {
    const body = Buffer.from(`{"status":"a${byte}b"}`, 'latin1')
    return bytesOf('POST', '/v1/heartbeat', { ...bearer(tokenOf(index)), body })
  })
  const sequences = ['c0af', 'eda080', 'f4908080', 'e282', 'efbbbf7b7d', 'fe', '80'].map((hex) =>
    bytesOf('POST', '/v1/heartbeat', { ...bearer(token), body: Buffer.from(hex, 'hex') }),
  )
  t.same(statuses(await sendAll(t, [...broken, ...sequences])), [200, 400])
})

t.test('a thousand of everything that might become a label', async (t) => {
  const many = Array.from({ length: 1_000 }, (_, index) => index)
  await sendAll(
    t,
    many.map((n) => bytesOf('GET', `/v1/path-${n}/"${n}"`)),
  )
  await sendAll(
    t,
    many.map((n) => bytesOf('GET', `/v1/apk/download-latest?build_type=t${n}`)),
  )
  await sendAll(
    t,
    many.map((n) =>
      bytesOf('GET', `/admin/commands/${n}`, { headers: { 'x-request-id': `${n}` } }),
    ),
  )
  const unknown = many.map((n) => `{"alias":"D01","action":"action_${n}"}`)
  await sendAll(
    t,
    unknown.map((body) => bytesOf('POST', '/admin/command', { body })),
  )
  const methods = [...METHODS.filter((method) => method !== 'HEAD'), 'get', 'PO ST', '"', '\u00ff']
  await sendEach(t, [
    ...methods.map((method) => bytesOf(method, '/v1/heartbeat')),
    ...many.map((n) => bytesOf(`METHOD${n}`, '/v1/heartbeat')),
  ])
  const raw = makeApk()
  for (let n = 0; n < 40; n += 1) {
    const put = `/admin/apk/builds/b${n}?version_code=1&build_type=t${n}`
    t.equal((await service.call('PUT', put, { raw })).status, 201)
    const get = await service.call('GET', `/v1/apk/download-latest?build_type=t${n}`)
    t.equal(get.status, 200)
    await service.lines.terminalOf(get.requestId)
    calls += 2
  }
})

t.test('after all that, every line is one line of the contract', async (t) => {
  const ends = () => service.lines.all.filter((line) => line['status_code'] !== null)
  const requests = answered.length + calls
  await service.lines.waitFor(() => requestsOf(ends()) >= requests, 'each or its count')
  t.same(
    service.lines.raw.filter((line) => !/^\{"ts":"[ -~]+\}$/.test(line)),
    [],
    'ASCII only',
  )
  const shapes: Readonly<Record<string, { readonly fields: Readonly<Record<string, string>> }>> =
    EVENTS
  const keysOf = (line: LogLine) =>
    Object.entries(shapes[line.event]?.fields ?? {}).flatMap(([name, kind]) =>
      OPTIONAL_KINDS.has(kind) && !(name in line) ? [] : [name],
    )
  const odd = service.lines.all.filter(
    ({ suppressed, ...line }) =>
      String(Object.keys(line)) !== String([...COMMON_KEYS, ...keysOf(line)]) ||
      String(line['user_agent']).length > 256 ||
      !(line['route'] === null || LABELS['route']?.has(String(line['route']))),
  )
  t.same(odd, [], 'keys in order, user agents cut, no raw path')
  const ended = ends()
  t.equal(requestsOf(ended), requests, 'each has one terminal line, or its count')
  const ids = new Set(ended.flatMap((line) => [line['http_request_id'], line['request_id']]))
  const unlogged = answered.filter(
    ({ requestId, body }) => !ids.has(requestId) && !ids.has(body?.request_id),
  )
  t.equal(unlogged.length, requestsOf(ended) - ended.length, 'each other answer has its own line')
  t.ok(unlogged.length > 0 && unlogged.every(({ status }) => status >= 400), 'refusals have none')
  t.same(service.lines.of('log.dropped'), [])
  t.same(service.lines.of('http.error'), [])
})

t.test('the number of series is below the bound that was known at start', async (t) => {
  const { text } = await service.call('GET', '/metrics')
  const samples = (page: string) => page.split('\n').filter((line) => /^[a-z]/.test(line))
  const fixed = samples(atStart).filter((line) => !/\b(?:route|action|build_type)="/.test(line))
  const routes = LABELS['route']?.size ?? 0
  const bound =
    routes * (LABELS['method']?.size ?? 0) * (LABELS['status_code']?.size ?? 0) +
    (routes + (LABELS['action']?.size ?? 0)) * HISTOGRAM_SERIES +
    MAX_BUILD_TYPES * (LABELS['source']?.size ?? 0) +
    fixed.length
  t.ok(samples(text).length <= bound, `${samples(text).length} series, at most ${bound}`)
  const buildTypes = new Set<string>()
  for (const sample of samples(text)) {
    t.match(sample, /^\w+(?:\{(?:\w+="[^"\\\n]*",?)+\})? \S+$/)
    for (const [, name = '', value = ''] of sample.matchAll(/(\w+)="([^"]*)"/g)) {
      if (name === 'build_type') buildTypes.add(value)
      else if (LABELS[name]?.has(value) === false) t.fail(`${name}="${value}"`)
    }
  }
  t.equal(buildTypes.size, MAX_BUILD_TYPES)
})
