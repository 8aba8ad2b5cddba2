/** Bodies as they are written: however many downloads run, each turn of the event loop carries few of their chunks. */

import { createServer, request, type ServerResponse } from 'node:http'
import { connect, Socket } from 'node:net'
import t from 'tap'
import { LargeResponses } from '../../src/http/connection/large-responses.ts'
import { behindNewConnections, behindRequests } from '../../src/http/connection/new-connections.ts'
import { sendReply } from '../../src/http/respond.ts'
import { Throttle } from '../../src/lib/throttle.ts'
import { until } from '../../testkit/until.ts'
import { listenFor } from '../helpers/listen.ts'
import { body, CHUNKS, unheard } from './chunks.ts'

const CLIENTS = 20
/** http/connection/new-connections.ts. */
const FIRST_CHUNKS_PER_TURN = 1
const MOST_TURNS = 32
const MAX_WAITING_FOR_TURN = 512
const MAX_WITHOUT_PAUSE = 16
const MIB = 1024 * 1024
/** http/respond.ts. */
const FIRST_BYTES = 4 * MIB
const OPTIONS = { requestId: 'download', closesConnection: true, isHead: false }

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
