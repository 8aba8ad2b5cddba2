/** Responses whose bytes still wait for their client when their connection might close. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import t, { type Test } from 'tap'
import { boundConnections } from '../../../src/http/connection/connections.ts'
import { LargeResponses } from '../../../src/http/connection/large-responses.ts'
import { Exchange } from '../../../src/http/exchange.ts'
import { newContext } from '../../../src/http/route.ts'
import { LinkedList } from '../../../src/lib/linked-list.ts'
import { Throttle } from '../../../src/lib/throttle.ts'
import { until } from '../../../testkit/until.ts'
import { head } from '../../helpers/raw.ts'
import { openOne, UNBOUND } from './one-connection.ts'

/** More than the sockets of both sides hold. */
const LENGTH = 24 * 1024 * 1024

/** A response of LENGTH of which the client has read nothing, and the status codes of those that have ended. */
async function openUnread(t: Test) {
  const codes: number[] = []
  const respond = (request: IncomingMessage, res: ServerResponse) => {
    const log = { write() {}, writeLimited() {} }
    const deps = {
      log,
      nowMs: () => 0,
      random: () => 0,
      closing: new AbortController().signal,
      chunkTurns: { first: new Throttle(), later: new Throttle() },
      large: new LargeResponses(),
      onOpen: (exchange: Exchange) => new LinkedList<Exchange>().add(exchange),
      onResponse() {},
      onEnd() {},
    }
    const metrics = { ended: (_: string, code: number) => void codes.push(code) }
    const context = newContext('r', '/', false, null, null)
    const exchange = new Exchange(deps, metrics, request, res, context, undefined)
    const text = 'x'.repeat(LENGTH)
    exchange.reply({ kind: 'text', status: 200, contentType: 'text/plain', text })
  }
  const server = createServer(respond)
  boundConnections(server, { ...UNBOUND, nowMs: () => 0 })
  const { client, socket } = await openOne(t, server)
  client.write(head('GET / HTTP/1.1'))
  await until(() => socket.writableLength > 0)
  return { server, client, socket, codes }
}

t.test(
  'a server that closes its idle connections sends them what they have yet to read',
  async (t) => {
    const { server, client, socket, codes } = await openUnread(t)
    server.closeIdleConnections()
    t.notOk(socket.destroyed)
    client.resume()
    await until(() => client.bytesRead > LENGTH)
    await until(() => codes.length > 0)
    t.same(codes, [200])
    server.closeIdleConnections()
    t.ok(socket.destroyed, 'now it is idle')
  },
)

t.test('what the server cut off is no success', async (t) => {
  const { socket, codes } = await openUnread(t)
  socket.destroy()
  await until(() => codes.length > 0)
  t.same(codes, [499])
})

t.test('what a client left unread is no success', async (t) => {
  const { client, codes } = await openUnread(t)
  client.resetAndDestroy()
  await until(() => codes.length > 0)
  t.same(codes, [499])
})
