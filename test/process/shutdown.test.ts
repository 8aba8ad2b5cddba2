/** The end of the process: requests in flight finish, nobody who is silent holds it up, the log is whole. */
import { once } from 'node:events'
import t, { type Test } from 'tap'
import { runRolling } from '../../drills/releases/rolling.ts'
import { pushSettings, startFakeFcm } from '../../sim/fcm/fake-fcm.ts'
import { until } from '../../testkit/until.ts'
import { connect } from '../helpers/database.ts'
import { databaseEnvironment, held } from '../helpers/drill.ts'
import { head, openRaw } from '../helpers/raw.ts'
import { ADMIN, type Running, startService } from '../helpers/service.ts'

const AUTHORIZED = `Authorization: Bearer ${ADMIN}`

/** stdout was written to its end. */
async function endsWith(t: Test, service: Running, reason: string): Promise<void> {
  if (!service.process.stdout?.readableEnded)
    await once(service.process.stdout ?? service.process, 'end')
  const last = service.lines.all.at(-1)
  t.match(last, { event: 'service.stop', reason, drained_ms: Number, route: null })
  t.equal(service.lines.of('service.stop').length, 1)
}

t.test('requests in flight are finished', async (t) => {
  const service = await startService(t)
  const device = await service.enroll('D01')
  await service.call('POST', '/admin/command', {
    body: { alias: 'D01', action: 'ping', request_id: 'c1' },
  })
  const waiting = await openRaw(t, service.origin)
  const path = '/admin/commands/c1?wait_ms=30000'
  waiting.write(head(`GET ${path} HTTP/1.1`, AUTHORIZED, 'X-Request-ID: waiting'))
  const body = '{"status":"ok"}'
  const beating = await openRaw(t, service.origin)
  beating.write(
    head(
      'POST /v1/heartbeat HTTP/1.1',
      `Authorization: Bearer ${device.token}`,
      `Content-Length: ${body.length}`,
      'X-Request-ID: beat',
      'Expect: 100-continue',
    ),
  )
  t.equal((await beating.answer(1)).status, 100, 'its request is in flight')
  service.process.kill('SIGTERM')
  t.match(await waiting.answer(), {
    status: 200,
    body: { request_id: 'c1' },
    headers: { connection: 'close' },
  })
  beating.write(body) // only now: the waiting one's end says that the signal has come
  t.match(await beating.answer(2), {
    status: 200,
    body: { ok: true, deduped: false },
    headers: { connection: 'close' },
  })
  t.equal(await service.stop(), 0)
  await endsWith(t, service, 'SIGTERM')
  t.match(await service.lines.terminalOf('beat'), { event: 'heartbeat.ingest', status_code: 200 })
  t.match(await service.lines.terminalOf('waiting'), { status_code: 200 })
  const db = await connect(t, service.databaseUrl)
  t.equal((await db.query('select from heartbeats')).rowCount, 1)
})

t.test('it serves while it drains, and a second signal skips that', async (t) => {
  const env = { SHUTDOWN_DRAIN_MS: '20000', SHUTDOWN_GRACE_MS: '30000' }
  const service = await startService(t, { env })
  const device = await service.enroll('D01')
  const beat = (): ReturnType<Running['call']> =>
    service.call('POST', '/v1/heartbeat', { token: device.token, body: {} })
  t.equal((await beat()).headers.get('connection'), 'keep-alive')
  service.process.kill('SIGTERM')
  let ready = await service.call('GET', '/readyz')
  while (ready.status === 200) ready = await service.call('GET', '/readyz')
  t.match(ready, { status: 503, body: { code: 'shutting_down', reasons: Object } })
  const line = await service.lines.terminalOf(ready.requestId)
  t.match(line, { event: 'http.error', error: 'shutting_down', stack: null })
  t.ok(ready.headers.get('retry-after'))
  t.equal(ready.headers.get('connection'), 'close')
  for (const [response, status] of [
    [await beat(), 200],
    [await service.call('GET', '/healthz'), 200],
    [await service.call('GET', '/admin/devices'), 200],
    [await service.call('GET', '/v1/nowhere'), 404],
    [await service.call('GET', '/admin/devices', { token: null }), 401],
  ] as const) {
    t.equal(response.status, status)
    t.equal(response.headers.get('connection'), 'close')
  }
  const garbage = await openRaw(t, service.origin)
  garbage.write('hello\r\n\r\n')
  t.match(await garbage.answer(), { status: 400, headers: { connection: 'close' } })
  t.equal(await service.stop(), 0, 'the second signal')
  const stop = service.lines.of('service.stop')[0]
  t.ok(Number(stop?.['drained_ms']) < 20_000, 'the drain was skipped')
})

t.test('the drain ends by itself', async (t) => {
  const service = await startService(t, { env: { SHUTDOWN_DRAIN_MS: '300' } })
  t.equal(await service.stop(), 0)
  await endsWith(t, service, 'SIGTERM')
  t.ok(Number(service.lines.of('service.stop')[0]?.['drained_ms']) >= 300)
})

t.test('silent and half-sent connections hold nothing up', async (t) => {
  const service = await startService(t, { env: { SHUTDOWN_GRACE_MS: '6000' } })
  const device = await service.enroll('D01')
  const bearer = `Authorization: Bearer ${device.token}`
  const beat = 'POST /v1/heartbeat HTTP/1.1'
  const sent = [
    '',
    'GET /hea',
    `${beat}\r\nHost: a\r\nX-Half:`,
    `${head(beat, bearer, 'Content-Length: 100', 'X-Request-ID: half-1')}{"sta`,
    `${head(beat, bearer, 'Transfer-Encoding: chunked', 'X-Request-ID: half-2')}5\r\n{"st`,
    head('GET /healthz HTTP/1.1'), // idle after its answer
  ]
  const connections = []
  for (const bytes of sent) {
    const connection = await openRaw(t, service.origin)
    connection.write(bytes)
    connections.push(connection)
  }
  await connections.at(-1)?.answer()
  t.equal(await service.stop(), 0)
  await endsWith(t, service, 'SIGTERM')
  await Promise.all(connections.map((connection) => connection.closed()))
  for (const [index, id] of [
    [3, 'half-1'],
    [4, 'half-2'],
  ] as const) {
    t.match(
      await connections[index]?.answer(),
      {
        status: 503,
        requestId: id,
        body: { code: 'shutting_down' },
        headers: { 'retry-after': /\d/ },
      },
      'who was half-way is told to come back',
    )
    const ends = service.lines.all.filter(
      (line) => line['request_id'] === id && line['status_code'] !== null,
    )
    t.match(ends, [{ event: 'http.error', status_code: 503, error: 'shutting_down' }])
    t.equal(ends.length, 1, `one terminal line of ${id}`)
  }
})

t.test('every heartbeat that was acknowledged is kept', async (t) => {
  const service = await startService(t, {
    env: { HEARTBEAT_DEDUP_WINDOW_S: '0', SHUTDOWN_DRAIN_MS: '200' },
  })
  const devices = await Promise.all(
    Array.from({ length: 8 }, (_, index) => service.enroll(`D${index}`)),
  )
  const codes: string[] = []
  const beating = devices.map(async ({ token }) => {
    for (;;) {
      const response = await service
        .call('POST', '/v1/heartbeat', { token, body: { status: 'ok' } })
        .catch(() => undefined)
      if (response === undefined) return // the port is closed
      codes.push(response.status === 200 ? 'ok' : response.body.code)
    }
  })
  await service.lines.waitFor(() => service.lines.of('heartbeat.ingest').length > 50)
  t.equal(await service.stop(), 0)
  await Promise.all(beating)
  await endsWith(t, service, 'SIGTERM')
  const kept = codes.filter((code) => code === 'ok').length
  const isBusy = (code: string) => code === 'overloaded' || code === 'db_unavailable'
  t.same(
    codes.filter((code) => code !== 'ok' && !isBusy(code)),
    [],
    'until the port closed nobody is told of the stop',
  )
  const db = await connect(t, service.databaseUrl)
  const { rowCount } = await db.query('select from heartbeats')
  t.ok((rowCount ?? 0) >= kept, `${rowCount} kept, ${kept} acknowledged`)
  t.equal(service.lines.of('heartbeat.ingest').length, rowCount, 'one line each')
})

/** With eight pushes under way that FCM does not answer. */
async function startPushing(t: Test, graceMs: number) {
  const fcm = await startFakeFcm()
  t.teardown(() => fcm.close())
  fcm.setMode({ fcm: 'hang' })
  const service = await startService(t, {
    env: {
      ...pushSettings(fcm),
      FCM_TIMEOUT_MS: '15000', // the most
      SHUTDOWN_GRACE_MS: String(graceMs),
    },
  })
  const { token } = await service.enroll('D01', { fcm_token: 'push-1' })
  const ids = Array.from({ length: 8 }, (_, n) => `held-${n}`)
  for (const request_id of ids) {
    const body = { alias: 'D01', action: 'ping', request_id }
    t.equal((await service.call('POST', '/admin/command?wait_ms=0', { body })).status, 202)
  }
  for (const id of ids) await fcm.waitForSend(({ data }) => data['request_id'] === id, 30_000)
  return { service, token, ids }
}

async function areGivenBack(t: Test, service: Running, ids: readonly string[]): Promise<void> {
  const db = await connect(t, service.databaseUrl)
  const { rows } = await db.query(
    `select distinct state, push_state, attempt, lease_id, lease_until, next_attempt_at <= now() as is_due
     from commands where request_id = any ($1)`,
    [ids],
  )
  const free = { lease_id: null, lease_until: null, is_due: true }
  t.same(rows, [{ state: 'open', push_state: 'waiting', attempt: 1, ...free }], 'all of them')
}

t.test('sends that FCM does not answer are given back, due at once', async (t) => {
  const { service, ids } = await startPushing(t, 6_000)
  t.equal(await service.stop(), 0)
  await endsWith(t, service, 'SIGTERM')
  await areGivenBack(t, service, ids)
})

t.test('a second signal ends every wait, and still gives back what is under way', async (t) => {
  const { service, token, ids } = await startPushing(t, 60_000)
  const half = await openRaw(t, service.origin)
  const authorization = `Authorization: Bearer ${token}`
  half.write(head('POST /v1/heartbeat HTTP/1.1', authorization, 'Content-Length: 100'))
  half.write('{"sta')
  await service.call('GET', '/healthz') // it has been read by then
  service.process.kill('SIGTERM')
  // The port is closed: it waits for the request, which would be 408 after 10 s.
  await until(() =>
    service.call('GET', '/healthz').then(
      () => false,
      () => true,
    ),
  )
  service.process.kill('SIGTERM')
  t.match(await half.answer(), { status: 503, body: { code: 'shutting_down' } })
  t.equal(await service.stop(), 0)
  await endsWith(t, service, 'SIGTERM')
  await areGivenBack(t, service, ids)
})

t.test('replicas behind a balancer end in turn, and no request fails', async (t) => {
  const figures = await runRolling({
    ...(await databaseEnvironment(t)),
    terms: 2,
    ratePerS: 40,
    drainMs: 3_000, // the balancer asks once a second
    stuckEvery: 0, // the test above has them
  })
  held(t, figures)
})

t.test('what hangs beyond its grace kills itself', async (t) => {
  const hang = 'process.exit = () => {}; setInterval(() => {}, 1000)'
  const service = await startService(t, {
    env: {
      SHUTDOWN_GRACE_MS: '1000',
      NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(hang)}`,
    },
  })
  t.equal(await service.stop(), null)
  t.equal(service.process.signalCode, 'SIGKILL')
})

t.test('SIGINT ends it alike', async (t) => {
  const service = await startService(t)
  service.process.kill('SIGINT')
  const [code] = await once(service.process, 'exit')
  t.equal(code, 0)
  await endsWith(t, service, 'SIGINT')
})
