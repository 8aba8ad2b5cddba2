/** Bodies as they are written: however many downloads run, each turn of the event loop carries few of their chunks. */

import { createServer, request, type ServerResponse } from 'node:http'
import { connect, Socket } from 'node:net'
import t from 'tap'
import { LargeResponses } from '../../src/http/connection/large-responses.ts'
import { behindNewConnections } from '../../src/http/connection/new-connections.ts'
import { sendReply } from '../../src/http/respond.ts'
import { until } from '../../testkit/until.ts'
import { listenFor } from '../helpers/listen.ts'

const CLIENTS = 20
const CHUNKS = 5
/** lib/throttle.ts. */
const CHUNKS_PER_TURN = 2
/** http/connection/new-connections.ts. */
const MOST_TURNS = 8
const MIB = 1024 * 1024
const OPTIONS = { requestId: 'download', closesConnection: true, isHead: false }

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
      const ended = () => Promise.reject(new Error('who ends an exchange asks for its line'))
      const reply = { kind: 'stream' as const, status: 200, headers: {}, sizeBytes: CHUNKS }
      sendReply(each, { ...reply, stream, ended }, OPTIONS, {
        turns,
        onBytes,
        onDropped,
        large: new LargeResponses(),
      })
    }
  })
  const turns = behindNewConnections(server)
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
  t.equal(Math.max(...perTurn.values()), CHUNKS_PER_TURN)
})

t.test('of long texts that nobody reads the oldest is cut off', async (t) => {
  const responses: ServerResponse[] = []
  const server = createServer((_, res) => {
    responses.push(res)
    const text = 'x'.repeat(12 * MIB)
    const reply = { kind: 'text' as const, status: 200, text, contentType: 'text/plain' }
    sendReply(res, reply, OPTIONS, { turns, onBytes() {}, onDropped() {}, large })
  })
  const turns = behindNewConnections(server)
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
  'new connections come before the chunks of downloads, which have their turn all the same',
  async (t) => {
    const server = createServer()
    const turns = behindNewConnections(server)
    const done: number[] = []
    for (let nth = 0; nth < 4; nth += 1) turns.add(() => done.push(nth))
    const nextTurn = () => new Promise((resolve) => setImmediate(resolve))
    for (let turn = 1; turn <= MOST_TURNS; turn += 1) {
      t.same(done, [], `connections come: turn ${turn}`)
      server.emit('connection', new Socket())
      await nextTurn()
    }
    t.same(done, [0, 1], 'it waits no longer')
    await nextTurn()
    t.same(done, [0, 1, 2, 3], 'none comes any more')
  },
)
