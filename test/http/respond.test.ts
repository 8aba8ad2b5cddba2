/** Bodies as they are written: however many downloads run, each turn of the event loop carries few of their chunks. */
import { createServer, request, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import { sendReply } from '../../src/http/respond.ts'

const CLIENTS = 20
const CHUNKS = 5
/** http/respond.ts. */
const CHUNKS_PER_TURN = 2
const OPTIONS = { requestId: 'download', isLast: true, isHead: false }

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
  const server = createServer((_, res) => {
    if (waiting.push(res) < CLIENTS) return
    for (const each of waiting) {
      const stream = body()
      const ended = () => Promise.reject(new Error('who ends an exchange asks for its line'))
      const reply = { kind: 'stream' as const, status: 200, headers: {}, sizeBytes: CHUNKS }
      sendReply(each, { ...reply, stream, ended }, OPTIONS, onBytes)
    }
  })
  t.teardown(() => server.close())
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const bytes = await Promise.all(
    Array.from(
      { length: CLIENTS },
      () =>
        new Promise<number>((resolve, reject) => {
          let sizeBytes = 0
          const asked = request({ port, host: '127.0.0.1', agent: false }, (answer) => {
            answer.on('data', (piece: Buffer) => {
              sizeBytes += piece.length
            })
            answer.on('end', () => resolve(sizeBytes))
          })
          asked.on('error', reject).end()
        }),
    ),
  )
  t.same(new Set(bytes), new Set([CHUNKS]), 'each has its whole body')
  t.equal(Math.max(...perTurn.values()), CHUNKS_PER_TURN)
})
