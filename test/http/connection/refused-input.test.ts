/** What a refusal leaves unread: it costs neither the client its response, nor the service its time or memory. */

import { once } from 'node:events'
import { createServer, type RequestListener, type Server } from 'node:http'
import { connect, type Socket } from 'node:net'
import t from 'tap'
import { connectionOf } from '../../../src/http/connection/connection.ts'
import { boundConnections } from '../../../src/http/connection/connections.ts'
import { until } from '../../../testkit/until.ts'
import { listenFor } from '../../helpers/listen.ts'
import { head, openRaw } from '../../helpers/raw.ts'
import { ADMIN, startService } from '../../helpers/service.ts'
import { DETACHING, openOne, UNBOUND } from './one-connection.ts'

const MIB = 1024 * 1024
const BEAT = 'POST /v1/heartbeat HTTP/1.1'
const HEALTH = 'GET /healthz HTTP/1.1'
const TOKENS = 'POST /v1/enroll-tokens HTTP/1.1'
const CHUNKED = 'Transfer-Encoding: chunked'

/** A server of this process that refuses as the service does. */
function refusing(serve: RequestListener): Server {
  const server = createServer(serve)
  boundConnections(server, { ...UNBOUND, nowMs: () => 0 })
  server.on('clientError', (error, socket: Socket) => {
    const connection = connectionOf(socket)
    if (!connection.meter(error) && connection.endInput()) connection.lingeringClose()
  })
  return server
}

const tinyChunks = `${head(BEAT, CHUNKED)}${'1\r\nx\r\n'.repeat(10_000)}`

t.test('of a body in chunks of one byte only the beginning is read', async (t) => {
  let chunks = 0
  const server = refusing((request) => {
    request.on('data', () => {
      chunks += 1
    })
  })
  const { client } = await openOne(t, server)
  client.write(tinyChunks)
  await once(client.resume(), 'end')
  t.ok(chunks > 256 && chunks < 1_000, `${chunks} chunks`)
})

t.test('refused input leaves nothing for the garbage collector', async (t) => {
  for (const [title, text] of [
    ['chunks that nobody reads', tinyChunks],
    ['garbage', 'x'.repeat(60_000)],
    ['more requests than may be open', head(HEALTH).repeat(2_000)],
  ] as const) {
    const bytes = Buffer.from(text)
    const server = refusing((_, response) => {
      response.setHeader('Connection', 'close').end()
    })
    const port = await listenFor(t, server)
    const before = process.memoryUsage().arrayBuffers
    for (let n = 0; n < 30; n += 1) {
      const client = connect(port, '127.0.0.1')
      client.on('error', () => {}) // it may be reset
      client.end(bytes)
      await once(client.resume(), 'close')
    }
    const leftBytes = process.memoryUsage().arrayBuffers - before
    t.ok(leftBytes < 10 * bytes.length, `${title}: ${leftBytes} bytes left by 30 clients`)
  }
})

t.test('nothing behind a request whose body is refused is served', async (t) => {
  const service = await startService(t)
  const behind = head(
    TOKENS,
    `Authorization: Bearer ${ADMIN}`,
    'Content-Length: 2',
    'X-Request-ID: behind',
  )
  for (const [title, first] of [
    ['too many small chunks', `${head(TOKENS, CHUNKED)}${'1\r\nx\r\n'.repeat(260)}0\r\n\r\n`],
    [
      'a body before its 100 Continue',
      `${head(TOKENS, 'Expect: 100-continue', 'Content-Length: 2')}{}`,
    ],
  ] as const) {
    const connection = await openRaw(t, service.origin)
    connection.write(`${first}${behind}{}${head(HEALTH).repeat(3)}`)
    await connection.closed()
    const [response, ...others] = connection.answers
    t.match(response, { status: 401, headers: { connection: 'close' } }, title)
    t.same(others, [])
    for (const detaching of DETACHING) {
      const leaving = connect(Number(new URL(service.origin).port), '127.0.0.1')
      leaving.write(`${first}${detaching}`)
      await once(leaving, 'data')
      leaving.resetAndDestroy() // a socket that Node has detached has no listener for this error
    }
  }
  t.equal(await service.stop(), 0)
  t.notOk(service.lines.all.some(({ request_id }) => request_id === 'behind'))
})

t.test('a client that sends on still reads why it was refused', async (t) => {
  const service = await startService(t)
  const large = 'Content-Length: 1000000'
  for (const [title, bytes, status] of [
    ['without a credential', head(TOKENS, large), 401],
    ['to a path of nobody', head('POST /v1/nowhere HTTP/1.1', large), 404],
    ['with a head of 400 KB', `${HEALTH}\r\nX-A: `, 431],
  ] as const) {
    const connection = await openRaw(t, service.origin)
    connection.pause()
    connection.write(bytes)
    connection.write('a'.repeat(400_000))
    const line = await service.lines.waitFor(
      ({ status_code }) => status_code === status,
      `the line of ${status}`,
    )
    connection.write('a'.repeat(100_000))
    t.ok(line)
    connection.resume()
    t.match(await connection.answer(), { status, headers: { connection: 'close' } }, title)
    await connection.closed()
  }
})

t.test(
  'behind its first error a connection makes no further one, and is read to its end',
  async (t) => {
    const server = createServer()
    boundConnections(server, { ...UNBOUND, nowMs: () => 0 })
    let errors = 0
    server.on('clientError', (_, socket) => {
      errors += 1
      const connection = connectionOf(socket as Socket)
      if (connection.endInput()) socket.once('answer', () => connection.lingeringClose())
    })
    const { client, socket } = await openOne(t, server)
    client.write('garbage\r\n\r\n')
    await until(() => errors > 0)
    const listeners = () =>
      socket.eventNames().map((name: string | symbol) => socket.listenerCount(name))
    const before = listeners()
    const readBytes = socket.bytesRead
    for (let n = 0; n < 50; n += 1) {
      client.write('more of it')
      await new Promise((resolve) => setImmediate(resolve))
    }
    t.equal(socket.bytesRead, readBytes, 'nothing is read while a response is due')
    t.same(listeners(), before)
    socket.emit('answer')
    await until(() => socket.bytesRead > readBytes)
    client.end()
    await until(() => socket.destroyed)
    t.equal(socket.bytesRead, readBytes + 500)
    t.equal(errors, 1)
  },
)

t.test('whoever reads a body whose rest is refused reads no further', async (t) => {
  const server = createServer((request) => t.teardown(() => request.destroy()))
  boundConnections(server, { ...UNBOUND, nowMs: () => 0 })
  let errors = 0
  server.on('clientError', (error, socket: Socket) => {
    const connection = connectionOf(socket)
    if (connection.meter(error)) return
    errors += 1
    connection.endInput()
  })
  const reading = once(server, 'request')
  const { client, socket } = await openOne(t, server)
  client.write(`${head(BEAT, CHUNKED)}400\r\n${'x'.repeat(1_024)}\r\nno chunk\r\n`)
  const [request] = await reading
  await until(() => errors > 0)
  const { bytesRead } = socket
  client.write(Buffer.alloc(8 * MIB))
  request.resume() // resumes the socket, too
  await until(() => socket.bytesRead > bytesRead && socket.isPaused())
  t.ok(socket.bytesRead < 512 * 1024, `no more than a little: ${socket.bytesRead} bytes`)
  connectionOf(socket).lingeringClose()
  await until(() => socket.destroyed)
  t.ok(socket.bytesRead > MIB && socket.bytesRead < 2 * MIB, `${socket.bytesRead} in all`)
  t.equal(errors, 1)
})

t.test('a client is noticed to leave while its last response is due', async (t) => {
  const server = createServer()
  boundConnections(server, { ...UNBOUND, nowMs: () => 0 })
  const opened = once(server, 'request')
  const { client, socket } = await openOne(t, server)
  client.write(head(HEALTH))
  await opened
  connectionOf(socket).endInputWatching()
  client.resetAndDestroy()
  await until(() => socket.destroyed)
})
