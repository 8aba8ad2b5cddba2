/** One token, however many requests it sends at once, keeps nobody else from the database. */
import t, { type Test } from 'tap'
import { until } from '../../testkit/until.ts'
import { keptAlive } from '../heartbeats/kept-alive.ts'
import { connect } from '../helpers/database.ts'
import { requestsOf } from '../helpers/lines.ts'
import { head, openRaw, type RawConnection } from '../helpers/raw.ts'
import { type Enrolled, startService } from '../helpers/service.ts'

/** security/token-turns.ts. */
const MAX_AT_ONCE = 4
/** More than may wait for a connection. */
const FLOOD = 600

const service = await startService(t)
const send = keptAlive(t, service.origin)
const db = await connect(t, service.databaseUrl)
const flooder = await service.enroll('flooder')
const honest = await service.enroll('honest')

async function command({ deviceId }: Enrolled, id: string): Promise<string> {
  const body = { device_id: deviceId, action: 'ring', request_id: id }
  t.equal((await service.call('POST', '/admin/command', { body })).status, 202)
  return id
}

async function post({ token }: Enrolled, path: string, body: object) {
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
  const response = await send({ method: 'POST', path, headers, body: JSON.stringify(body) })
  return response.status
}

const report = (from: Enrolled, request_id: string) =>
  post(from, '/v1/action-result', { request_id, outcome: 'success' })

const held = await command(flooder, 'held')

t.test('results of others are stored while those of one token fill its turns', async (t) => {
  const mine = await command(honest, 'mine')
  await db.query('begin')
  await db.query('select from commands where request_id = $1 for update', [held])
  const flood = Promise.all(Array.from({ length: FLOOD }, () => report(flooder, held)))
  for (let nth = 0; nth < 10; nth += 1) t.equal(await report(honest, mine), 200)
  const atOnce = await Promise.all(Array.from({ length: 12 }, () => report(honest, mine)))
  t.same(new Set(atOnce), new Set([200]))
  t.equal(await post(honest, '/v1/heartbeat', {}), 200)
  await db.query('rollback')

  const statuses = await flood
  const refused = statuses.filter((status) => status === 429)
  t.ok(refused.length > 0, `${refused.length} of ${FLOOD}`)
  t.match(await service.lines.waitFor(({ event }) => event === 'sec.token.ratelimit'), {
    level: 'WARN',
    reason: 'at_once_per_token',
    route: '/v1/action-result',
    status_code: 429,
  })
  t.equal(await report(flooder, held), 200, 'its turns are free again')
})

t.test('so are they while one token asks for the latest build again and again', async (t) => {
  const mine = await command(honest, 'mine-too')
  await db.query('begin')
  await db.query('lock table enrollment_tokens in access exclusive mode')
  const { enrollmentToken } = flooder
  const headers = { authorization: `Bearer ${enrollmentToken}` }
  const ask = () => send({ method: 'GET', path: '/v1/apk/download-latest', headers })
  const flood = Promise.all(Array.from({ length: FLOOD }, ask))
  for (let nth = 0; nth < 10; nth += 1) t.equal(await report(honest, mine), 200)
  await db.query('rollback')
  await flood
})

t.test('so are they while one used-up token registers with bodies that are refused', async (t) => {
  const mine = await command(honest, 'mine-three')
  t.equal(await post(flooder, '/v1/heartbeat', {}), 200)
  const headers = { authorization: `Bearer ${flooder.enrollmentToken}` }
  const path = '/v1/register'
  const request = { method: 'POST', path, headers, body: '{"sdk_int":-1}' } as const
  const ends = () => service.lines.of('register.fail')
  const arrivals = () => service.lines.of('register.request')
  const [before, arrivedBefore] = [requestsOf(ends()), requestsOf(arrivals())]
  await db.query('begin')
  await db.query('lock table enrollment_tokens in access exclusive mode')
  const flood = Promise.all(Array.from({ length: FLOOD }, () => send(request)))
  for (let nth = 0; nth < 10; nth += 1) t.equal(await report(honest, mine), 200)
  await db.query('rollback')
  t.same(new Set((await flood).map(({ status }) => status)), new Set([422]))
  await service.lines.waitFor(() => requestsOf(ends()) - before >= FLOOD, 'each or its count')
  t.ok(ends().length < FLOOD, 'the others are counted')
  await service.lines.waitFor(() => requestsOf(arrivals()) - arrivedBefore >= FLOOD, 'the same')
  t.ok(arrivals().length < FLOOD, 'counted as well')
})

/** A request whose body has not come; resolves once the service waits for that. */
async function stalled(t: Test, path: string, sizeBytes: number): Promise<RawConnection> {
  const connection = await openRaw(t, service.origin)
  connection.write(
    head(
      `POST ${path} HTTP/1.1`,
      `Authorization: Bearer ${honest.token}`,
      'Expect: 100-continue',
      `Content-Length: ${sizeBytes}`,
    ),
  )
  t.equal((await connection.answer()).status, 100)
  return connection
}

for (const path of ['/v1/heartbeat', '/v1/action-result']) {
  t.test(`bodies that stall take no turns of their token: ${path}`, async (t) => {
    const request_id = await command(honest, `late-${path.length}`)
    const body = JSON.stringify(path === '/v1/heartbeat' ? {} : { request_id, outcome: 'success' })
    const late: RawConnection[] = []
    for (let nth = 0; nth < MAX_AT_ONCE; nth += 1) late.push(await stalled(t, path, body.length))
    t.equal(await post(honest, '/v1/heartbeat', {}), 200, 'the phone goes on')
    for (const connection of late) {
      connection.write(body)
      t.equal((await connection.answer(2)).status, 200)
    }
  })
}

t.test(
  'who waits for a turn holds no parsed body, and nothing runs for who has left',
  async (t) => {
    const left = await command(flooder, 'left')
    const mine = await command(honest, 'mine-four')
    const locked = await command(flooder, 'held-too')
    await db.query('begin')
    await db.query('select from commands where request_id = $1 for update', [locked])
    const holding = Array.from({ length: MAX_AT_ONCE }, () => report(flooder, locked))
    const watcher = await connect(t, service.databaseUrl) // a transaction sees its first snapshot of pg_stat_activity
    const waiting =
      "select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    await until(async () => (await watcher.query(waiting)).rowCount === MAX_AT_ONCE)
    const headers = { authorization: `Bearer ${flooder.token}`, 'content-type': 'application/json' }
    let answered = 0
    const invalid = Array.from({ length: 10 }, async () => {
      const { status } = await send({ method: 'POST', path: '/v1/heartbeat', headers, body: '{' })
      answered += 1
      return status
    })
    const leaving = await openRaw(t, service.origin)
    const body = JSON.stringify({ request_id: left, outcome: 'success' })
    leaving.write(
      `${head(
        'POST /v1/action-result HTTP/1.1',
        `Authorization: Bearer ${flooder.token}`,
        'X-Request-ID: leaving',
        `Content-Length: ${body.length}`,
      )}${body}`,
    )
    for (let nth = 0; nth < 10; nth += 1) t.equal(await report(honest, mine), 200)
    t.equal(answered, 0, 'nobody knows yet that it is no JSON')
    leaving.reset()
    t.match(await service.lines.terminalOf('leaving'), { status_code: 499 })
    await db.query('rollback')
    await Promise.all(holding)
    for (const status of await Promise.all(invalid)) t.ok([400, 429].includes(status), `${status}`)
    t.equal(await report(flooder, mine), 404)
    const { body: found } = await service.call('GET', `/admin/commands/${left}`)
    t.not(found.status, 'success')
  },
)

async function issue(aliases: readonly string[]): Promise<readonly Issued[]> {
  return (await service.call('POST', '/v1/enroll-tokens', { body: { aliases } })).body.tokens
}

interface Issued {
  readonly token: string
  readonly token_id: string
  readonly alias: string
}

t.test('a used-up token has few lines, whatever it sends; a success has its own', async (t) => {
  const register = (token: string, body: object = {}) =>
    service.call('POST', '/v1/register', { token, body })
  const [lost] = await issue(['lost'])
  const first = await register(lost?.token ?? '', { hardware_id: 'H1' })
  t.equal(first.status, 201)
  await service.lines.terminalOf(first.requestId)
  const each = 120
  const bodies = [{}, { alias: 'another' }, { sdk_int: -1 }]
  const { all } = service.lines
  const [from, sinceMs] = [all.length, performance.now()]
  const flood = await Promise.all(
    Array.from({ length: each }, () => bodies).flatMap((some) =>
      some.map((body) => register(flooder.enrollmentToken, body)),
    ),
  )
  t.same(new Set(flood.map(({ status }) => status)), new Set([401, 409, 422]))
  const linesOf = (event: string) => all.slice(from).filter((line) => line.event === event)
  for (const event of ['register.request', 'register.fail']) {
    await service.lines.waitFor(() => requestsOf(linesOf(event)) >= flood.length, event)
  }
  const most = 50 * Math.ceil((performance.now() - sinceMs) / 1_000)
  t.ok(linesOf('register.request').length <= most, `at most ${most}`)
  for (const code of ['token_exhausted', 'alias_mismatch', 'invalid_field']) {
    const ends = linesOf('register.fail').filter(({ result }) => result === code)
    t.ok(ends.length <= most, code)
    t.ok(ends.every(({ token_id: id }) => typeof id === 'string'))
  }

  const again = await register(lost?.token ?? '', { hardware_id: 'H1' })
  t.equal(again.status, 200)
  await service.lines.terminalOf(again.requestId)
  const own = all.filter((line) => line['request_id'] === again.requestId)
  const id = lost?.token_id.slice(-4)
  t.match(own, [
    { event: 'register.request', token_id: id },
    { event: 'sec.token.consume', token_id: id },
    { event: 'register.success', token_id: id },
  ])
  t.notOk(own.some((line) => 'suppressed' in line))
})

t.test('phones whose bodies are refused at once are named, all of them', async (t) => {
  const phones = await issue(Array.from({ length: 40 }, (_, n) => `odd-${n}`))
  const register = ({ token }: Issued) =>
    service.call('POST', '/v1/register', { token, body: { sdk_int: -1 } })
  const responses = await Promise.all(phones.map(register))
  for (const [n, { requestId, status }] of responses.entries()) {
    t.equal(status, 422)
    await service.lines.terminalOf(requestId)
    const lines = service.lines.all.filter((line) => line['request_id'] === requestId)
    const { alias, token_id: id } = phones[n] ?? {}
    t.match(lines, [
      { event: 'register.request', alias, token_id: id?.slice(-4) },
      { event: 'register.fail', alias, token_id: id?.slice(-4) },
    ])
  }
})
