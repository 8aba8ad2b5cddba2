/** Requests one behind another on a connection: each has its own answer in its turn. */
import t from 'tap'
import { makeApk } from '../../../sim/apk.ts'
import { head, openRaw, sendRaw } from '../../helpers/raw.ts'
import { settle, startService } from '../../helpers/service.ts'
import { ADMITTED, awaited, HEALTH, linesOf, statuses, TOKENS } from './pipelined.ts'

const service = await startService(t)
const COMPLETED = { status: 'completed', verdict: { code: 'completed' } }

/** One heartbeat with a length, and one in a chunk. */
function beatsOf(token: string) {
  const lines = ['POST /v1/heartbeat HTTP/1.1', `Authorization: Bearer ${token}`] as const
  const body = '{"status":"ok"}'
  return {
    sized: `${head(...lines, `Content-Length: ${body.length}`)}${body}`,
    chunked: `${head(...lines, 'Transfer-Encoding: chunked')}f\r\n${body}\r\n0\r\n\r\n`,
  }
}

t.test('who has had all answers and leaves has sent no bad request', async (t) => {
  const before = service.lines.of('http.request').filter(({ reason }) => reason === 'bad_request')
  for (const many of [2, 3, 4, 40]) {
    const connection = await openRaw(t, service.origin)
    connection.write(HEALTH.repeat(many))
    await connection.answer(many)
    connection.end()
    await connection.closed()
    t.equal(connection.answers.length, many)
  }
  await linesOf(service, 'none')
  const after = service.lines.of('http.request').filter(({ reason }) => reason === 'bad_request')
  t.same(after.slice(before.length), [])
})

t.test('a broken request behind one in flight is refused as itself, after it', async (t) => {
  const { bytes, end } = await awaited(service, 'in-flight')
  const connection = await openRaw(t, service.origin)
  connection.write(head('GET /v1/nowhere HTTP/1.1', 'X-Request-ID: before-it') + bytes)
  t.equal((await connection.answer(1)).status, 404)
  await service.lines.terminalOf('before-it')
  const chunked = 'Transfer-Encoding: chunked'
  connection.write(`${head(TOKENS, ADMITTED, chunked, 'X-Request-ID: broken')}zz\r\n`)
  await end()
  t.match(await connection.answer(2), { status: 200, body: { status: 'cancelled' } })
  t.match(await connection.answer(3), {
    status: 400,
    requestId: 'broken',
    body: { code: 'bad_request' },
  })
  await connection.closed()
})

t.test('thousands of requests on one connection are answered, each in its turn', async (t) => {
  const { token } = await service.enroll('pipelines')
  const beat = `POST /v1/heartbeat HTTP/1.1\r\nAuthorization: Bearer ${token}`
  const beats = [
    `${head(beat, 'Content-Length: 15')}{"status":"ok"}`,
    `${head(beat, 'Transfer-Encoding: chunked')}2\r\n{"\r\nd\r\nstatus":"ok"}\r\n0\r\n\r\n`,
  ]
  const kinds = [...beats, HEALTH, head('GET /v1/nowhere HTTP/1.1'), beats[0], beats[0]]
  const expected = Array.from({ length: 600 }, (_, n) => (n % 6 === 3 ? 404 : 200))
  const all = expected.map((_, n) => kinds[n % 6]).join('')
  for (const [title, pieceBytes] of [
    ['at once', all.length],
    ['in pieces', 1_001],
    ['in small pieces', 17],
  ] as const) {
    const connection = await openRaw(t, service.origin)
    for (let from = 0; from < all.length; from += pieceBytes) {
      connection.write(all.slice(from, from + pieceBytes))
    }
    await connection.answer(expected.length)
    t.same(statuses(connection), expected, title)
    connection.write(HEALTH)
    t.equal((await connection.answer(expected.length + 1)).status, 200, 'and it goes on')
    connection.destroy()
  }
})

t.test('requests of one connection take effect in the order in which they were sent', async (t) => {
  const { deviceId, token } = await service.enroll('in-order')
  const report = (request_id: string, outcome: string) => {
    const body = JSON.stringify({ request_id, outcome })
    const lines = [`Authorization: Bearer ${token}`, `Content-Length: ${body.length}`]
    return head('POST /v1/action-result HTTP/1.1', ...lines) + body
  }
  for (let round = 0; round < 20; round += 1) {
    const requestId = `in-order-${round}`
    const body = { device_id: deviceId, action: 'ring', request_id: requestId }
    t.equal((await service.call('POST', '/admin/command?wait_ms=0', { body })).status, 202)
    const before = HEALTH.repeat(round % 3)
    const connection = await openRaw(t, service.origin)
    connection.write(before + report(requestId, 'success') + report(requestId, 'failure').repeat(3))
    await connection.answer((round % 3) + 4)
    connection.destroy()
    const path = `/admin/commands/${requestId}`
    t.match((await service.call('GET', path)).body, COMPLETED, 'the first one counts')
  }
})

t.test('it makes no difference which request is the first too many', async (t) => {
  const { token } = await service.enroll('mixed')
  const { sized, chunked } = beatsOf(token)
  for (let mix = 0; mix < 16; mix += 1) {
    const requests = [1, 2, 4, 8].map((bit) => (mix & bit ? chunked : sized))
    const connection = await openRaw(t, service.origin)
    connection.write(requests.join('') + chunked + HEALTH)
    await connection.answer(6)
    t.same(statuses(connection), Array(6).fill(200), `mix ${mix}`)
    connection.destroy()
  }
})

t.test('requests with an unknown expectation take turns like others', async (t) => {
  const connection = await openRaw(t, service.origin)
  connection.write(head('GET /v1/nowhere HTTP/1.1', 'Expect: nothing').repeat(500))
  t.equal((await sendRaw(t, service.origin, HEALTH)).status, 200)
  t.ok(connection.answers.length < 500, 'nobody waits for all of them')
  await connection.answer(500)
  t.same(new Set(statuses(connection)), new Set([417]))
})

t.test('wherever a packet ends, each request behind many is answered once', async (t) => {
  const { token } = await service.enroll('cut')
  const body = JSON.stringify({ note: '\r\n\r\n'.repeat(200) })
  const lines = [`Authorization: Bearer ${token}`, `Content-Length: ${body.length}`]
  const post = head('POST /v1/heartbeat HTTP/1.1', ...lines)
  for (const cut of [0, 1, 2, 3]) {
    const connection = await openRaw(t, service.origin)
    connection.write(HEALTH.repeat(20) + post.slice(0, post.length - cut))
    await connection.answer(20)
    connection.write(`${post.slice(post.length - cut)}${body.slice(0, 900)}`)
    await new Promise((resolve) => setImmediate(resolve))
    connection.write(body.slice(900) + HEALTH.repeat(60))
    await connection.answer(81)
    t.same(new Set(statuses(connection)), new Set([200]), `${cut} bytes before the end of the head`)
  }
})

t.test(
  'an upgrade among many requests gets its answer, and empty lines cost no pause',
  async (t) => {
    for (const before of [1, 2, 3, 16]) {
      const connection = await openRaw(t, service.origin)
      const upgrade = head('GET /v1/nowhere HTTP/1.1', 'Connection: Upgrade', 'Upgrade: h2c')
      connection.write(`${HEALTH.repeat(before)}${'\r\n'.repeat(5_000)}${upgrade}`)
      t.equal((await connection.answer(before + 1)).status, 404, `behind ${before}`)
      await connection.closed()
    }
  },
)

t.test(
  'a connection that Node had stopped before it pipelined is read on afterwards',
  async (t) => {
    const raw = makeApk({ sizeBytes: 8_000_000 })
    const path = '/admin/apk/builds/b1?version_code=1'
    t.equal((await service.call('PUT', path, { raw })).status, 201)
    const connection = await openRaw(t, service.origin)
    // Node stops reading when the next request comes while nobody takes what it has written.
    connection.pause()
    connection.write(head('GET /v1/apk/download-latest HTTP/1.1', ADMITTED))
    await settle(service)
    connection.write(HEALTH.repeat(16))
    await settle(service)
    connection.resume()
    await connection.answer(17)
    connection.write(HEALTH)
    t.equal((await connection.answer(18)).status, 200)
  },
)

t.test('who sends its end behind its requests is answered all the same', async (t) => {
  const { token } = await service.enroll('ends')
  const { sized: beat, chunked } = beatsOf(token)
  for (const [title, bytes, ...expected] of [
    ['one of the database', beat, 200],
    ['three', HEALTH + beat + head('GET /v1/nowhere HTTP/1.1'), 200, 200, 404],
    ['many, the last without a body', beat + HEALTH.repeat(40), ...Array(41).fill(200)],
    ['many, the last with a body', HEALTH.repeat(40) + beat, ...Array(41).fill(200)],
    ['one in chunks', chunked, 200],
    ['one in chunks among others', HEALTH + chunked + HEALTH, 200, 200, 200],
  ] as const) {
    const connection = await openRaw(t, service.origin)
    connection.write(bytes)
    connection.end()
    await connection.closed()
    t.same(statuses(connection), expected, title)
  }
})

t.test('half a body behind an open request is refused after its response', async (t) => {
  const { bytes, end } = await awaited(service, 'before-half-a-body')
  const connection = await openRaw(t, service.origin)
  connection.write(`${bytes}${head(TOKENS, ADMITTED, 'Content-Length: 15')}{"sta`)
  connection.end()
  // Had the first response been due before the end came, the second request would be dropped: its client has left.
  t.equal((await sendRaw(t, service.origin, HEALTH)).status, 200)
  await end()
  await connection.closed()
  t.same(statuses(connection), [200, 400])
})

t.test('half a head behind the last request of who has left is none', async (t) => {
  const { bytes, end } = await awaited(service, 'before-half-a-head')
  const connection = await openRaw(t, service.origin)
  connection.write(`${bytes}GET / HTTP/1.1\r\nX-Request-ID: of-half-a-head`)
  connection.end()
  // The end is at the service before the first answer is due: after that answer, half a head would be a bad request.
  t.equal((await sendRaw(t, service.origin, HEALTH)).status, 200)
  await end()
  await connection.closed()
  t.same(statuses(connection), [200])
  t.same(await linesOf(service, 'of-half-a-head'), [])
})
