/** Downloads at once: who may run how many, who gives way to whom, and that each is counted only while it runs. */
import { once } from 'node:events'
import { connect as connectSocket, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { makeApk } from '../../sim/apk.ts'
import { downloadStore } from '../../src/db/apks/downloads.ts'
import { Pool } from '../../src/db/postgres/pool.ts'
import type { Recipient } from '../../src/domain/recipient.ts'
import { type Admission, LiveDownloads, type Share } from '../../src/security/live-downloads.ts'
import { until } from '../../testkit/until.ts'
import type { TestResponse } from '../helpers/client.ts'
import { connect, PATIENT } from '../helpers/database.ts'
import { rememberSecret } from '../helpers/secrets.ts'
import { ADMIN, type Enrolled, type Running, startService } from '../helpers/service.ts'

const LATEST = '/v1/apk/download-latest'
const BUILD = '/admin/apk/builds/b1/download'
/** More than the sockets of both sides hold. */
const APK_BYTES = 24_000_000
const PER_TOKEN = 3
const PER_SUBNET = 4
const IN_ALL = 6

/** In the process of the service: progress is noted more often, or never, so that a test need not wait for it. */
function notesEvery(noteMs: number) {
  const module = `const every = setInterval
globalThis.setInterval = (run, ms, ...rest) => every(run, ms === 5000 ? ${noteMs} : ms, ...rest)`
  return { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(module)}` }
}
const NEVER_MS = 2 ** 31 - 1
const HURRIED_MS = 20

const service = await startService(t, {
  env: {
    ...notesEvery(NEVER_MS),
    TRUSTED_PROXIES: '127.0.0.1/32',
    RATE_LIMIT_APK_PER_TOKEN_PER_MIN: '1000',
    APK_MAX_DOWNLOADS_PER_SUBNET: String(PER_SUBNET),
    APK_MAX_DOWNLOADS: String(IN_ALL),
  },
})
const db = await connect(t, service.databaseUrl)
const published = await service.call('PUT', '/admin/apk/builds/b1?version_code=1', {
  raw: makeApk({ sizeBytes: APK_BYTES }),
})
if (published.status !== 201) throw new Error(`publishing answered ${published.text}`)

let subnets = 0
/** An address in a subnet that nobody else has. */
const anywhere = () => `10.0.${subnets++}.1`

interface Held {
  readonly socket: Socket
  readonly requestId: string
  readonly status: number
}

interface HoldOptions {
  readonly from?: Running
  readonly path?: string
  readonly ip?: string
}

let asked = 0
/** Sends the request on a connection of its own; it takes nothing of the response yet. */
function ask(t: Test, token: string, options: HoldOptions = {}) {
  rememberSecret(token)
  const { from = service, path = LATEST, ip = anywhere() } = options
  const socket = connectSocket(Number(new URL(from.origin).port), '127.0.0.1').pause()
  t.teardown(() => socket.destroy())
  socket.on('error', () => {})
  const requestId = `held-${asked++}`
  const lines = [`GET ${path} HTTP/1.1`, 'host: x', `authorization: Bearer ${token}`]
  const proxied = [`x-forwarded-for: ${ip}`, 'x-forwarded-proto: https']
  socket.write([...lines, ...proxied, `x-request-id: ${requestId}`, '', ''].join('\r\n'))
  return { socket, requestId }
}

/** Begins a download and stops reading at once. */
async function hold(t: Test, token: string, options: HoldOptions = {}): Promise<Held> {
  const { socket, requestId } = ask(t, token, options)
  const [first] = await once(socket.resume(), 'data')
  socket.pause()
  return { socket, requestId, status: Number(String(first).slice(9, 12)) }
}

/** One after the other. All are served. */
async function holdAll(t: Test, count: number, token: string, options?: HoldOptions) {
  const all: Held[] = []
  for (let n = 0; n < count; n += 1) all.push(await hold(t, token, options))
  t.same(new Set(all.map(({ status }) => status)), new Set([200]))
  return all
}

async function leave(all: readonly Held[], of = service): Promise<void> {
  for (const { socket } of all) socket.destroy()
  await Promise.all(all.map(({ requestId }) => of.lines.terminalOf(requestId)))
}

function fetchOne(token: string, headers = {}, ip = anywhere(), path = LATEST) {
  const proxied = { 'x-forwarded-for': ip, 'x-forwarded-proto': 'https' }
  return service.call('GET', path, { token, headers: { ...proxied, ...headers } })
}

const FIRST_BYTE = { range: 'bytes=0-0' }

async function refused(t: Test, response: TestResponse, reason: string, detail: RegExp) {
  t.match(response, { status: 429, body: { code: 'rate_limited', detail } })
  t.match(response.headers.get('retry-after'), /^[1-9]\d*$/)
  t.match(response.body.detail, `${reason}: `)
  t.equal(response.headers.get('ratelimit-remaining'), '0')
  const end = await service.lines.terminalOf(response.requestId)
  t.match(end, { event: 'apk.download.fail', level: 'WARN', reason: 'rate_limited' })
  const limits = service.lines.of('sec.token.ratelimit')
  const own = limits.filter((line) => line['request_id'] === response.requestId)
  t.match(own, [{ level: 'WARN', reason, token_id: end['token_id'] }])
}

const devices = await Promise.all(Array.from({ length: 7 }, (_, n) => service.enroll(`D${n}`)))
const [one, other] = devices as [Enrolled, Enrolled]
const rowOf = async (requestId: string) => {
  const sql = 'select * from apk_download_events where request_id = $1'
  return (await db.query(sql, [requestId])).rows[0]
}

t.test('a credential runs three downloads at once, by whichever route', async (t) => {
  for (const [title, token, paths] of [
    ['a device token', one.token, [LATEST]],
    ['a used-up enrollment token', one.enrollmentToken, [LATEST]],
    ['an admin token', ADMIN, [LATEST, BUILD]],
  ] as const) {
    const held = await holdAll(t, PER_TOKEN, token, { path: paths[0] })
    for (const path of paths) {
      const response = await fetchOne(token, {}, anywhere(), path)
      await refused(
        t,
        response,
        'apk_at_once_per_token',
        /3 of 3 downloads at once of this token are used/,
      )
    }
    t.equal((await fetchOne(other.token, FIRST_BYTE)).status, 206, `${title}: nobody else suffers`)
    await leave(held.slice(1))
    const again = await hold(t, token, { path: paths.at(-1) ?? '' })
    t.equal(again.status, 200, `${title}: until one of them ends`)
    await leave([again, ...held.slice(0, 1)])
  }
})

t.test('a token for many phones serves as many at once, but no more than a subnet', async (t) => {
  const body = { aliases: [null], uses_allowed: 1000 }
  const made = await service.call('POST', '/v1/enroll-tokens', { body })
  const { token } = made.body.tokens[0]
  const held = await holdAll(t, PER_SUBNET, token)
  const response = await fetchOne(token)
  await refused(
    t,
    response,
    'apk_at_once_per_token',
    /4 of 4 downloads at once of this token are used/,
  )
  await leave(held)
})

t.test('a subnet runs so many downloads at once', async (t) => {
  const etag = String((await fetchOne(one.token, FIRST_BYTE)).headers.get('etag'))
  for (const [address, beyond] of [
    ['198.51.100.', '198.51.101.1'],
    ['2001:db8:0:1::', '2001:db8:0:2::1'],
  ] as const) {
    const held: Held[] = []
    for (const [n, { token }] of devices.slice(0, PER_SUBNET).entries()) {
      held.push(await hold(t, token, { ip: `${address}${n}` }))
    }
    const last = devices.at(-1) as Enrolled
    const response = await fetchOne(last.token, {}, `${address}99`)
    await refused(
      t,
      response,
      'apk_at_once_per_subnet',
      /4 of 4 downloads at once of your subnet are used/,
    )
    t.equal((await fetchOne(last.token, FIRST_BYTE, beyond)).status, 206, 'the next subnet')
    const polled = await fetchOne(last.token, { 'if-none-match': etag }, `${address}99`)
    t.equal(polled.status, 304, 'a poll takes no place')
    const behind = await fetchOne(last.token, { range: `bytes=${APK_BYTES}-` }, `${address}99`)
    t.equal(behind.status, 416, 'nor does who has all bytes')
    await db.query('begin; lock table apk_builds')
    const again = await fetchOne(last.token, {}, `${address}99`).finally(() => db.query('rollback'))
    t.equal(again.status, 429, 'no build is read for it')
    await leave(held)
  }
})

t.test('where no more downloads run in all, the next one is 503', async (t) => {
  const held: Held[] = []
  for (const { token } of devices.slice(0, IN_ALL)) held.push(await hold(t, token))
  const response = await fetchOne((devices.at(-1) as Enrolled).token)
  t.match(response, { status: 503, body: { code: 'overloaded' } })
  t.match(response.headers.get('retry-after'), /^[1-9]\d*$/)
  await leave(held)
  t.equal(held.length, IN_ALL)
})

t.test('a download counts only while it runs, however it ends', async (t) => {
  const etag = String((await fetchOne(one.token, FIRST_BYTE)).headers.get('etag'))
  const served = async () => {
    const held = await holdAll(t, PER_TOKEN, one.token)
    await leave(held)
  }
  for (const [headers, status] of [
    [FIRST_BYTE, 206],
    [{ 'if-none-match': etag }, 304],
    [{ range: `bytes=${APK_BYTES}-` }, 416],
  ] as const) {
    for (let n = 0; n < PER_TOKEN; n += 1) {
      t.equal((await fetchOne(one.token, headers)).status, status)
    }
    await served()
  }
  for (let n = 0; n < PER_TOKEN; n += 1) {
    t.equal((await service.call('HEAD', LATEST, { token: one.token })).status, 200)
  }
  await served()

  await db.query('alter table apk_download_events rename to away')
  for (let n = 0; n < PER_TOKEN; n += 1) {
    t.equal((await fetchOne(one.token)).status, 500, 'its row cannot be written')
  }
  await db.query('alter table away rename to apk_download_events')
  await served()

  await db.query('begin')
  await db.query('lock table apk_download_events in exclusive mode')
  const gone = Array.from({ length: PER_TOKEN }, () => ask(t, one.token))
  const waiting = `select count(*)::int as n from pg_locks
    where not granted and relation = 'apk_download_events'::regclass`
  await until(async () => (await db.query(waiting)).rows[0].n === PER_TOKEN)
  for (const { socket } of gone) socket.destroy()
  await db.query('commit')
  for (const { requestId } of gone) {
    const line = await service.lines.terminalOf(requestId)
    t.match(line, { status_code: 499, reason: 'client_closed' }, 'left before the first byte')
  }
  const open = 'select 1 from apk_download_events where ended_at is null'
  await until(async () => (await db.query(open)).rowCount === 0)
  await served()
})

t.test('a download ends once: what is said of its end again changes nothing', async (t) => {
  const pool = new Pool({
    ...PATIENT,
    url: service.databaseUrl,
    maxConnections: 1,
    isPrepared: true,
  })
  t.teardown(() => pool.close(1_000))
  const downloads = downloadStore(pool, pool)
  const eventId = '00000000-0000-4000-8000-000000000001'
  await downloads.begin({
    eventId,
    buildId: 'b1',
    downloader: { source: 'manual', admin: 'tester' },
    ip: null,
    requestId: 'twice',
    statusCode: 200,
    rangeStart: null,
  })
  await downloads.complete(eventId, APK_BYTES, true, null)
  const ended = await rowOf('twice')
  t.match(ended, { completed: true, reason: null, ended_at: Date })
  await downloads.complete(eventId, 0, false, 'client_closed')
  t.same(await rowOf('twice'), ended)
})

t.test('who takes nothing gives way to who wants to download, and nobody else does', async (t) => {
  const env = {
    ...notesEvery(HURRIED_MS),
    TRUSTED_PROXIES: '127.0.0.1/32',
    RATE_LIMIT_APK_PER_TOKEN_PER_MIN: '10000',
    APK_MAX_DOWNLOADS: '3',
    APK_MAX_DOWNLOADS_PER_TOKEN: '2',
  }
  const replica = await startService(t, { databaseUrl: service.databaseUrl, env })
  const [, , third] = devices as [Enrolled, Enrolled, Enrolled]
  const options = { from: replica }
  const held = [
    ...(await holdAll(t, 2, one.token, options)),
    ...(await holdAll(t, 1, other.token, options)),
  ]
  const failed = () => replica.lines.of('apk.download.fail')
  const gaveWay = () => failed().filter(({ reason }) => reason === 'too_slow')
  /** Repeats while it is refused, since a stalled client is one only after a while. */
  const begins = async (token: string) => {
    let begun: Held | undefined
    await until(async () => {
      begun = await hold(t, token, options)
      return begun.status === 200
    })
    return begun as Held
  }

  const honest = await begins(third.token)
  await until(() => gaveWay().length > 0)
  const [line] = gaveWay()
  const cut = held.find(({ requestId }) => requestId === line?.['request_id'])
  t.match(line, { level: 'WARN', status_code: 499 })
  const row = await rowOf(String(line?.['request_id']))
  t.match(row, { completed: false, reason: 'too_slow', ended_at: Date })
  t.ok(Number(row.bytes_sent) < APK_BYTES)
  const others = [...held.filter((one) => one !== cut), honest]
  t.equal(others.length, 3)
  for (const { requestId } of others) {
    t.match(await rowOf(requestId), { ended_at: null, reason: null }, 'they are left alone')
  }
  await leave(others, replica)
  t.match(await rowOf(honest.requestId), { reason: 'client_closed', completed: false })

  const own = await holdAll(t, 2, third.token, options)
  await begins(third.token)
  await until(() => gaveWay().length > 1)
  const ids = own.map(({ requestId }) => requestId)
  t.ok(ids.includes(String(gaveWay()[1]?.['request_id'])), 'also to a new one of its own')
})

/** A client that takes `bytesPerNote` between two notes. */
function client(bytesPerNote: number) {
  const state = { takenBytes: 0, hasUnsent: true, isCut: false, bytesPerNote }
  function cut() {
    state.isCut = true
  }
  return Object.assign(state, { cut })
}

function clocked() {
  let note = () => {}
  let clocks = 0
  const live = new LiveDownloads((run) => {
    note = run
    clocks += 1
    return () => {
      clocks -= 1
    }
  })
  const clients: ReturnType<typeof client>[] = []
  function watch(admission: Admission<Share>, recipient?: ReturnType<typeof client>) {
    if ('exceeded' in admission) return undefined
    if (recipient !== undefined) {
      clients.push(recipient)
      admission.download.started(recipient satisfies Recipient)
    }
    return admission.download
  }
  return {
    live,
    watch,
    clocks: () => clocks,
    begin: (key: string, max: number, recipient?: ReturnType<typeof client>) =>
      watch(live.admit([{ key, max }]), recipient),
    pass(seconds: number) {
      for (let s = 0; s < seconds; s += 5) {
        for (const one of clients) one.takenBytes += one.bytesPerNote
        note()
      }
    },
  }
}

const KIB = 1024

t.test('a client is slow below 16 KiB/s over a minute', async (t) => {
  const { begin, pass } = clocked()
  const justRight = client(5 * 16 * KIB)
  const slow = client(5 * 16 * KIB - 1)
  begin('a', 2, justRight)
  begin('a', 2, slow)
  pass(55)
  t.equal(begin('a', 2), undefined, 'not before a minute is over')
  pass(5)
  t.ok(begin('a', 2))
  t.same([justRight.isCut, slow.isCut], [false, true])
  t.equal(begin('a', 2), undefined, 'one that has not started does not give way')
})

t.test('within the first minute it has to be silent for 15 s as well', async (t) => {
  const { begin, pass } = clocked()
  const phone = client(1)
  const download = begin('a', 1, phone)
  pass(55)
  phone.bytesPerNote = 0
  phone.takenBytes += 1
  t.equal(begin('a', 1), undefined)
  const next = clocked()
  const stalled = client(0)
  next.begin('a', 1, stalled)
  stalled.takenBytes += 20 * 16 * KIB - 1 // the first bytes, as much as the kernel holds
  next.pass(15)
  t.equal(next.begin('a', 1), undefined, 'not before 15 s')
  next.pass(5)
  stalled.takenBytes += 1
  t.equal(next.begin('a', 1), undefined, 'a byte is progress')
  stalled.takenBytes -= 1
  t.ok(next.begin('a', 1))
  t.ok(stalled.isCut)
  t.notOk(download?.gaveWay)
})

t.test('silence is not slow while it is shorter than the bytes before it allow', async (t) => {
  const { begin, pass } = clocked()
  const bursts = client(0)
  const download = begin('a', 1, bursts)
  for (let burst = 0; burst < 10; burst += 1) {
    bursts.takenBytes += 1_395 * KIB
    pass(45)
    t.equal(begin('a', 1), undefined, 'as at 31 KiB/s over loopback')
  }
  pass(20)
  t.ok(begin('a', 1))
  t.match({ ...bursts, gaveWay: download?.gaveWay }, { isCut: true, gaveWay: true })
})

t.test('a client that waits for us is not slow, and then has all of its time again', async (t) => {
  const { begin, pass } = clocked()
  const phone = client(0)
  begin('a', 1, phone)
  pass(65)
  phone.hasUnsent = false
  t.equal(begin('a', 1), undefined)
  pass(5)
  phone.hasUnsent = true
  pass(10)
  t.equal(begin('a', 1), undefined)
  pass(5)
  t.ok(begin('a', 1))
})

t.test('the slowest one goes, and nobody where that would not help', async (t) => {
  const { begin, live, pass } = clocked()
  const slow = client(1)
  const slowest = client(0)
  begin('a', 3, slow)
  begin('a', 3, slowest)
  begin('a', 3, client(2))
  begin('b', 1, client(1_000_000))
  pass(65)
  const both = [
    { key: 'a', max: 3 },
    { key: 'b', max: 1 },
  ] as const
  t.same(live.admit(both), { exceeded: both[1] })
  t.same([slow.isCut, slowest.isCut], [false, false])
  t.ok(begin('a', 3))
  t.same([slow.isCut, slowest.isCut], [false, true])
})

t.test('one that gives way makes room under every limit that it counts towards', async (t) => {
  const { live, pass, watch } = clocked()
  const limits = (phone: string) => [
    { key: phone, max: 1 },
    { key: 'all', max: 2 },
  ]
  const [slow, slower] = [client(1), client(0)]
  watch(live.admit(limits('one')), slow)
  watch(live.admit(limits('other')), slower)
  pass(65)
  t.ok('download' in live.admit(limits('one')))
  t.same([slow.isCut, slower.isCut], [true, false])
})

t.test('nothing is kept of downloads that have ended, not even a timer', async (t) => {
  const { begin, live, clocks } = clocked()
  const all = Array.from({ length: 100 }, (_, n) => begin(`key-${n % 50}`, 2))
  t.same([live.keys, clocks()], [50, 1])
  for (const download of all) {
    download?.end()
    download?.end()
  }
  t.same([live.keys, clocks()], [0, 0])
  begin('a', 1)?.end()
  t.same([live.keys, clocks()], [0, 0])
})
