/** The end of the port: who has reached it is served, and it closes. */
import { createServer } from 'node:http'
import { connect as connectTcp } from 'node:net'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { stopListening } from '../../src/app/listening.ts'
import { listen } from '../../testkit/listen.ts'

t.test('a connection that has reached the port is served before the port closes', async (t) => {
  let open = 0
  const server = createServer((_, response) => {
    open += 1
    response.once('close', () => {
      open -= 1
    })
    setTimeout(() => response.end('served'), 100)
  })
  const port = await listen(server)
  const received = Array.from({ length: 20 }, () => {
    const socket = connectTcp(port, '127.0.0.1')
    socket.write('GET / HTTP/1.1\r\nHost: here\r\n\r\n')
    return text(socket).catch((error: Error) => error.message)
  })
  await new Promise(process.nextTick) // the system completes the connections; we have not accepted them
  const listener = { server, openExchanges: () => open, refuseOpen: () => 0 }
  await stopListening(listener, 10_000, 10_000, new AbortController().signal)
  for (const each of await Promise.all(received)) t.match(each, /200 OK.*served/s)
})

t.test('a queue that takes a while is accepted to its end', async (t) => {
  const accepted = await accept(400, 60_000)
  t.equal(accepted, 400)
})

t.test('connections that come without end do not keep the port open', async (t) => {
  const accepted = await accept(4_096, 400)
  t.ok(accepted < 4_096, `closed after ${accepted} connections`)
})

/** Stops a busy service that accepts a connection each 6 ms, until that many. Returns how many came before the port closed. */
async function accept(connections: number, deadlineMs: number): Promise<number> {
  const server = createServer().removeAllListeners('connection')
  await listen(server)
  let accepted = 0
  const comes = () => {
    if (!server.listening || accepted === connections) return
    const endsAtMs = performance.now() + 6
    while (performance.now() < endsAtMs) {}
    accepted += 1
    server.emit('connection')
    setImmediate(comes)
  }
  comes()
  const listener = { server, openExchanges: () => 0, refuseOpen: () => 0 }
  await stopListening(listener, deadlineMs, 400, new AbortController().signal)
  return accepted
}
