/** Connections that may hold unread input close one after another, and read nothing meanwhile. */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { Socket } from 'node:net'
import { setImmediate } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { Connection } from '../../../src/http/connection/connection.ts'
import { createLinger } from '../../../src/http/connection/linger.ts'
import type { HttpSocket } from '../../../src/http/connection/node-parser.ts'
import { PacedCloses } from '../../../src/http/connection/paced-closes.ts'
import { openOne } from './one-connection.ts'

/** http/connection/linger.ts. */
const DUE_BYTES = 16 * 1024
/** http/connection/paced-closes.ts. */
const CLOSING_MS = 2

/** One connection whose turn to close comes when the test says so. */
async function open(t: Test) {
  const pauses: (() => void)[] = []
  const closes = new PacedCloses(
    () => 0,
    (run) => pauses.push(run),
  )
  const server = createServer(() => {})
  const connections: Connection[] = []
  server.on('connection', (socket) => {
    connections.push(
      new Connection(socket, {
        pipelined: { count: 0 },
        tryAcquireMeter: () => undefined,
        linger: createLinger(() => 0),
        closes,
        onRefused() {},
        onRefusedInput() {},
      }),
    )
  })
  const { client, socket } = await openOne(t, server)
  const [connection] = connections
  if (connection === undefined) throw new Error('no connection')
  let isClosed = false
  socket.once('close', () => {
    isClosed = true
  })
  const closed = once(socket, 'close')
  return { client, socket, connection, pauses, closed, isClosed: () => isClosed }
}

t.test('one that Node reads closes at once', async (t) => {
  const { socket, pauses, closed } = await open(t)
  socket.destroy()
  await closed
  t.equal(pauses.length, 0)
})

for (const [how, destroy] of [
  ['closed', (socket: Socket) => socket.destroy()],
  ['reset', (socket: Socket) => socket.resetAndDestroy()],
] as const) {
  t.test(`one whose input has ended is destroyed at once and ${how} in its turn`, async (t) => {
    const { client, socket, connection, pauses, closed, isClosed } = await open(t)
    client.resume()
    const reset = new Promise((resolve) => client.once('error', resolve))
    connection.endInputWatching()
    t.notOk(socket.isPaused())
    destroy(socket)
    t.ok(socket.destroyed)
    for (let turn = 0; turn < 3; turn += 1) await setImmediate()
    t.notOk(isClosed())
    t.notOk(client.readableEnded || client.destroyed)
    pauses.shift()?.()
    await closed
    if (how === 'reset') t.match(await reset, { code: 'ECONNRESET' })
    else await once(client, 'end')
    t.equal(pauses.length, 0)
  })
}

t.test('a paused one is closed in its turn', async (t) => {
  const { socket, pauses, closed } = await open(t)
  socket.pause().destroy()
  t.equal(pauses.length, 1)
  pauses.shift()?.()
  await closed
})

t.test('what still comes for a destroyed socket is not read', async (t) => {
  const { client, socket, connection, pauses, closed } = await open(t)
  connection.endInputWatching()
  client.write(Buffer.alloc(DUE_BYTES + 1))
  while (!socket.isPaused()) await setImmediate()
  const { _handle: handle } = socket
  const { bytesRead } = handle
  socket.destroy()
  await new Promise((resolve) => client.write('x', resolve))
  for (let turn = 0; turn < 3; turn += 1) await setImmediate()
  t.equal(handle.bytesRead, bytesRead)
  pauses.shift()?.()
  await closed
})

t.test('closing pauses when it has taken long, and goes on', (t) => {
  let nowMs = 0
  let waiting: (() => void) | undefined
  const closed: string[] = []
  const closes = new PacedCloses(
    () => nowMs,
    (run) => {
      waiting = run
    },
  )
  const destroy = (name: string, tookMs: number) => {
    const handle = {
      readStop: () => 0,
      close: () => {
        nowMs += tookMs
        closed.push(name)
      },
      reset: () => 0,
    }
    const _destroy = () => handle.close()
    const socket = { _handle: handle, _destroy } as unknown as HttpSocket
    closes.pace(socket, () => true)
    socket._destroy(null, () => {})
  }
  const endPause = () => {
    const run = waiting
    waiting = undefined
    run?.()
    return closed.splice(0).join(' ')
  }
  destroy('slow', CLOSING_MS)
  destroy('quick', 0)
  destroy('long', 50)
  destroy('last', 0)
  t.equal(endPause(), 'slow')
  t.equal(endPause(), 'quick long')
  t.equal(endPause(), 'last')
  t.equal(waiting, undefined)
  t.end()
})
