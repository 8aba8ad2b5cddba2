/** What a connection carries: where one request ends and the next begins, what closes it, and how many there may be. */

import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { createServer as createHttpServer } from 'node:http'
import t, { type Test } from 'tap'
import { openFilesOf } from '../../../src/app/process.ts'
import { boundConnections, connectionLimit } from '../../../src/http/connection/connections.ts'
import { ConnectionLimit } from '../../../src/http/connection/limit.ts'
import { until } from '../../../testkit/until.ts'
import { head, openRaw, type RawConnection, sendRaw } from '../../helpers/raw.ts'
import { startService } from '../../helpers/service.ts'
import { openOne, UNBOUND } from './one-connection.ts'

const BEAT = 'POST /v1/heartbeat HTTP/1.1'
const HEALTH = 'GET /healthz HTTP/1.1'
const CHUNKED = 'Transfer-Encoding: chunked'
/** What a second parser might take for a request of its own. */
const HIDDEN = head('GET /v1/hidden HTTP/1.1', 'X-Request-ID: hidden')

const service = await startService(t)

/** Stops a process, at most until the test ends. */
async function freeze(t: Test, child: ChildProcess): Promise<void> {
  child.kill('SIGSTOP')
  t.teardown(() => child.kill('SIGCONT'))
  await until(() => readFileSync(`/proc/${child.pid}/stat`, 'utf8').includes(') T '))
}

const length = (value: string) => head(BEAT, `Content-Length: ${value}`)
const upgrading = head(BEAT, CHUNKED, 'Connection: upgrade', 'Upgrade: h2c')
const chunks = (text: string) => `${head(BEAT, CHUNKED)}${text}`

/** Each in front of HIDDEN: none of them is read in two ways, so it is never answered. */
const REFUSED: readonly (readonly [title: string, bytes: string, ...statuses: number[]])[] = [
  ['a list of lengths', length('1, 1'), 400],
  ['one length twice', head(BEAT, 'Content-Length: 1', 'Content-Length: 1'), 400],
  ['a length with an exponent', length('1e1'), 400],
  ['a hexadecimal length', length('0x1'), 400],
  ['a negative length', length('-1'), 400],
  ['an empty length', length(''), 400],
  ['a length beyond all numbers', length('99999999999999999999'), 400],
  ['a length with a space in it', length('1 1'), 400],
  ['an encoding that ends in chunked', head(BEAT, 'Transfer-Encoding: xchunked'), 501],
  ['chunked and something behind it', head(BEAT, 'Transfer-Encoding: chunked, identity'), 400],
  ['two encodings in two headers', head(BEAT, CHUNKED, 'Transfer-Encoding: identity'), 400],
  ['chunked twice', `${head(BEAT, CHUNKED, CHUNKED)}0\r\n\r\n`, 400],
  ['identity', head(BEAT, 'Transfer-Encoding: identity'), 501],
  // 400: Node's own parser refuses it, from 22.23 on.
  ['an empty encoding', head(BEAT, 'Transfer-Encoding: '), 400, 501],
  ['a vertical tab before it', head(BEAT, 'Transfer-Encoding: \u000bchunked'), 400],
  ['a bare CR in a header', head(HEALTH, 'X-A: a\rb'), 400],
  ['a bare LF between headers', head(HEALTH, 'X-A: a\nX-B: b'), 400],
  ['a NUL in a header', head(HEALTH, 'X-A: a\u0000b'), 400],
  ['a NUL in a name', head(HEALTH, 'X\u0000A: a'), 400],
  ['a space before the colon', head(HEALTH, 'X-A : a'), 400],
  ['a first header that is folded', `${HEALTH}\r\n Host: a\r\n\r\n`, 400],
  ['an LF in a chunk extension', chunks('0;a=\nb\r\n\r\n'), 400],
  ['a chunk beyond all numbers', chunks('fffffffffffffffff\r\nx\r\n0\r\n\r\n'), 400],
  ['a negative chunk', chunks('-1\r\nx\r\n0\r\n\r\n'), 400],
  ['a chunk size with 0x', chunks('0x1\r\nx\r\n0\r\n\r\n'), 400],
  ['chunks that end in LF', chunks('1\nx\n0\n\n'), 400],
  ['a length as a trailer', chunks('0\r\nContent-Length: 50\r\n\r\n'), 400],
  ['extensions of 17 KB', chunks(`0;${'a'.repeat(17_000)}\r\n\r\n`), 401],
  ['chunks behind an upgrade', `${upgrading}0\r\n\r\n`, 400],
  ['more than behind an upgrade', `${upgrading}1\r\nx\r\n0\r\n\r\n`, 400],
  ['many chunks of one byte', chunks(`${'1\r\n \r\n'.repeat(600)}0\r\n\r\n`), 401],
  ['HTTP/0.9', 'GET /healthz\r\n\r\n', 400],
  ['HTTP/1.2', head('GET /healthz HTTP/1.2'), 400],
  ['HTTP/2.0', head('GET /healthz HTTP/2.0'), 400],
  ['a method in lower case', head('get /healthz HTTP/1.1'), 400],
]

t.test('what two parsers could read differently is refused, and ends its connection', async (t) => {
  for (const [title, bytes, ...statuses] of REFUSED) {
    const connection = await openRaw(t, service.origin)
    connection.write(Buffer.from(bytes + HIDDEN, 'latin1'))
    const response = await connection.answer()
    t.ok(statuses.includes(response.status), `${title}: ${response.status}`)
    t.match(response.headers, { connection: 'close' }, title)
    await connection.closed()
    t.equal(connection.answers.length, 1, `${title}: nothing behind it is answered`)
    const pipelined = await openRaw(t, service.origin)
    pipelined.write(Buffer.from(head('GET /v1/first HTTP/1.1') + bytes + HIDDEN, 'latin1'))
    await pipelined.closed()
    const own = pipelined.answers.slice(1).filter((each) => !statuses.includes(each.status))
    t.same([pipelined.answers[0]?.status, own], [404, []], `${title}, behind another request`)
    t.ok(pipelined.answers.length <= 2, `${title}: nothing behind both is answered`)
  }
})

const KEPT_ALIVE = head('GET /healthz HTTP/1.0', 'Connection: keep-alive')

t.test('what is served ends where it says, or ends its connection', async (t) => {
  for (const [title, bytes, status, isFollowed] of [
    ['chunked in any case', chunks('0\r\n\r\n').replace('chunked', 'Chunked'), 401, true],
    ['an empty line before it', `\r\n${head(HEALTH)}`, 200, true],
    ['an empty Host', head(HEALTH, 'Host:'), 200, true],
    ['HTTP/1.0', head('GET /healthz HTTP/1.0'), 200, false],
    ['HTTP/1.0 kept alive', KEPT_ALIVE, 200, false],
    [
      'a GET with a body',
      `${head(HEALTH, `Content-Length: ${HIDDEN.length}`)}${HIDDEN}`,
      200,
      false,
    ],
    ['an Upgrade', head(HEALTH, 'Connection: Upgrade', 'Upgrade: h2c'), 200, false],
    ['a Host that is none', head(HEALTH, 'Host: a b'), 400, true],
    ['a Host with a path', head(HEALTH, 'Host: a/b'), 400, true],
    ['two content types', head(HEALTH, 'Content-Type: a/b', 'Content-Type: a/c'), 400, true],
  ] as const) {
    const connection = await openRaw(t, service.origin)
    connection.write(`${bytes}${head('GET /v1/next HTTP/1.1', 'Connection: close')}`)
    await connection.closed()
    const statuses = connection.answers.map((response) => response.status)
    t.same(statuses, isFollowed ? [status, 404] : [status], title)
  }
  const connection = await openRaw(t, service.origin)
  for (const count of [1, 2, 3]) {
    connection.write(KEPT_ALIVE)
    t.equal((await connection.answer(count)).status, 200, 'HTTP/1.0 that waits for its responses')
  }
})

t.test('an idle connection is kept longer than balancers keep theirs', async (t) => {
  const { headers } = await sendRaw(t, service.origin, head(HEALTH))
  t.equal(headers['keep-alive'], 'timeout=75')
})

t.test('and longer than it was promised: a request that comes just then is served', async (t) => {
  const server = createHttpServer({ keepAliveTimeout: 1 }, (_, response) => response.end())
  boundConnections(server, { ...UNBOUND, nowMs: () => 0 })
  const { client, socket } = await openOne(t, server)
  const timedOut = once(socket, 'timeout')
  for (const _ of ['the first', 'when its time is over']) {
    const answered = once(client, 'data')
    client.write(head(HEALTH))
    t.match(String(await answered), /^HTTP\/1\.1 200 /)
    await timedOut
  }
  t.notOk(socket.destroyed)
})

/** More than Node's own default, and few enough for a system that allows 1,024 open files. */
const HERD = 700
const QUEUE_FILE = '/proc/sys/net/core/somaxconn'
const mayQueue = existsSync(QUEUE_FILE) ? Number(readFileSync(QUEUE_FILE, 'utf8')) : 0

t.test(
  'a herd that comes while it is busy is held by the system, and all are served',
  { skip: mayQueue < HERD && `needs net.core.somaxconn of ${HERD}` },
  async (t) => {
    const { process: child, origin } = service
    await freeze(t, child)
    const herd = await Promise.all(Array.from({ length: HERD }, () => openRaw(t, origin)))
    for (const connection of herd) connection.write(head(HEALTH, 'Connection: close'))
    child.kill('SIGCONT')
    const responses = await Promise.all(herd.map((connection) => connection.answer()))
    t.equal(responses.filter(({ status }) => status === 200).length, HERD)
  },
)

t.test('there may be as many as leave a hundred descriptors, and what others need', async (t) => {
  for (const [files, others, most] of [
    [0, 0, 64],
    [164, 0, 64],
    [165, 0, 65],
    [1_024, 200, 724],
    [16_583, 100, 16_383],
    [16_584, 100, 16_384],
    [16_585, 100, 16_384],
    [Number.MAX_SAFE_INTEGER, 100, 16_384],
  ] as const) {
    t.equal(connectionLimit(files, others), most, `${files} files, ${others} of them others'`)
  }
})

t.test(
  'the system says how many descriptors there may be; otherwise it is a thousand',
  async (t) => {
    const limit = (soft: string) =>
      openFilesOf(`Max processes 96364 96364 processes\nMax open files      ${soft}  files\n`)
    t.equal(limit('20000 524288'), 20_000)
    t.equal(limit('unlimited unlimited'), Number.MAX_SAFE_INTEGER)
    for (const unknown of ['0 0', 'many 9']) t.equal(limit(unknown), 1_024, unknown)
    t.equal(openFilesOf(''), 1_024)
  },
)

t.test('at the limit the connection that is idle for longest gives way', async (t) => {
  const most = 250 - 100 - (10 + 1 + 1 + 4)
  const env = { FCM_MAX_IN_FLIGHT: '1', APK_MAX_DOWNLOADS: '1' }
  for (const [title, limit, trusted] of [
    ['of all', most, { TRUSTED_PROXIES: '127.0.0.1' }],
    ['of one address', most / 2, {}],
  ] as const) {
    const few = await startService(t, { maxOpenFiles: 250, env: { ...env, ...trusted } })
    const { token } = await few.enroll('first')
    const working = await openRaw(t, few.origin)
    working.write(`${head(BEAT, `Authorization: Bearer ${token}`, 'Content-Length: 2')}{`)
    await until(async () => (await few.call('GET', '/healthz')).status === 200)
    const clients: RawConnection[] = []
    for (let n = 0; n < limit + 20; n += 1) clients.push(await openRaw(t, few.origin))
    const isIdle = ({ isClosed }: RawConnection) => !isClosed
    await until(() => clients.filter(isIdle).length === limit - 1)
    t.same(clients.findIndex(isIdle), 21, `${title}: those that came first`)
    working.write('}')
    t.equal((await working.answer()).status, 200, 'a request that was under way goes on')
    const oldest = clients.find(isIdle)
    await freeze(t, few.process)
    clients.push(await openRaw(t, few.origin))
    oldest?.write(head(HEALTH))
    few.process.kill('SIGCONT')
    t.equal((await oldest?.answer())?.status, 200, 'whose request has arrived is not idle')
    const last = clients.at(-1)
    last?.write(head(HEALTH))
    t.equal((await last?.answer())?.status, 200, 'and the last to come is served')
    const { text } = await few.call('GET', '/metrics')
    const read = (name: string) => Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1])
    t.equal(read('fleetloop_connections_open'), limit)
    t.equal(read('fleetloop_connections_refused_total'), 0)
    t.ok(read('fleetloop_connections_evicted_total') >= 21)
  }
})

t.test('where no connection is idle, a new one is refused', (t) => {
  const closed: string[] = []
  const connection = (name: string, isBusy: boolean, remoteAddress: string) =>
    ({ isBusy, socket: { remoteAddress, destroy: () => closed.push(name) } }) as never
  const limit = new ConnectionLimit({ max: 4, isTrustedProxy: (address) => address === '10.0.0.1' })
  const first = limit.add(connection('first', false, '2001:db8::1'))
  limit.add(connection('second', true, '2001:db8::2'))
  limit.add(connection('third', true, '2001:db8::3'))
  t.same(closed, ['first'], 'a /64 is one address')
  t.equal(limit.add(connection('fourth', true, '2001:db8::4')), undefined)
  t.same(closed, ['first', 'fourth'])
  const proxied = ['a', 'b'].map((name) => limit.add(connection(name, false, '10.0.0.1')))
  t.equal(limit.open, 4, 'a trusted proxy has no share')
  for (const admission of proxied.slice(0, 1)) if (admission !== undefined) limit.used(admission)
  limit.add(connection('fifth', false, '192.0.2.7'))
  t.same(closed, ['first', 'fourth', 'b'], 'the one used last stays')
  t.same([limit.open, limit.refused, limit.evicted], [4, 1, 2])
  if (first !== undefined) limit.remove(first) // its close comes later
  t.equal(limit.open, 4)
  t.end()
})
