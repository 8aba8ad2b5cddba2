/** Requests to FCM share so many connections and no more, whatever becomes of each. */

import { createServer, type RequestListener } from 'node:http'
import t, { type Test } from 'tap'
import { createPost } from '../../src/push/bounded-post.ts'
import { readBody } from '../../src/push/fcm-response.ts'
import { listenFor } from '../helpers/listen.ts'

const MAX_SOCKETS = 4

/** A server, what its connections come to, and as many POSTs at once as asked for. */
async function start(t: Test, timeoutMs: number, listener: RequestListener) {
  const sockets = { open: 0, most: 0, all: 0 }
  const server = createServer(listener)
  server.on('connection', (socket) => {
    sockets.all += 1
    sockets.open += 1
    sockets.most = Math.max(sockets.most, sockets.open)
    socket.on('close', () => {
      sockets.open -= 1
    })
  })
  const port = await listenFor(t, server)
  const post = createPost(`http://127.0.0.1:${port}/`, { maxSockets: MAX_SOCKETS, timeoutMs })
  const postAll = (times: number) =>
    Promise.allSettled(Array.from({ length: times }, () => post({}, 'body', readBody)))
  return { sockets, postAll }
}

t.test('they are kept alive and shared', async (t) => {
  const { sockets, postAll } = await start(t, 20_000, (request, response) => {
    request.pipe(response)
  })
  const responses = await postAll(40)
  t.ok(responses.every((response) => response.status === 'fulfilled' && response.value === 'body'))
  t.equal(sockets.all, MAX_SOCKETS)
})

t.test('a request that is cut off leaves no connection behind', async (t) => {
  let asked = 0
  const { sockets, postAll } = await start(t, 100, (request, response) => {
    asked += 1
    request.resume()
    if (asked % 2 === 0) response.end()
  })
  const responses = await postAll(40)
  const reasons = responses.flatMap((response) =>
    response.status === 'rejected' ? [response.reason.name] : [],
  )
  t.same([...new Set(reasons)], ['TimeoutError'])
  // The server sees a connection close a little later than the client.
  t.ok(sockets.most <= 2 * MAX_SOCKETS, `${sockets.most}`)
})
