/** Nothing behind the last request of a connection is served. */
import { existsSync, readFileSync } from 'node:fs'
import t from 'tap'
import { until } from '../../../testkit/until.ts'
import { head, openRaw, sendRaw } from '../../helpers/raw.ts'
import { settle, startService } from '../../helpers/service.ts'
import { ADMITTED, awaited, HEALTH, linesOf, statuses, TOKENS } from './pipelined.ts'

/** Sent behind each last request; all of them together may cost less. */
const FLOOD_BYTES = 16 * 1024 * 1024
/** More than a JSON body may have. */
const LARGE_CHUNK = `${head(TOKENS, ADMITTED, 'Transfer-Encoding: chunked')}fffff\r\n${'x'.repeat(1_048_575)}\r\n`
/** It asks for a tunnel, which nobody gives. */
const CONNECT = head('CONNECT a:443 HTTP/1.1', 'X-Request-ID: tunnel')

const service = await startService(t)

t.test('a tunnel that is asked for behind a request takes nobody’s answer', async (t) => {
  const beat = '{"status":"ok"}'
  const { token } = await service.enroll('tunnel')
  const bearer = `Authorization: Bearer ${token}`
  const length = `Content-Length: ${beat.length}`
  for (const [title, before, ...expected] of [
    ['one at once', HEALTH, 200],
    ['one of the database', `${head('POST /v1/heartbeat HTTP/1.1', bearer, length)}${beat}`, 200],
    ['two', HEALTH + head('GET /v1/nowhere HTTP/1.1'), 200, 404],
    ['one that expects', head('GET /healthz HTTP/1.1', 'Expect: nothing'), 417],
    ['one that closes', head('GET /healthz HTTP/1.1', 'Connection: close'), 200],
  ] as const) {
    const connection = await openRaw(t, service.origin)
    connection.write(`${before}${CONNECT}${HEALTH}`)
    await connection.closed()
    t.same(statuses(connection), expected, title)
  }
  t.equal((await sendRaw(t, service.origin, HEALTH)).status, 200, 'and the service lives')
  t.same(await linesOf(service, 'tunnel'), [])
})

t.test('so it is where that request still waits', async (t) => {
  const { bytes, end } = await awaited(service, 'waited-for')
  const connection = await openRaw(t, service.origin)
  connection.write(head('GET /v1/nowhere HTTP/1.1', 'X-Request-ID: ahead') + bytes)
  await service.lines.terminalOf('ahead')
  connection.write(CONNECT)
  t.equal((await sendRaw(t, service.origin, HEALTH)).status, 200)
  await end()
  const response = await connection.answer(2)
  t.match(response, {
    status: 200,
    body: { status: 'cancelled' },
    headers: { connection: 'close' },
  })
  await connection.closed()
  t.same(statuses(connection), [404, 200])
})

t.test('who sends on behind the ask for a tunnel still reads the refusal', async (t) => {
  const connection = await openRaw(t, service.origin)
  connection.pause()
  connection.write(CONNECT.replace('tunnel', 'sends-on') + 'a'.repeat(400_000))
  t.match(await service.lines.terminalOf('sends-on'), { status_code: 400, reason: 'bad_path' })
  connection.write('a'.repeat(100_000))
  connection.resume()
  t.match(await connection.answer(), { status: 400, headers: { connection: 'close' } })
  await connection.closed()
})

t.test('so does who sends on behind an upgrade, or behind the last request', async (t) => {
  const upgrade = ['Connection: upgrade', 'Upgrade: h2c', 'Transfer-Encoding: chunked']
  for (const [name, lines] of [
    ['upgrade', upgrade],
    ['last', ['Connection: close']],
  ] as const) {
    const connection = await openRaw(t, service.origin)
    connection.pause()
    connection.write(head('POST /v1/nowhere HTTP/1.1', `X-Request-ID: ${name}`, ...lines))
    await service.lines.terminalOf(name)
    for (let n = 0; n < 3; n += 1) {
      connection.write('a'.repeat(1_000))
      t.equal((await sendRaw(t, service.origin, HEALTH)).status, 200)
    }
    connection.resume()
    t.match(await connection.answer(), { headers: { connection: 'close' } }, name)
    await connection.closed()
  }
})

t.test(
  'behind the last answer nothing is a request, and the connection ends by itself',
  async (t) => {
    const cases = [
      ['plain', head('GET /v1/behind HTTP/1.1', 'X-Request-ID: plain')],
      ['expects', head('GET /v1/behind HTTP/1.1', 'X-Request-ID: expects', 'Expect: nothing')],
      ['tunnel', HEALTH + CONNECT],
    ] as const
    await Promise.all(
      cases.map(async ([name, behind]) => {
        const connection = await openRaw(t, service.origin, { allowHalfOpen: true })
        connection.write(`${head(TOKENS, 'Content-Length: 4', `X-Request-ID: last-${name}`)}nu`)
        t.match(await connection.answer(), { status: 401, headers: { connection: 'close' } })
        connection.write(`ll${behind}`)
        await until(() => {
          connection.write(' ') // a client that has not ended gets no notice of the end
          return connection.isClosed
        })
        t.same(statuses(connection), [401], name)
        t.same(await linesOf(service, name), [], 'and has no line')
      }),
    )
  },
)

t.test('nothing behind a request that ends its connection is served, nor read on', async (t) => {
  const beat = '{"status":"ok"}'
  const protocol = 'Upgrade: h2c'
  const upgrade = ['Connection: upgrade', protocol]
  const cases = Object.entries({
    upgrade: [head('GET /v1/nowhere HTTP/1.1', protocol), 404],
    'full-upgrade': [head('GET /v1/nowhere HTTP/1.1', ...upgrade), 404],
    'upgrade-with-body': [head(TOKENS, ...upgrade, `Content-Length: ${beat.length}`) + beat, 401],
    'upgrade-in-chunks': [head(TOKENS, ...upgrade, 'Transfer-Encoding: chunked'), 400],
    'half-a-body': [`${head(TOKENS, 'Content-Length: 9')}{"`, 401],
    'large-chunks': [`${LARGE_CHUNK}${LARGE_CHUNK.slice(LARGE_CHUNK.indexOf('fff'))}`, 413],
    closing: [head('GET /v1/nowhere HTTP/1.1', 'Connection: close'), 404],
    old: [head('GET /v1/nowhere HTTP/1.0', 'Connection: keep-alive'), 404],
  } as const).flatMap(([name, [last, status]]) =>
    ['together', 'apart', 'none'].map((place) => ({ id: `${name}-${place}`, last, status, place })),
  )
  const opened = await Promise.all(
    cases.map(async ({ id, last, place, status }) => {
      const behind = head('GET /v1/behind HTTP/1.1', `X-Request-ID: behind-${id}`)
      const { bytes, end } = await awaited(service, id)
      const raw = await openRaw(t, service.origin)
      raw.write(bytes + last + (place === 'together' ? behind : ''))
      return { id, status, raw, end, late: place === 'apart' ? behind : '' }
    }),
  )
  await settle(service)
  const before = readBytes()
  const flood = { x: Buffer.alloc(FLOOD_BYTES, 'x'), emptyLines: Buffer.alloc(FLOOD_BYTES, '\r\n') }
  for (const { id, raw, late } of opened) {
    raw.write(late)
    raw.write(id.startsWith('closing') ? flood.emptyLines : flood.x)
  }
  await settle(service)
  const after = readBytes()
  if (before === undefined || after === undefined) t.comment('no /proc here: reads are not counted')
  else t.ok(after - before < FLOOD_BYTES, `${after - before} bytes read from ${opened.length}`)
  await Promise.all(
    opened.map(async ({ id, status, raw, end }) => {
      await end()
      await raw.closed()
      t.same(statuses(raw), [200, status], id)
      t.same(await linesOf(service, `behind-${id}`), [], 'and has no line')
    }),
  )
})

/** By every read of the service; undefined where the system does not count them. */
function readBytes(): number | undefined {
  const file = `/proc/${service.process.pid}/io`
  if (!existsSync(file)) return undefined
  return Number(/rchar: (\d+)/.exec(readFileSync(file, 'utf8'))?.[1])
}
