/** Who waits for a turn of the event loop: new connections, chunks, and what follows a refusal. */

import { createServer } from 'node:http'
import { connect, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { AppError } from '../../src/domain/errors.ts'
import { PendingBodies } from '../../src/http/body/body.ts'
import { ComplexBodies } from '../../src/http/body/complex-bodies.ts'
import { boundConnections } from '../../src/http/connection/connections.ts'
import { LargeResponses } from '../../src/http/connection/large-responses.ts'
import { createHandling } from '../../src/http/handle-request.ts'
import { createExchanges } from '../../src/http/open-exchanges.ts'
import { Throttle } from '../../src/lib/throttle.ts'
import type { Guards } from '../../src/security/guard.ts'
import { until } from '../../testkit/until.ts'
import { listenFor } from '../helpers/listen.ts'
import { body, CHUNKS, unheard } from './chunks.ts'
import { UNBOUND } from './connection/one-connection.ts'

const ROUTE = { method: 'GET', guard: 'open', body: 0 } as const
const empty = async () => ({ kind: 'empty', status: 204 }) as const
const busy = () => Promise.reject(new AppError('overloaded', 'of the test'))

/** Its server has a route that sends a body, and two short ones; turns come when the test says so. */
async function withTurns(t: Test) {
  const pauses: (() => void)[] = []
  const turns = new Throttle((run) => pauses.push(run))
  const refused = new Throttle((run) => pauses.push(run))
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
    routes: [
      { ...ROUTE, path: '/', handle: stream },
      { ...ROUTE, path: '/probe', isProbe: true, handle: empty },
      { ...ROUTE, path: '/busy', handle: busy },
    ],
    metrics: { route: () => ({ ended }) },
    log: { write() {}, writeLimited() {} },
    nowMs: () => 0,
    random: () => 0,
    newId: () => 'r',
    isTrustedProxy: () => true,
    closing: new AbortController().signal,
    large: new LargeResponses(),
    guards: {} as Guards, // an open route asks none
    verifyAdmin: async () => {},
    httpsRule: null,
    unavailable: () => undefined,
  }
  const bodies = new PendingBodies(deps.nowMs, turns)
  const complexBodies = new ComplexBodies(deps.nowMs)
  const waits = { turns, pipelined: turns, refused, bodies, complexBodies }
  const chunkTurns = { first: turns, later: turns }
  const serve = createHandling(deps, createExchanges({ ...deps, chunkTurns }), waits)
  server.on('request', (request, res) => void serve(request, res, 'nothing'))
  const port = await listenFor(t, server)
  return { port, turns, refused, counts, endPause: () => pauses.shift()?.() }
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

t.test('who was refused waits for a turn with the next request, until one is not', async (t) => {
  const { port, turns, refused, counts, endPause } = await withTurns(t)
  const client = connect(port, '127.0.0.1').resume()
  t.teardown(() => client.destroy())
  const [own, other] = ['192.0.2.1', '198.51.100.1']
  let asked = 0
  const ask = async (path: string, ip: string, waits: boolean) => {
    client.write(`GET ${path} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: ${ip}\r\n\r\n`)
    if (waits) {
      await until(() => refused.waiting === 1, `${path} waits`)
      endPause()
    }
    asked += 1
    await until(() => counts.ended === asked, `the end of ${path}`)
  }
  const first = ask('/none', own, false)
  await until(() => turns.waiting === 1)
  endPause()
  await first
  await ask('/none', other, false)
  await ask('/none', own, false)
  await ask('/probe', own, false)
  await ask('/none', own, true)
  await ask('/busy', own, true)
  await ask('/none', own, false)
  await ask('/probe', own, false)
  await ask('/busy', own, true)
  await ask('/probe', own, false)
  await ask('/none', own, false)
  t.equal(turns.waiting + refused.waiting, 0)
})
