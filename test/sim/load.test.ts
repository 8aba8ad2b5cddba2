/** The load generator against plain servers: its rate, its clock, its bounds, and what it counts when a server dies. */

import { appendFileSync } from 'node:fs'
import { createServer, type RequestListener, type Server } from 'node:http'
import { type AddressInfo, createServer as createTcpServer } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { openJournal, readJournal } from '../../sim/load/journal.ts'
import {
  type LoadOptions,
  type LoadReport,
  type LoadResponse,
  runLoad,
} from '../../sim/load/load.ts'
import { ResponseReader } from '../../testkit/http/response-reader.ts'
import { listenFor } from '../helpers/listen.ts'

const ok: RequestListener = (_request, response) => void response.end('ok')

async function serve(
  t: Test,
  listener: RequestListener,
): Promise<{ origin: string; server: Server }> {
  const server = createServer(listener)
  return { origin: `http://127.0.0.1:${await listenFor(t, server)}`, server }
}

/** Ends after the answer for which `closesConnection` holds; ids are `r0`, `r1`, … and stand in the path. */
async function load(
  origin: string,
  isLast: (response: LoadResponse, id: string) => boolean,
  options: Partial<LoadOptions> = {},
): Promise<LoadReport> {
  const end = new AbortController()
  const report = await runLoad({
    origin,
    ratePerS: 1_000,
    connections: 4,
    next: (index) => ({ id: `r${index}`, method: 'GET', path: `/r${index}`, headers: {} }),
    signal: end.signal,
    ...options,
    onAnswer(request, response) {
      options.onAnswer?.(request, response)
      if (isLast(response, request.id)) end.abort()
    },
  })
  const answered = Object.values(report.byStatus).reduce((sum, count) => sum + count, 0)
  if (report.due !== report.sent + report.shed || report.sent !== answered + report.failed) {
    throw new Error(`the report does not add up: ${JSON.stringify(report)}`)
  }
  return report
}

function nth(count: number): () => boolean {
  let seen = 0
  return () => ++seen === count
}

t.test('an answer is read whole, wherever the network cuts it', async (t) => {
  const cases: [string, number, string, boolean][] = [
    ['HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello', 200, 'hello', true],
    ['HTTP/1.1 404 Not Found\r\ncontent-length:0\r\nConnection: close\r\n\r\n', 404, '', false],
    ['HTTP/1.1 204 No Content\r\n\r\n', 204, '', true],
    ['HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n', 304, '', true],
    [
      'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 1\r\n\r\nx',
      201,
      'x',
      true,
    ],
    [
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel\r\n\r\nA;x=y\r\n0123456789\r\n0\r\nT: 1\r\n\r\n',
      200,
      'hel\r\n0123456789',
      true,
    ],
  ]
  for (const [text, status, body, keepsAlive] of cases) {
    for (let cut = 0; cut < text.length; cut++) {
      const reader = new ResponseReader()
      const early = reader.push(Buffer.from(text.slice(0, cut)))
      const response = reader.push(Buffer.from(text.slice(cut)))
      const read = response && { ...response, body: response.body.toString() }
      if (early === undefined && read?.status === status && read.body === body) continue
      t.fail(`cut at ${cut}: ${text}`, { early, read })
    }
    const whole = new ResponseReader().push(Buffer.from(text))
    t.equal(whole?.keepsAlive, keepsAlive, text)
  }
})

t.test('a body without a length ends with the connection', async (t) => {
  const { origin } = await serve(t, (_request, response) => {
    response.sendDate = false
    response.removeHeader('transfer-encoding')
    response.useChunkedEncodingByDefault = false
    response.write('one ')
    response.end('two')
  })
  const bodies: string[] = []
  const onAnswer: LoadOptions['onAnswer'] = (_request, { body }) => void bodies.push(`${body}`)
  const report = await load(origin, nth(3), { onAnswer })
  t.equal(report.failed, 0)
  t.ok(bodies.every((body) => body === 'one two'))
})

t.test('requests arrive at the given rate and never faster, each once', async (t) => {
  const paths: (string | undefined)[] = []
  const { origin } = await serve(t, (request, response) => {
    paths.push(request.url)
    response.end()
  })
  const startMs = performance.now()
  const report = await load(origin, nth(200), { ratePerS: 2_000 })
  const elapsedMs = performance.now() - startMs
  t.ok(report.due <= elapsedMs * 2 + 1, `${report.due} in ${elapsedMs} ms`)
  t.match(report, { sent: report.due, failed: 0, shed: 0, byStatus: { 200: report.due } })
  t.same(paths.sort(), Array.from({ length: report.due }, (_, index) => `/r${index}`).sort())
})

t.test('a stall counts for every request that was due in it', async (t) => {
  const stallMs = 200
  const { origin } = await serve(t, (request, response) => {
    if (request.url === '/r0') setTimeout(() => response.end(), stallMs)
    else response.end()
  })
  const latencies = new Map<string, number>()
  const onAnswer: LoadOptions['onAnswer'] = ({ id }, { latencyMs }) => {
    latencies.set(id, latencyMs)
  }
  const report = await load(origin, nth(100), { connections: 1, onAnswer })
  for (let index = 0; index < 100; index++) {
    const leastMs = stallMs - 2 - index // one arrival a millisecond; a timer may ring early
    t.ok((latencies.get(`r${index}`) ?? 0) >= leastMs, `r${index} waited`)
  }
  t.ok(report.latencyMs.max >= stallMs - 2)
  t.ok(report.latencyMs.p50 <= report.latencyMs.p95)
  t.ok(report.latencyMs.p99 <= report.latencyMs.max)
})

t.test('what finds a full backlog is shed', async (t) => {
  const { origin } = await serve(t, (request, response) => {
    if (request.url === '/r0') setTimeout(() => response.end(), 100)
    else response.end()
  })
  const report = await load(origin, nth(1), { connections: 1, maxBacklog: 5 })
  t.equal(report.sent, 6)
  t.ok(report.shed > 0)
})

t.test('what gets no answer in time has failed, what was never sent is shed', async (t) => {
  const end = new AbortController()
  const { origin } = await serve(t, () => {
    setTimeout(() => end.abort(), 50)
  })
  const options = { connections: 1, signal: end.signal, timeoutMs: 100 }
  const report = await load(origin, () => false, options)
  t.same(report.byStatus, {})
  t.ok(report.failed >= 1)
  t.ok(report.shed >= 1)
  t.same(report.latencyMs, { p50: 0, p95: 0, p99: 0, max: 0 })
})

t.test('no more sockets are open than were asked for', async (t) => {
  const open = new Set<unknown>()
  let most = 0
  const { origin, server } = await serve(t, (_request, response) => {
    setTimeout(() => response.end(), 5)
  })
  server.on('connection', (socket) => {
    open.add(socket)
    most = Math.max(most, open.size)
    socket.on('close', () => open.delete(socket))
  })
  await load(origin, nth(100), { connections: 3 })
  t.equal(most, 3)
})

t.test('a server that closes after each answer fails nothing', async (t) => {
  const { origin } = await serve(t, (_request, response) => {
    response.setHeader('connection', 'close')
    response.end('bye')
  })
  const report = await load(origin, nth(50))
  t.equal(report.failed, 0)
})

t.test('a server that speaks another protocol has not answered', async (t) => {
  const end = new AbortController()
  const server = createTcpServer((socket) => {
    socket.on('error', () => {})
    socket.end('SSH-2.0-x\r\n\r\n')
    end.abort()
  })
  t.teardown(() => server.close())
  const origin = `http://127.0.0.1:${await listenFor(t, server)}`
  const report = await load(origin, () => false, { signal: end.signal })
  t.ok(report.failed >= 1)
  t.same(report.byStatus, {})
})

t.test('a server that dies and comes back: the journal has what was acknowledged', async (t) => {
  const path = join(t.testdir(), 'journal')
  const journal = openJournal(path)
  t.teardown(() => journal.close())
  const acknowledged: string[] = []
  let isJournalledFirst = true
  const deaths = ['/r20', '/r60']
  const { origin, server } = await serve(t, (request, response) => {
    if (!deaths.includes(request.url ?? '')) return void ok(request, response)
    const { port } = server.address() as AddressInfo // it listens on TCP
    server.close(() => server.listen(port, '127.0.0.1'))
    server.closeAllConnections()
  })
  const report = await load(origin, (_answer, id) => Number(id.slice(1)) >= 100, {
    journal,
    onAnswer({ id }) {
      acknowledged.push(id)
      isJournalledFirst &&= readJournal(path).at(-1) === id
    },
  })
  t.ok(report.failed >= 2)
  t.ok(isJournalledFirst, 'an id is in the journal before anybody hears of it')
  t.equal(report.byStatus[200], acknowledged.length)
  t.same(readJournal(path), acknowledged)
  for (const death of deaths) t.notOk(acknowledged.includes(death.slice(1)), death)
})

t.test('the journal holds 2xx only, and its last line only when whole', async (t) => {
  const path = join(t.testdir(), 'journal')
  const journal = openJournal(path)
  const { origin } = await serve(t, (request, response) => {
    response.statusCode = request.url === '/r1' ? 503 : 201
    response.end()
  })
  const report = await load(origin, nth(5), { journal })
  journal.close()
  appendFileSync(path, 'r99')
  t.equal(report.byStatus[503], 1)
  t.equal(report.byStatus[201], readJournal(path).length)
  t.notOk(readJournal(path).includes('r1'))
  t.notOk(readJournal(path).includes('r99'))
})

t.test('a request goes out as it was given', async (t) => {
  const got: unknown[] = []
  const { origin } = await serve(t, async (request, response) => {
    const pieces: Buffer[] = []
    for await (const piece of request) pieces.push(piece)
    got.push([request.method, request.url, request.headers, Buffer.concat(pieces).toString()])
    response.end()
  })
  const headers = { authorization: 'Bearer x', 'content-type': 'application/json' }
  await load(origin, nth(1), {
    next: (index) => ({
      id: `${index}`,
      method: 'POST',
      path: '//a?b=c',
      headers,
      body: '{"ä":1}',
    }),
  })
  t.match(got[0], [
    'POST',
    '//a?b=c',
    { ...headers, host: new URL(origin).host, 'content-length': '8' },
    '{"ä":1}',
  ])
})
