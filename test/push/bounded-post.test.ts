/** Requests to FCM share so many connections and no more, whatever becomes of each. */

import { spawn } from 'node:child_process'
import dns from 'node:dns'
import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import { connect } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { makeServiceAccount } from '../../sim/fcm/service-account.ts'
import { createAccessTokens } from '../../src/push/access-token.ts'
import { createPost } from '../../src/push/bounded-post.ts'
import { createFcmClient } from '../../src/push/fcm.ts'
import { readBody } from '../../src/push/fcm-response.ts'
import { tokenId } from '../../testkit/push-id.ts'
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
  const post = createPost(`http://127.0.0.1:${port}/`, {
    maxSockets: MAX_SOCKETS,
    timeoutMs,
    proxy: null,
  })
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

/** Makes the name two.example resolve to these addresses. */
function resolving(t: Test, ...addresses: readonly { address: string; family: number }[]) {
  const { lookup } = dns
  Reflect.set(
    dns,
    'lookup',
    (_name: string, _options: object, done: (...result: unknown[]) => void) =>
      done(null, addresses),
  )
  t.teardown(() => Reflect.set(dns, 'lookup', lookup))
}

const UNREACHABLE = { address: '2001:db8::1', family: 6 }

/** Its accept queue is full while it is stopped: the kernel drops a handshake, which is repeated after a second. */
const LISTENER = `
  const server = require('node:http').createServer((request, response) => request.pipe(response))
  server.listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => console.log(server.address().port))`

t.test('an IPv4 handshake of a second beside an IPv6 address without a route', async (t) => {
  const child = spawn(process.execPath, ['-e', LISTENER], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  const [text] = await once(child.stdout, 'data')
  const port = Number(text)
  child.kill('SIGSTOP')
  const fillers = Array.from({ length: 4 }, () => connect(port, '127.0.0.1').on('error', () => {}))
  t.teardown(() => fillers.map((socket) => socket.destroy()))
  await Promise.all(fillers.slice(0, 2).map((socket) => once(socket, 'connect')))
  resolving(t, { address: '127.0.0.1', family: 4 }, UNREACHABLE)
  const options = { maxSockets: MAX_SOCKETS, proxy: null, timeoutMs: 10_000 }
  const response = createPost(`http://two.example:${port}/`, options)({}, 'body', readBody)
  response.catch(() => {}) // judged below
  await wait(500) // longer than Node's own 250 ms for an address
  child.kill('SIGCONT')
  t.equal(await response, 'body')
})

t.test('where every address refuses, the reason names each with its code', async (t) => {
  const server = createServer()
  const port = await listenFor(t, server)
  await new Promise((resolve) => server.close(resolve))
  resolving(t, { address: '127.0.0.1', family: 4 }, { address: '127.0.0.2', family: 4 })
  const origin = `http://two.example:${port}`
  const both = new RegExp(
    `connect ECONNREFUSED 127\\.0\\.0\\.1:${port}, connect ECONNREFUSED 127\\.0\\.0\\.2:${port}`,
  )
  const options = { timeoutMs: 1_000, proxy: null }
  const client = createFcmClient({
    ...options,
    baseUrl: origin,
    projectId: 'p',
    accessTokens: { get: async () => 'a', refresh: async () => 'a' },
    ttlS: 300,
    maxSockets: 1,
  })
  const message = { pushId: tokenId('t'), data: {}, expiresAt: new Date(Date.now() + 60_000) }
  t.match(await client.send(message), { fcmStatus: 'NETWORK', detail: both })
  const { account } = await makeServiceAccount({ tokenUri: `${origin}/token` })
  await t.rejects(createAccessTokens(account, options).get(), { status: 'NETWORK', message: both })
})
