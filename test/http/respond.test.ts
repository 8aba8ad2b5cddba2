/** Bodies as they are written: however many downloads run, each turn of the event loop carries few of their chunks; who waits for it. */

import { createServer, request, type ServerResponse } from 'node:http'
import { connect, Socket } from 'node:net'
import t, { type Test } from 'tap'
import { PendingBodies } from '../../src/http/body/body.ts'
import { ComplexBodies } from '../../src/http/body/complex-bodies.ts'
import { boundConnections } from '../../src/http/connection/connections.ts'
import { LargeResponses } from '../../src/http/connection/large-responses.ts'
import { behindNewConnections, behindRequests } from '../../src/http/connection/new-connections.ts'
import { createHandling } from '../../src/http/handle-request.ts'
import { createExchanges } from '../../src/http/open-exchanges.ts'
import { sendReply } from '../../src/http/respond.ts'
import { Throttle } from '../../src/lib/throttle.ts'
import type { Guards } from '../../src/security/guard.ts'
import { until } from '../../testkit/until.ts'
import { listenFor } from '../helpers/listen.ts'
import { UNBOUND } from './connection/one-connection.ts'

const CLIENTS = 20
const CHUNKS = 5
/** http/connection/new-connections.ts. */
const FIRST_CHUNKS_PER_TURN = 1
const MOST_TURNS = 32
const MAX_WAITING_FOR_TURN = 512
const MAX_WITHOUT_PAUSE = 16
const MIB = 1024 * 1024
/** http/respond.ts. */
const FIRST_BYTES = 4 * MIB
const OPTIONS = { requestId: 'download', closesConnection: true, isHead: false }

const unheard = () => Promise.reject(new Error('who ends an exchange asks for its line'))

async function* body() {
  for (let nth = 0; nth < CHUNKS; nth += 1) yield Buffer.alloc(1)
}

t.test('downloads that run at once share the turns of the event loop', async (t) => {
  const waiting: ServerResponse[] = []
  let turn = 0
  const perTurn = new Map<number, number>()
  const countTurn = () => {
    turn += 1
    timer = setImmediate(countTurn)
  }
  let timer = setImmediate(countTurn)
  t.teardown(() => clearImmediate(timer))
  const onBytes = () => perTurn.set(turn, (perTurn.get(turn) ?? 0) + 1)
  const onDropped = () => {}
  const server = createServer((_, res) => {
    if (waiting.push(res) < CLIENTS) return
    for (const each of waiting) {
      const stream = body()
      const reply = { kind: 'stream' as const, status: 200, headers: {}, sizeBytes: CHUNKS }
      sendReply(each, { ...reply, stream, ended: unheard }, OPTIONS, {
        turns: { first: turns, later: turns },
        ip: null,
        onBytes,
        onDropped,
        large: new LargeResponses(),
      })
    }
  })
  const turns = behindRequests(server, () => false)
  const port = await listenFor(t, server)
  const bytes = await Promise.all(
    Array.from(
      { length: CLIENTS },
      () =>
        new Promise<number>((resolve, reject) => {
          let sizeBytes = 0
          const asked = request({ port, host: '127.0.0.1', agent: false }, (response) => {
            response.on('data', (piece: Buffer) => {
              sizeBytes += piece.length
            })
            response.on('end', () => resolve(sizeBytes))
          })
          asked.on('error', reject).end()
        }),
    ),
  )
  t.same(new Set(bytes), new Set([CHUNKS]), 'each has its whole body')
  t.equal(Math.max(...perTurn.values()), FIRST_CHUNKS_PER_TURN)
})

t.test(
  'what the system takes of a download for a client that reads nothing has turns of its own',
  async (t) => {
    const turns: string[] = []
    const throttle = (name: string) =>
      new Throttle((run) => {
        turns.push(name)
        setImmediate(run)
      })
    const chunkTurns = { first: throttle('first'), later: throttle('later') }
    async function* chunks() {
      for (const sizeBytes of [1, FIRST_BYTES - 1, 1]) yield Buffer.alloc(sizeBytes)
    }
    const server = createServer((_, res) => {
      const reply = {
        kind: 'stream' as const,
        status: 200,
        headers: {},
        sizeBytes: FIRST_BYTES + 1,
      }
      sendReply(res, { ...reply, stream: chunks(), ended: unheard }, OPTIONS, {
        turns: chunkTurns,
        ip: null,
        onBytes() {},
        onDropped() {},
        large: new LargeResponses(),
      })
    })
    const port = await listenFor(t, server)
    const response = await fetch(`http://127.0.0.1:${port}`)
    t.equal((await response.arrayBuffer()).byteLength, FIRST_BYTES + 1)
    t.same(turns, ['first', 'first', 'later'])
  },
)

t.test('of long texts that nobody reads the oldest is cut off', async (t) => {
  const responses: ServerResponse[] = []
  const server = createServer((_, res) => {
    responses.push(res)
    const text = 'x'.repeat(12 * MIB)
    const reply = { kind: 'text' as const, status: 200, text, contentType: 'text/plain' }
    const turns = { first, later: first }
    sendReply(res, reply, OPTIONS, { turns, ip: null, onBytes() {}, onDropped() {}, large })
  })
  const first = behindNewConnections(server)
  const large = new LargeResponses(30 * MIB)
  const port = await listenFor(t, server)
  for (const count of [1, 2, 3]) {
    const client = connect(port, '127.0.0.1')
      .pause()
      .on('error', () => {})
    t.teardown(() => client.destroy())
    client.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n')
    await until(() => responses.length === count)
  }
  await until(() => responses[0]?.closed === true)
  t.same(
    responses.map(({ closed }) => closed),
    [true, false, false],
  )
})

t.test(
  'new connections come before first requests and chunks, which have their turn all the same',
  async (t) => {
    const server = createServer()
    const turns = behindNewConnections(server)
    const chunkTurns = behindRequests(server, () => false)
    const done: string[] = []
    for (let nth = 1; nth <= 4; nth += 1) turns.add(() => done.push(`request ${nth}`))
    for (let nth = 1; nth <= 2; nth += 1) chunkTurns.add(() => done.push(`chunk ${nth}`))
    const nextTurn = () => new Promise((resolve) => setImmediate(resolve))
    for (let turn = 1; turn <= MOST_TURNS; turn += 1) {
      t.same(done, [], `connections come: turn ${turn}`)
      server.emit('connection', new Socket())
      await nextTurn()
    }
    t.same(done.splice(0), ['request 1', 'request 2', 'chunk 1'], 'they wait no longer')
    await nextTurn()
    t.same(done, ['request 3', 'request 4', 'chunk 2'], 'none comes any more')
  },
)

t.test('a crowd of chunks leaves the CPU to others', async (t) => {
  let hasOthers = false
  const turns = behindRequests(createServer(), () => hasOthers)
  let timers = 0
  const { setTimeout: set } = globalThis
  globalThis.setTimeout = Object.assign((...given: Parameters<typeof set>) => {
    timers += 1
    return set(...given)
  }, set)
  t.teardown(() => {
    globalThis.setTimeout = set
  })
  const chunks = (count: number) => Promise.all(Array.from({ length: count }, () => turns.turn()))
  await chunks(3 + MAX_WITHOUT_PAUSE)
  t.equal(timers, 0, 'nobody else wants it')
  hasOthers = true
  await chunks(MAX_WITHOUT_PAUSE)
  t.equal(timers, 0, 'they are few')
  await chunks(3 + MAX_WITHOUT_PAUSE)
  t.equal(timers, 3 - 1, 'a pause before each chunk while too many wait')
})

t.test('while connections come without end, so many wait for a turn and no more', async (t) => {
  const server = createServer()
  const turns = behindNewConnections(server)
  let done = 0
  let mostWaiting = 0
  for (let nth = 0; nth < 2_000; nth += 1) {
    server.emit('connection', new Socket())
    turns.add(() => (done += 1))
    mostWaiting = Math.max(mostWaiting, turns.waiting)
    if (nth % 2 === 0) await new Promise((resolve) => setImmediate(resolve))
  }
  t.equal(mostWaiting, MAX_WAITING_FOR_TURN)
  t.equal(done + turns.waiting, 2_000)
})

/** Its server has one route, which sends a body; `turns` run when the test says so. */
async function withTurns(t: Test) {
  const pauses: (() => void)[] = []
  const turns = new Throttle((run) => pauses.push(run))
  const counts = { handled: 0, ended: 0 }
  const server = createServer()
  boundConnections(server, { ...UNBOUND, nowMs: () => 0 })
  const ended = () => {
    counts.ended += 1
  }
  const stream = async () => {
    counts.handled += 1
    const reply = { kind: 'stream' as const, status: 200, headers: {}, sizeBytes: CHUNKS }
    return { ...reply, stream: body(), ended: unheard }
  }
  const deps = {
    routes: [{ method: 'GET', path: '/', guard: 'open', body: 0, handle: stream }] as const,
    metrics: { route: () => ({ ended }) },
    log: { write() {}, writeLimited() {} },
    nowMs: () => 0,
    random: () => 0,
    newId: () => 'r',
    isTrustedProxy: () => false,
    closing: new AbortController().signal,
    large: new LargeResponses(),
    guards: {} as Guards, // an open route asks none
    verifyAdmin: async () => {},
    httpsRule: null,
    unavailable: () => undefined,
  }
  const bodies = new PendingBodies(deps.nowMs, turns)
  const waits = { turns, pipelined: turns, bodies, complexBodies: new ComplexBodies(deps.nowMs) }
  const chunkTurns = { first: turns, later: turns }
  const serve = createHandling(deps, createExchanges({ ...deps, chunkTurns }), waits)
  server.on('request', (request, res) => void serve(request, res, 'nothing'))
  const port = await listenFor(t, server)
  return { port, turns, counts, endPause: () => pauses.shift()?.() }
}

t.test('who has left takes no turn: first requests, then chunks', async (t) => {
  const { port, turns, counts, endPause } = await withTurns(t)
  const ask = async () => {
    const before = turns.waiting
    const client = connect(port, '127.0.0.1').on('error', () => {})
    client.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n')
    await until(() => turns.waiting > before)
    return client
  }
  const leave = async (client: Socket) => {
    const before = counts.ended
    client.resetAndDestroy()
    await until(() => counts.ended > before)
  }
  for (let nth = 0; nth < 5; nth += 1) await leave(await ask())
  const [first, second] = [await ask(), await ask()]
  endPause()
  t.equal(turns.waiting, 0, 'both have their turn')
  await until(() => turns.waiting === 2, 'a chunk of each')
  t.equal(counts.handled, 2)
  await leave(first)
  const third = await ask()
  endPause()
  t.equal(turns.waiting, 0)
  await until(() => counts.handled === 3, 'the third began')
  second.destroy()
  third.destroy()
})

t.test('subnets take turns: first requests, then chunks', async (t) => {
  const { port, turns, endPause } = await withTurns(t)
  const served: string[] = []
  const ask = async (localAddress: string) => {
    const before = turns.waiting
    const client = connect({ port, host: '127.0.0.1', localAddress })
    client.once('data', () => served.push(localAddress))
    t.teardown(() => client.destroy())
    client.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n')
    await until(() => turns.waiting > before)
  }
  const crowd = Array.from({ length: 8 }, (_, nth) => `127.1.0.${nth + 1}`)
  const other = '127.2.0.1'
  for (const address of [...crowd, other]) await ask(address)
  for (let pause = 1; pause <= 4; pause += 1) {
    endPause()
    await until(() => turns.waiting === crowd.length + 1, 'a chunk in the place of each request')
  }
  await until(() => served.length > 0)
  t.same(served, [other], 'its request runs after the second pause, its chunk after the fourth')
})
