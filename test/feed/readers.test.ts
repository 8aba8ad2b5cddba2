/** Readers of GET /admin/events: long polls and streams, on two replicas, through nginx, and what bounds them. */
import { spawn, spawnSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { createEventReaders } from '../../src/app/parts/event-readers.ts'
import type { Events } from '../../src/routes/events/feature.ts'
import { streamOf } from '../../src/routes/events/stream.ts'
import { until } from '../../testkit/until.ts'
import { connect } from '../helpers/database.ts'
import { tempDirectory } from '../helpers/directory.ts'
import { openRaw } from '../helpers/raw.ts'
import { ADMIN, startService } from '../helpers/service.ts'
import { type EventStream, openStream, readAll, TOKEN, told, untilSome } from './reading.ts'

const OTHER = 'other-admin-token-Qd8vXr2kWz9mBt4sLh7cYp3n'
const env = { ADMIN_TOKENS: `tester=${ADMIN},other:read=${OTHER}`, EVENTS_KEEP_ALIVE_S: '1' }
const service = await startService(t, { env })
const replica = await startService(t, { env, databaseUrl: service.databaseUrl })
const db = await connect(t, service.databaseUrl)
const hasNginx = spawnSync('nginx', ['-v']).error === undefined

const now = async (): Promise<string> =>
  (await service.call('GET', '/admin/events?after=now')).body.cursor
async function change(): Promise<string> {
  const id = randomUUID()
  await db.query(TOKEN, [id])
  return id
}

/** The client of this stream reads nothing any more; it takes ten seconds until that is noticed. */
const before = await now()
const openStuck = async () => {
  const stream = await openStream(t, replica.origin, { query: `?after=${before}` })
  stream.pause()
  return stream
}
const stuck = await openStuck()
// More than the buffers of the system take.
await db.query(`
  insert into fleet_events (type, subject, detail)
  select 'token.created', 'n' || n, jsonb_build_object('pad', repeat('x', 4000)) from generate_series(1, 4000) n`)

t.test('a long poll ends with the first event, whichever replica it asks', async (t) => {
  const after = await now()
  const types = 'types=token.created'
  const waiting = [service, replica].map((each) =>
    each.call('GET', `/admin/events?after=${after}&${types}&wait_ms=30000`),
  )
  const id = await change()
  for (const response of await Promise.all(waiting)) {
    t.same(told(response.body.events), [['token.created', id]])
  }
  const passed = await service.call(
    'GET',
    `/admin/events?after=${after}&types=build.staged&wait_ms=300`,
  )
  t.match(passed.body, { events: [], has_more: false })
  t.not(passed.body.cursor, after, 'it has looked at the token')
})

t.test('a stream tells each event with its id, and is resumed from any of them', async (t) => {
  const after = await now()
  const stream = await openStream(t, service.origin, { query: `?after=${after}` })
  t.match(stream, { status: 200 })
  t.match(stream.headers, { 'content-type': 'text/event-stream', 'x-accel-buffering': 'no' })
  const ids = [await change(), await change(), await change()]
  await untilSome(stream, 3)
  const expected = ids.map((id) => ['token.created', id])
  t.same(told(stream.events()), expected)
  t.match(
    stream.text(),
    /^retry: 1000\n\n(: behind_s=\d+\nid: \S+\n\n)+id: \S+\ndata: \{.*\}\n\n(: .*\nid: \S+\n\n)*id: /,
  )
  const { events } = await readAll(service, after)
  t.same(stream.events(), events, 'the same as in pages')
  stream.close()

  const headers = { 'last-event-id': events[0]?.id ?? '' }
  const resumed = await openStream(t, replica.origin, { query: `?after=${after}`, headers })
  await untilSome(resumed, 2)
  t.same(told(resumed.events()), expected.slice(1), 'on another replica')
  const id = await change()
  await untilSome(resumed, 3)
  t.same(told(resumed.events().slice(2)), [['token.created', id]])
})

t.test(
  'a stream without news stays alive, and its id moves on with what it leaves out',
  async (t) => {
    const stream = await openStream(t, service.origin, { query: '?after=now&types=build.staged' })
    const comments = () => stream.text().match(/^: behind_s=0$/gm)?.length ?? 0
    await until(() => comments() >= 2, 'a comment')
    await change()
    const { cursor } = await readAll(service)
    await until(() => stream.lastId() === cursor, 'its id')
    t.same(stream.events(), [])
  },
)

t.test('a HEAD of a stream ends, a wildcard means JSON', async (t) => {
  const headers = { accept: 'text/event-stream' }
  const head = await service.call('HEAD', '/admin/events', { headers })
  t.match(head, { status: 200, text: '' })
  t.equal(head.headers.get('content-type'), 'text/event-stream')
  for (const accept of [
    '*/*',
    'text/*',
    'application/json, text/event-streams',
    'text/event-stream;q=0.0, */*',
  ]) {
    const { body } = await service.call('GET', '/admin/events?limit=1', { headers: { accept } })
    t.equal(body.events.length, 1, accept)
  }
  for (const name of ['limit=1', 'wait_ms=1']) {
    const refused = await service.call('GET', `/admin/events?${name}`, { headers })
    t.match(refused, { status: 422, body: { code: 'invalid_field' } })
  }
})

const readers = async () =>
  /^fleetloop_event_readers (\d+)$/m.exec((await service.call('GET', '/metrics')).text)?.[1]

t.test('a stream that its client leaves is no error, and frees its place', async (t) => {
  const stream = await openStream(t, service.origin, { query: '?after=now' })
  const requestId = String(stream.headers['x-request-id'])
  await until(async () => (await readers()) === '1', 'one reader')
  stream.close()
  const line = await service.lines.terminalOf(requestId)
  t.match(line, { event: 'http.request', status_code: 200, level: 'INFO', reason: null })
  await until(async () => (await readers()) === '0', 'none')
})

t.test('so many readers of one admin, and so many in all', async (t) => {
  const streams = await Promise.all(
    Array.from({ length: 32 }, () => openStream(t, service.origin, { query: '?after=now' })),
  )
  t.equal((await openStream(t, service.origin, { query: '?after=now' })).status, 503)
  const full = await service.call('GET', '/admin/events?after=now&wait_ms=30000')
  t.match(full, { status: 503, body: { code: 'overloaded' } })
  t.equal((await service.call('GET', '/admin/events?after=now')).status, 200, 'without a wait')
  t.match(
    (await service.call('GET', '/metrics')).text,
    /^fleetloop_event_readers_refused_total 2$/m,
  )
  const other = await openStream(t, service.origin, { query: '?after=now', token: OTHER })
  t.equal(other.status, 200)
  const id = await change()
  for (const stream of [...streams, other]) {
    await untilSome(stream, 1)
    t.same(told(stream.events()), [['token.created', id]])
    stream.close()
  }

  await until(async () => (await readers()) === '0', 'none')

  const own = createEventReaders()
  const releases = Array.from({ length: 140 }, (_, n) => own.tryAcquire(`admin-${n % 5}`))
  const taken = releases.filter((release) => release !== undefined)
  t.equal(taken.length, 128)
  t.match(own, { open: 128, refusedCount: 12 })
  for (const release of taken) {
    release()
    release()
  }
  t.equal(own.open, 0)
  t.equal(Array.from({ length: 33 }, () => own.tryAcquire('one')).filter(Boolean).length, 32)
})

t.test(
  'a stream survives the idle time of a real nginx, which passes each event on',
  { skip: !hasNginx && 'needs nginx' },
  async (t) => {
    const directory = tempDirectory(t)
    const socket = join(directory, 'entrance')
    const config = join(directory, 'nginx.conf')
    const temporaries = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
      .map((name) => `${name}_temp_path ${directory}/${name};`)
      .join(' ')
    writeFileSync(
      config,
      `daemon off; pid ${directory}/pid; error_log stderr; events {}
      http { access_log off; ${temporaries}
        server { listen unix:${socket}; location / {
          proxy_pass ${service.origin}; proxy_read_timeout 5s; proxy_http_version 1.1; proxy_set_header Connection ""; } } }`,
    )
    const nginx = spawn('nginx', ['-c', config, '-p', directory], {
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    t.teardown(async () => {
      nginx.kill('SIGTERM')
      if (nginx.exitCode === null) await once(nginx, 'exit')
    })
    const opened: EventStream[] = []
    await until(async () => {
      const one = await openStream(t, socket, { query: '?after=now' }).catch(() => undefined)
      if (one !== undefined) opened.push(one)
      return one !== undefined
    }, 'nginx')
    const [stream] = opened
    if (stream === undefined) return
    const comments = () => stream.text().match(/^: behind_s/gm)?.length ?? 0
    await until(() => comments() >= 7, 'more than the idle time')
    t.equal(stream.isEnded(), false)
    const id = await change()
    await untilSome(stream, 1)
    t.same(told(stream.events()), [['token.created', id]])
  },
)

t.test('a stream goes on where the numbers went back', async (t) => {
  const waited: number[] = []
  const back = { through: 90, server: 'two' }
  const deps: Events = {
    feed: { read: async () => 'gone', newest: async () => null },
    current: async () => back,
    settled: () => back,
    behindS: () => 0,
    waitForMore: async (than) => {
      waited.push(than)
      return false
    },
    tryAcquireReader: () => undefined,
    streamDropped() {},
    keepAliveMs: 1,
    nowMs: () => 0,
  }
  const first = { events: [], position: null, hasMore: false, through: 133 }
  const from = { after: null, types: null, limit: 1 }
  const stream = streamOf(deps, from, first, new AbortController().signal)
  for (let chunk = 0; chunk < 3; chunk += 1) await stream.next()
  t.same(waited, [133, 90])
  await stream.return(undefined)
})

t.test('the end of the service ends long polls and streams at once', async (t) => {
  const doomed = await startService(t, {
    env: { ...env, SHUTDOWN_DRAIN_MS: '300000', SHUTDOWN_GRACE_MS: '600000' },
    databaseUrl: service.databaseUrl,
  })
  const stream = await openStream(t, doomed.origin, { query: '?after=now' })
  const poll = doomed.call('GET', '/admin/events?after=now&wait_ms=30000')
  await until(async () => {
    const { text } = await doomed.call('GET', '/metrics')
    return /^fleetloop_event_readers 2$/m.test(text)
  }, 'two readers')
  doomed.process.kill('SIGTERM')
  t.match(await poll, { status: 200, body: { events: [] } })
  await until(() => stream.isEnded(), 'the end of the stream')
  const line = await doomed.lines.terminalOf(String(stream.headers['x-request-id']))
  t.match(line, { status_code: 200 })
  const late = await openStream(t, doomed.origin, { query: '?after=now' })
  await until(() => late.isEnded(), 'the end of a stream that begins while it stops')
  doomed.process.kill('SIGTERM') // no need to wait for the balancer
  t.equal(await doomed.stop(), 0)
})

t.test('a stream behind another request on its connection waits for its turn', async (t) => {
  const raw = await openRaw(t, service.origin)
  const head = (path: string, accept: string) =>
    `GET ${path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${ADMIN}\r\nAccept: ${accept}\r\n\r\n`
  raw.write(
    head('/admin/events?after=now', '*/*') + head('/admin/events?after=now', 'text/event-stream'),
  )
  await until(() => raw.answers.length === 2, 'both')
  t.match(raw.answers[1], { status: 200, text: /^retry: 1000/ })
  raw.reset()
})

t.test('a client that does not read is cut off, and can resume', async (t) => {
  const lineOf = ({ headers }: typeof stuck) =>
    replica.lines.terminalOf(String(headers['x-request-id']))
  let line = await lineOf(stuck)
  // A stream ends in order where a busy database cannot be read for a moment.
  while (line['status_code'] === 200) line = await lineOf(await openStuck())
  t.match(line, { status_code: 499 })
  const { text } = await replica.call('GET', '/metrics')
  t.match(text, /^fleetloop_event_streams_dropped_total 1$/m)
  const headers = { 'last-event-id': before }
  const resumed = await openStream(t, replica.origin, { headers })
  await untilSome(resumed, 4_000)
  const expected = Array.from({ length: 4_000 }, (_, n) => ['token.created', `n${n + 1}`])
  t.same(told(resumed.events().slice(0, 4_000)), expected)
})
