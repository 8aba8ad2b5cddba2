/** What one client may take of a service, so that the others keep theirs: downloads a minute, places to wait in. */

import { createHash, randomBytes } from 'node:crypto'
import { createServer, type IncomingMessage } from 'node:http'
import { PassThrough } from 'node:stream'
import { setImmediate } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { makeApk } from '../../sim/apk.ts'
import { pushSettings, startFakeFcm } from '../../sim/fcm/fake-fcm.ts'
import type { Registration } from '../../src/db/enrollment/registration.ts'
import { registrationQueue } from '../../src/db/enrollment/registration-queue.ts'
import { untaggedTokens } from '../../src/db/enrollment/untagged-tokens.ts'
import { AppError } from '../../src/domain/errors.ts'
import type { EnrollmentVerdict } from '../../src/domain/identity.ts'
import { PendingBodies, readBytes } from '../../src/http/body/body.ts'
import { createKeyedQueue, type KeyedQueueOptions } from '../../src/lib/keyed-queue.ts'
import { RateLimit } from '../../src/lib/rate-limit.ts'
import { subnetOf } from '../../src/lib/subnet.ts'
import { Throttle } from '../../src/lib/throttle.ts'
import type { LogLine } from '../../testkit/log-book.ts'
import { until } from '../../testkit/until.ts'
import { databaseOutage } from '../docs/commands/night.ts'
import type { TestResponse } from '../helpers/client.ts'
import { connect } from '../helpers/database.ts'
import { listenFor } from '../helpers/listen.ts'
import { head, openRaw, type RawConnection } from '../helpers/raw.ts'
import { ADMIN, type Running, startService } from '../helpers/service.ts'
import { readCluster } from '../runner/cluster.ts'

const LATEST = '/v1/apk/download-latest'
const PER_TOKEN = 3
const PER_SUBNET = 5
const OTHER = 'other-admin-token-Qd8vXr2kWz9mBt4sLh7cYp3n'
const MAX_WAITING_OF_ADMIN = 32
const TOO_MANY_WAIT = 'Too many requests wait. Ask without wait_ms, or later.'
const AT_ONCE = 32
/** Registrations of 400 ms: long enough for another one to come and leave, on a busy machine, too. */
const BEFORE_IT = 30

/** With a build to fetch; who asks says where it comes from. */
async function serviceWithBuild(t: Test, env: Readonly<Record<string, string>>): Promise<Running> {
  const service = await startService(t, { env: { TRUSTED_PROXIES: '127.0.0.1/32', ...env } })
  const published = await service.call('PUT', '/admin/apk/builds/b1?version_code=1', {
    raw: makeApk(),
  })
  t.equal(published.status, 201)
  return service
}

function fetchFrom(
  service: Running,
  ip: string,
  token?: string,
  method = 'GET',
): Promise<TestResponse> {
  const headers = { 'x-forwarded-for': ip, 'x-forwarded-proto': 'https' }
  return service.call(method, LATEST, { headers, ...(token !== undefined && { token }) })
}

const rateLimitOf = ({ headers }: TestResponse) =>
  ['limit', 'remaining', 'reset'].map((name) => headers.get(`ratelimit-${name}`))

/** 429 with a wait of at most a minute, and its two lines. */
async function refused(
  t: Test,
  service: Running,
  response: TestResponse,
  reason: 'apk_per_token' | 'apk_per_subnet',
  tokenId: string | null = null,
  limit = reason === 'apk_per_token' ? PER_TOKEN : PER_SUBNET,
) {
  t.match(response, { status: 429, body: { code: 'rate_limited' } }, reason)
  const retryAfterS = Number(response.headers.get('retry-after'))
  t.ok(retryAfterS >= 1 && retryAfterS <= 60, `Retry-After: ${retryAfterS}`)
  const whose = reason === 'apk_per_token' ? 'this token' : 'your subnet'
  t.equal(
    response.body.detail,
    `${reason}: ${limit} of ${limit} downloads of ${whose} within a minute are used. Try again in ${retryAfterS} s.`,
  )
  t.same(rateLimitOf(response), [`${limit}`, '0', `${retryAfterS}`])
  t.match(await service.lines.terminalOf(response.requestId), {
    event: 'apk.download.fail',
    level: 'WARN',
    reason: 'rate_limited',
    build_id: null,
    token_id: tokenId,
  })
  const beside = service.lines
    .of('sec.token.ratelimit')
    .filter((line) => line['request_id'] === response.requestId)
  t.match(beside, [{ level: 'WARN', reason, token_id: tokenId, status_code: null }])
}

t.test('each credential fetches so often a minute, whatever its neighbours do', async (t) => {
  const env = { RATE_LIMIT_APK_PER_TOKEN_PER_MIN: String(PER_TOKEN) }
  const service = await serviceWithBuild(t, env)
  const db = await connect(t, service.databaseUrl)
  const [one, other] = [await service.enroll('one'), await service.enroll('other')]
  const tokenOf = 'select token_id from enrollment_tokens where alias = $1'
  const enrollmentId = (await db.query(tokenOf, ['one'])).rows[0].token_id.slice(-4)

  for (const [token, tokenId] of [
    [one.token, null],
    [one.enrollmentToken, enrollmentId],
  ]) {
    for (let head = 0; head <= PER_TOKEN; head += 1) {
      const { status } = await fetchFrom(service, '203.0.113.1', token, 'HEAD')
      t.equal(status, 200, 'a HEAD is no download')
    }
    const responses = await Promise.all(
      Array.from({ length: PER_TOKEN + 2 }, (_, n) => fetchFrom(service, `203.0.${n}.1`, token)),
    )
    const statuses = responses.map(({ status }) => status).sort()
    t.same(statuses, [200, 200, 200, 429, 429], 'from wherever it comes')
    for (const response of responses.filter(({ status }) => status === 429)) {
      await refused(t, service, response, 'apk_per_token', tokenId)
    }
  }
  const made = await service.call('POST', '/v1/enroll-tokens', {
    body: { aliases: [null], uses_allowed: 2 },
  })
  const { token: shared, token_id: sharedId } = made.body.tokens[0]
  for (let n = 0; n < 2 * PER_TOKEN; n += 1) {
    const { status } = await fetchFrom(service, '203.0.113.1', shared)
    t.equal(status, 200, 'a token for two phones: twice as often')
  }
  const seventh = await fetchFrom(service, '203.0.113.1', shared)
  await refused(t, service, seventh, 'apk_per_token', sharedId.slice(-4), 2 * PER_TOKEN)
  const again = await service.enroll('one')
  t.equal((await fetchFrom(service, '203.0.113.1', again.token)).status, 429, 'it is that phone')
  t.equal((await fetchFrom(service, '203.0.113.1', other.token)).status, 200, 'a neighbour')
  const beat = await service.call('POST', '/v1/heartbeat', { token: again.token, body: {} })
  t.equal(beat.status, 200, 'nothing else of it is limited')
  for (let n = 0; n < 2 * PER_TOKEN; n += 1) {
    t.equal((await fetchFrom(service, '203.0.113.1')).status, 200, 'nor is an admin')
  }
})

t.test('all phones of a subnet fetch so often a minute together', async (t) => {
  const env = { RATE_LIMIT_APK_PER_SUBNET_PER_MIN: String(PER_SUBNET) }
  const service = await serviceWithBuild(t, env)
  const phones = await Promise.all(
    Array.from({ length: PER_SUBNET + 1 }, (_, n) => service.enroll(`S${n}`)),
  )
  for (const [addressOf, beyond] of [
    [(n: number) => `198.51.100.${n}`, '198.51.101.1'],
    [(n: number) => `2001:db8:0:1::${n}`, '2001:db8:0:2::1'],
  ] as const) {
    const statuses: number[] = []
    for (const [n, { token }] of phones.entries()) {
      const response = await fetchFrom(service, addressOf(n), token)
      statuses.push(response.status)
      if (n === PER_SUBNET) await refused(t, service, response, 'apk_per_subnet')
    }
    t.same(statuses, [200, 200, 200, 200, 200, 429])
    const [first] = phones
    t.equal((await fetchFrom(service, beyond, first?.token)).status, 200, 'the next subnet')
    const stranger = await fetchFrom(service, addressOf(1), `dt_${'w'.repeat(43)}`)
    t.equal(stranger.status, 401, 'who proves nothing is not counted')
  }
})

t.test('so many requests of one admin wait for news of a command, and no more', async (t) => {
  const fcm = await startFakeFcm()
  t.teardown(() => fcm.close())
  fcm.setMode({ fcm: 'hang' })
  fcm.register('push-1', () => {})
  const service = await startService(t, {
    env: { ...pushSettings(fcm), ADMIN_TOKENS: `tester=${ADMIN},other:read=${OTHER}` },
  })
  await service.enroll('W1', { fcm_token: 'push-1' })
  const order = (id: string, waitMs: number) =>
    service.call('POST', `/admin/command?wait_ms=${waitMs}`, {
      body: { alias: 'W1', action: 'ping', request_id: id },
    })
  const look = (waitMs: number, token = ADMIN) =>
    service.call('GET', `/admin/commands/w1?wait_ms=${waitMs}`, { token })
  t.equal((await order('w1', 0)).status, 202)
  // A few at a time, until one is refused because too many wait: where the machine is busy the database refuses some as well.
  const all: RawConnection[] = []
  const told = ({ answers: [response] }: RawConnection) => response?.body?.detail === TOO_MANY_WAIT
  const patient = 'GET /admin/commands/w1?wait_ms=30000 HTTP/1.1'
  while (!all.some(told)) {
    for (let n = 0; n < AT_ONCE; n += 1) {
      const one = await openRaw(t, service.origin)
      one.write(head(patient, `Authorization: Bearer ${ADMIN}`))
      all.push(one)
    }
    await look(0)
  }
  t.ok(all.length > MAX_WAITING_OF_ADMIN, `${all.length} were let in`)
  const beyond = all.find(told)?.answers[0]
  t.match(beyond, {
    status: 503,
    body: { code: 'overloaded' },
    headers: { 'retry-after': /^[1-9]/ },
  })
  await until(async () => (await look(0)).status === 200) // a request that does not wait is served
  await until(async () => (await look(200, OTHER)).status === 200) // so is another admin, who waits
  const accepted = await order('w2', 1_000)
  t.match(accepted, { status: 202, body: { push: { attempts: Number } } }, 'accepted')
  t.match(accepted.body.push.state, /waiting|sending/)
  const waiting = all.filter(({ answers: responses }) => responses.length === 0)
  waiting[0]?.destroy()
  await until(async () => (await look(1)).status === 200)
  await until(async () => (await service.call('DELETE', '/admin/commands/w1')).status !== 503)
  const ends = await Promise.all(waiting.slice(1).map((one) => one.answer()))
  // Some may have waited for 30 s by then, and some get 503: they all read at once.
  t.ok(ends.some(({ body }) => body.status === 'cancelled'))
  t.same(
    ends.filter(({ status }) => status !== 200 && status !== 503),
    [],
  )
})

t.test('of more bodies on their way than may be held, the oldest are given up', async (t) => {
  const bodies = new PendingBodies(() => 0, new Throttle(), 3_000)
  const givenUp: string[] = []
  const begin = (name: string) => {
    const place = bodies.start(({ code }) => {
      givenUp.push(`${name} ${code}`)
      bodies.stop(place)
    })
    return place
  }
  const [one, two, three] = [begin('one'), begin('two'), begin('three')]
  for (const place of [one, two, three]) bodies.hold(place, 1_000)
  t.same(givenUp, [])
  bodies.stop(two)
  bodies.hold(three, 2_000)
  t.same(givenUp, [], 'what has arrived is held no more')
  bodies.hold(three, 2_001)
  t.same(givenUp, ['one overloaded'])
  bodies.hold(three, 3_001)
  t.same(givenUp, ['one overloaded', 'three overloaded'], 'the last one, too')
  bodies.hold(three, 4_000)
  const four = begin('four')
  bodies.hold(four, 3_000)
  t.equal(givenUp.length, 2, 'nothing is left of them')
  bodies.stop(four)
  begin('empty')
  bodies.hold(begin('large'), 3_001)
  t.same(givenUp.slice(2), ['empty overloaded', 'large overloaded'], 'the oldest held too little')
})

t.test('a body that does not come is given up when its time is over, not before', async (t) => {
  let nowMs = 5
  const bodies = new PendingBodies(() => nowMs, new Throttle())
  const givenUp: string[] = []
  const begin = (name: string) => bodies.start(({ code }) => givenUp.push(`${name} ${code}`))
  const places = [begin('first')]
  nowMs = 6
  places.push(begin('second'))
  nowMs = 10_005
  await until(() => givenUp.length > 0)
  t.same(givenUp, ['first request_timeout'])
  for (const place of places) bodies.stop(place)
})

t.test('a body that comes with its head needs no clock, and its request ends', async (t) => {
  let clocksAsked = 0
  const bodies = new PendingBodies(() => {
    clocksAsked += 1
    return 0
  }, new Throttle())
  const server = createServer(async (request, res) => {
    await null // as a guard does
    const bytes = await readBytes(request, 8_192, bodies)
    res.end(`${bytes} ${clocksAsked} ${request.complete}`)
  })
  const port = await listenFor(t, server)
  const client = await openRaw(t, `http://127.0.0.1:${port}`)
  const asked = head('POST / HTTP/1.1', 'Content-Length: 3')
  client.write(`${asked}one`)
  t.match(await client.answer(), { text: 'one 0 true' })
  client.write(`${asked}tw`)
  await until(() => clocksAsked === 1)
  client.write(`o${asked}ten`)
  t.match(await client.answer(2), { text: 'two 1 true' }, 'one that comes later has a clock')
  t.match(await client.answer(3), { text: 'ten 1 true' }, 'and the bytes behind it are not of it')
  client.destroy()
})

t.test('of a body whose client has left nothing is held', async (t) => {
  const bodies = new PendingBodies(() => 0, new Throttle(), 3_000)
  const sent = new PassThrough()
  const request = Object.assign(sent, { headers: { 'content-length': '4000' }, complete: false })
  const read = readBytes(request as unknown as IncomingMessage, 8_192, bodies)
  sent.write(Buffer.alloc(2_500))
  sent.destroy()
  await t.rejects(read, { name: 'ClientGoneError' })
  const refused: string[] = []
  bodies.hold(
    bodies.start(({ code }) => refused.push(code)),
    3_000,
  )
  t.same(refused, [], 'all of the room is there again')
})

t.test('a minute begins with its first one, and ends', async (t) => {
  const limit = new RateLimit(2)
  t.same([limit.take('a', 1_000), limit.take('a', 31_000)], [undefined, undefined])
  t.equal(limit.take('a', 31_000), 30)
  t.equal(limit.take('a', 60_999), 1, 'a part of a second is a whole one')
  t.equal(limit.take('b', 60_999), undefined)
  t.equal(limit.take('a', 61_000), undefined)
  t.equal(limit.keys, 2)
  t.equal(limit.take('c', 200_000), undefined)
  t.equal(limit.keys, 1, 'what is over is forgotten')
})

t.test('of more keys than it remembers the oldest begin anew', async (t) => {
  const limit = new RateLimit(1)
  for (let n = 0; n < 10_000; n += 1) limit.take(`key-${n}`, n / 1_000)
  t.equal(limit.take('key-0', 20), 60, 'remembered')
  t.equal(limit.take('one more', 20), undefined)
  t.equal(limit.keys, 10_000)
  t.equal(limit.take('key-0', 20), undefined)
  t.equal(limit.take('key-9999', 20), 60)
})

t.test('addresses of one network are one', async (t) => {
  for (const [address, subnet] of [
    ['198.51.100.7', '198.51.100.0/24'],
    ['2001:db8:0:1::7', '2001:db8:0:1::/64'],
    ['2001:DB8::1:0:0:7', '2001:db8:0:0::/64'],
    ['2001:0db8:0000:0001:0000:0000:0000:0007', '2001:db8:0:1::/64'],
    ['::1', '0:0:0:0::/64'],
    ['1::', '1:0:0:0::/64'],
    ['64:ff9b::198.51.100.7', '64:ff9b:0:0::/64'],
    ['1:2:3::4.5.6.7', '1:2:3:0::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['1:2:3:4:5:6:7::', '1:2:3:4::/64'],
  ] as const) {
    t.equal(subnetOf(address), subnet, address)
  }
})

/** As release 0.1 issued them, and as anybody makes them up: without a tag. */
function untaggedToken(): string {
  return `et_${randomBytes(32).toString('base64url')}`
}

/** Until `over`, how many sessions waited for a lock at once, at most. */
async function mostWaiting(t: Test, url: string, over: Promise<unknown>): Promise<number> {
  const watcher = await connect(t, url)
  let isOver = false
  void over.finally(() => {
    isOver = true
  })
  let most = 0
  while (!isOver) {
    const { rows } = await watcher.query(`select count(*)::int as n from pg_stat_activity
      where datname = current_database() and wait_event_type = 'Lock'`)
    most = Math.max(most, rows[0].n)
  }
  return most
}

const shared = await startService(t)

t.test(
  'made-up enrollment tokens wait for one connection, and nobody waits with them',
  async (t) => {
    const service = shared
    const { token, deviceId } = await service.enroll('honest')
    const db = await connect(t, service.databaseUrl)
    const body = { hardware_id: 'H1' }
    const register = (token: string) => service.call('POST', '/v1/register', { token, body })
    const download = (token: string) => service.call('GET', LATEST, { token })

    await db.query('begin')
    await db.query('lock table enrollment_tokens in access exclusive mode')
    const flood = Promise.all(
      Array.from({ length: 120 }, (_, index) =>
        (index % 2 === 0 ? register : download)(untaggedToken()),
      ),
    )
    const waited = mostWaiting(t, service.databaseUrl, flood)
    for (const round of [1, 2, 3]) {
      const beat = await service.call('POST', '/v1/heartbeat', { token, body: {} })
      t.equal(beat.status, 200, `heartbeat ${round}`)
      t.equal(
        (await service.call('GET', `/admin/devices/${deviceId}`)).status,
        200,
        `admin ${round}`,
      )
    }
    const responses = await flood
    t.equal(await waited, 1, 'one connection serves them')
    await db.query('rollback')
    for (const { status, body, headers } of responses) {
      t.match([status, body.code], [503, 'db_unavailable'])
      t.match(headers.get('retry-after'), /^[1-9]\d*$/)
    }

    t.match(await register(untaggedToken()), { status: 401, body: { code: 'token_unknown' } })
    t.match(await download(untaggedToken()), { status: 401, body: { code: 'token_unknown' } })
    const old = untaggedToken()
    const made = await service.call('POST', '/v1/enroll-tokens', { body: { aliases: ['old'] } })
    await db.query('update enrollment_tokens set token_hash = $1 where token_id = $2', [
      createHash('sha256').update(old).digest(),
      made.body.tokens[0].token_id,
    ])
    t.match(await register(old), { status: 201, body: { alias: 'old' } }, 'one that 0.1 issued')
    t.match(await register(old), { status: 200, body: { alias: 'old' } }, 'and its lost answer')
    t.match(await download(old), { status: 404, body: { code: 'apk_none' } })
    const { device_token: enrolled } = (await register(old)).body
    await service.call('POST', '/v1/heartbeat', { token: enrolled, body: {} })
    t.match(await register(old), { status: 401, body: { code: 'token_exhausted' } })
  },
)

t.test('256 phones with enrollment tokens of 0.1 that come at once are all enrolled', async (t) => {
  const service = shared
  const db = await connect(t, service.databaseUrl)
  const old = Array.from({ length: 255 }, untaggedToken)
  await db.query(
    `insert into enrollment_tokens (token_id, token_hash, alias, uses_allowed, expires_at, issued_by, request_id)
    select gen_random_uuid(), token_hash, 'old-' || n, 1, now() + interval '1 hour', 'ops', 'of 0.1'
    from unnest($1::bytea[]) with ordinality as one(token_hash, n)`,
    [old.map((token) => createHash('sha256').update(token).digest())],
  )
  const responses = await Promise.all(
    // One of them is made up.
    [...old, untaggedToken()].map((token) =>
      service.call('POST', '/v1/register', { token, body: { hardware_id: token } }),
    ),
  )
  const made = responses.pop()
  t.match(made, { status: 401, body: { code: 'token_unknown' } })
  t.same(
    responses.map(({ status, body }) => [status, body.alias]),
    old.map((_, n) => [201, `old-${n + 1}`]),
  )
})

t.test('a made-up enrollment token is never the one that says the database is away', async (t) => {
  const service = await startService(t)
  const { token } = await service.enroll('honest')
  const beat = () => service.call('POST', '/v1/heartbeat', { token, body: {} })
  t.equal((await beat()).status, 200)
  const operator = await connect(t, readCluster().url)
  const allow = (isAllowed: boolean) =>
    operator.query(
      `alter database ${new URL(service.databaseUrl).pathname.slice(1)} allow_connections ${isAllowed}`,
    )
  await allow(false)
  const response = await service.call('POST', '/v1/register', { token: untaggedToken(), body: {} })
  t.match(response, { status: 503, body: { code: 'db_unavailable' } })
  t.equal((await beat()).status, 200, 'connections that are open serve on')
  await allow(true)
  await service.lines.terminalOf(response.requestId)
  t.equal(service.lines.of('db.unavailable').length, 0)
})

t.test(
  'made-up device tokens at a fresh installation ask the database once at a time',
  async (t) => {
    const service = await startService(t)
    const db = await connect(t, service.databaseUrl)
    await db.query('begin')
    await db.query('lock table devices in access exclusive mode')
    const token = `dt_${randomBytes(32).toString('base64url')}`
    const beat = () => service.call('POST', '/v1/heartbeat', { token, body: {} })
    const flood = Promise.all(Array.from({ length: 20 }, beat))
    t.equal(await mostWaiting(t, service.databaseUrl, flood), 1)
    await db.query('rollback')
    for (const { status } of await flood) t.equal(status, 503)
    t.match(await beat(), { status: 503, body: { code: 'not_provisioned' } })
  },
)

t.test(
  'registrations with one token take one connection, and nobody waits with them',
  async (t) => {
    const service = shared
    const { enrollmentToken, token, deviceId } = await service.enroll('honest')
    const register = () =>
      service.call('POST', '/v1/register', {
        token: enrollmentToken,
        body: { hardware_id: 'other' },
      })
    const db = await connect(t, service.databaseUrl)
    await db.query('begin')
    await db.query('select from enrollment_tokens for update')
    const flood = Promise.all(Array.from({ length: 60 }, register))
    const waited = mostWaiting(t, service.databaseUrl, flood)
    await waitForRegistrations(service, (waiting) => waiting > 0 && waiting < 60)
    const beat = await service.call('POST', '/v1/heartbeat', { token, body: {} })
    t.equal(beat.status, 200)
    t.equal((await service.call('GET', `/admin/devices/${deviceId}`)).status, 200)
    await db.query('rollback')
    for (const { status, body, headers } of await flood) {
      if (status === 401) t.equal(body.code, 'token_exhausted')
      else t.match([status, headers.get('retry-after')], [503, /^[1-9]\d*$/], 'of a lock')
    }
    t.equal(await waited, 1)
    t.match(await register(), { status: 401, body: { code: 'token_exhausted' } })
  },
)

async function waitingRegistrations(service: Running): Promise<number> {
  const { text } = await service.call('GET', '/metrics')
  return Number(/^fleetloop_registrations_waiting (\d+)$/m.exec(text)?.[1])
}

function waitForRegistrations(service: Running, holds: (waiting: number) => boolean) {
  return until(async () => holds(await waitingRegistrations(service)))
}

/**
 * Each registration takes 100 ms at least, and 400 while `slower` has a row; the statement timeout is 900. The one connection
 * that they may have is a bottleneck.
 */
async function slowRegistrations(t: Test) {
  const service = await startService(t, { env: { DATABASE_POOL_MAX: '5' } })
  const honest = await service.enroll('honest')
  const db = await connect(t, service.databaseUrl)
  await db.query(`
    create table slower (yes boolean);
    create function dawdle() returns trigger language plpgsql as $$ begin
      perform pg_sleep(case when exists (select from slower) then 0.4 else 0.1 end);
      return new;
    end $$;
    create trigger dawdle before insert on devices for each row execute function dawdle()`)
  const issue = async (aliases: readonly (string | null)[], uses_allowed: number) => {
    const body = { aliases, uses_allowed }
    const response = await service.call('POST', '/v1/enroll-tokens', { body })
    return response.body.tokens.map(({ token }: { token: string }) => token) as readonly string[]
  }
  const register = (token: string | undefined, alias: string) =>
    service.call('POST', '/v1/register', { token: token ?? '', body: { alias } })
  return { service, honest, db, issue, register }
}

t.test('when registrations are slow and many', async (t) => {
  const { service, honest, db, issue, register } = await slowRegistrations(t)

  await t.test('a whole fleet that enrolls at once waits for its turn', async (t) => {
    const aliases = Array.from({ length: 24 }, (_, n) => `own-${n}`)
    const own = await issue(aliases, 1)
    const [shared] = await issue([null], 24)
    const fleet = Promise.all([
      ...own.map((token, n) => register(token, `own-${n}`)),
      ...aliases.map((_, n) => register(shared, `shared-${n}`)),
    ])
    await waitForRegistrations(service, (waiting) => waiting > 24)
    const beat = await service.call('POST', '/v1/heartbeat', { token: honest.token, body: {} })
    t.equal(beat.status, 200)
    t.equal((await service.call('GET', `/admin/devices/${honest.deviceId}`)).status, 200)
    t.same(new Set((await fleet).map(({ status }) => status)), new Set([201]))
    const { rows } = await db.query('select count(*)::int as devices from devices')
    t.equal(rows[0].devices, 1 + 2 * 24)
    t.match(await register(shared, 'one-more'), { status: 401, body: { code: 'token_exhausted' } })
    await waitForRegistrations(service, (waiting) => waiting === 0)
  })

  await t.test('one whose phone left before its turn is not carried out', async (t) => {
    const [last] = await issue(['last'], 1)
    const [shared] = await issue([null], BEFORE_IT + 1)
    await db.query('insert into slower values (true)')
    let ended = 0
    const statusOf = async (token: string | undefined, alias: string) => {
      const { status } = await register(token, alias)
      ended += 1
      return status
    }
    const before = Array.from({ length: BEFORE_IT }, (_, n) => statusOf(shared, `before-${n}`))
    const untilArrived = (count: number) =>
      until(async () => {
        const endedAndAtWork = ended + 1
        return endedAndAtWork + (await waitingRegistrations(service)) >= count
      })
    await untilArrived(BEFORE_IT)
    const leaving = await openRaw(t, service.origin)
    const bearer = `Authorization: Bearer ${shared}`
    const type = 'Content-Type: application/json'
    const lines = [bearer, type, 'Content-Length: 16', 'X-Request-ID: left']
    leaving.write(`${head('POST /v1/register HTTP/1.1', ...lines)}{"alias":"gone"}`)
    await untilArrived(BEFORE_IT + 1)
    const other = statusOf(last, 'last')
    await untilArrived(BEFORE_IT + 2)
    leaving.reset()
    t.match(await service.lines.terminalOf('left'), { status_code: 499 })
    await db.query('delete from slower')
    for (const status of await Promise.all(before)) t.equal(status, 201)
    t.equal(await other, 201)
    const text = `select from devices where alias = 'gone'`
    t.same((await db.query(text)).rows, [])
    const isIt = (line: LogLine) => line['request_id'] === 'left'
    await service.lines.waitFor((line) => isIt(line) && line.event === 'register.request')
    t.match(
      service.lines.all.filter(isIt).map(({ event, status_code }) => [event, status_code]),
      [
        ['register.fail', 499],
        ['register.request', null],
      ],
      'it was in the queue',
    )
  })

  await t.test('a database that goes away is told to all that wait', async (t) => {
    const [shared] = await issue([null], 24)
    const fleet = Promise.all(Array.from({ length: 24 }, (_, n) => register(shared, `d-${n}`)))
    await waitForRegistrations(service, (waiting) => waiting > 10)
    await databaseOutage(t, service, async () => {
      const refused = (await fleet).filter(({ status }) => status !== 201)
      t.ok(refused.length > 0)
      for (const { body } of refused) t.equal(body.code, 'db_unavailable')
    })
  })
})

t.test('tokens that wait to be looked up share a statement, and its trouble', async (t) => {
  const statements: { hashes: string[]; end(error?: Error): void }[] = []
  const active = (tokenId: string) =>
    ({ kind: 'active', tokenId, alias: null, usesAllowed: 1 }) as const
  const judgeAll = (tokenHashes: readonly Buffer[]) =>
    new Promise<EnrollmentVerdict[]>((resolve, reject) => {
      const hashes = tokenHashes.map(String)
      const end = (error?: Error) => (error ? reject(error) : resolve(hashes.map(active)))
      statements.push({ hashes, end })
    })
  let [silentMs, nowMs] = [0, 0]
  const tokens = untaggedTokens({ judgeAll, msSinceResponse: () => silentMs, nowMs: () => nowMs })
  const judge = (hash: string) => tokens.judge(Buffer.from(hash))
  const nextStatement = async () => {
    await until(() => statements.length > 0)
    const [next] = statements.splice(0, 1)
    if (next === undefined) throw new Error('no statement')
    return next
  }
  const refusal = (error: unknown) => (error instanceof AppError ? error.code : String(error))
  const silent = Object.assign(new Error('no connection'), { code: '08001' })
  const away = (cause: Error) => new AppError('db_unavailable', 'of the test', { cause })

  const first = judge('first')
  const names = Array.from({ length: 512 }, (_, n) => `t${n}`)
  const all = names.map(judge)
  t.equal(await judge('one more').catch(refusal), 'overloaded')
  t.equal(tokens.refused, 1)
  ;(await nextStatement()).end()
  t.same(await first, active('first'))
  for (let group = 0; group < 2; group++) {
    const { hashes, end } = await nextStatement()
    t.same(hashes, names.slice(group * 256, (group + 1) * 256))
    t.equal(statements.length, 0, 'one at a time')
    end()
  }
  t.same(await Promise.all(all), names.map(active), 'each its own verdict')
  t.equal(tokens.refused, 1)

  const busy = judge('busy')
  for (const refused of [new AppError('overloaded', 'of the test'), away(silent)]) {
    ;(await nextStatement()).end(refused)
  }
  ;(await nextStatement()).end()
  t.same(await busy, active('busy'), 'asked again while the database answers others')
  t.equal(tokens.refused, 1)

  const late = judge('late').catch(refusal)
  const ofLate = await nextStatement()
  const behind = judge('behind').catch(refusal)
  nowMs = 5_000
  ofLate.end(new AppError('overloaded', 'of the test'))
  t.same(await Promise.all([late, behind]), ['overloaded', 'overloaded'])
  t.equal(tokens.refused, 3)
  t.equal(statements.length, 0, 'who waited behind it has not asked')
  for (const cause of [Object.assign(new Error('locked'), { code: '55P03' }), silent]) {
    const one = judge('one').catch(refusal)
    ;(await nextStatement()).end(away(cause))
    t.equal(await one, 'db_unavailable')
    silentMs = 2_000
  }

  const begun = judge('begun')
  const ofBegun = await nextStatement()
  const kept = judge('kept').catch(refusal)
  tokens.close()
  t.equal(await kept, 'shutting_down')
  ofBegun.end()
  t.same(await begun, active('begun'))
  t.equal(tokens.refused, 3)
})

t.test('a token whose verdict is not told yet waits as well', async (t) => {
  const judgeAll = async (hashes: readonly Buffer[]) =>
    hashes.map(() => ({ kind: 'unknown' }) as const)
  const tokens = untaggedTokens({ judgeAll, msSinceResponse: () => 0, nowMs: () => 0 })
  const kindOf = (hash: Buffer) =>
    tokens.judge(hash).then(
      ({ kind }) => kind,
      () => 'refused',
    )
  const ask = (count: number) =>
    Promise.all(Array.from({ length: count }, () => kindOf(Buffer.alloc(32))))
  const first = ask(448)
  await setImmediate() // all are judged, and told two at a time
  const second = ask(512)
  t.ok(tokens.refused > 256, `${tokens.refused} of 512`)
  t.same(new Set(await first), new Set(['unknown']))
  t.same(new Set(await second), new Set(['unknown', 'refused']))
})

t.test('what keeps a registration from a connection, and what keeps all of them', async (t) => {
  const silent = Object.assign(new Error('no connection'), { code: '08001' })
  const refused = Object.assign(new Error('refused'), { code: 'ECONNREFUSED' })
  const refusals = [
    new AppError('overloaded', 'of the test'),
    new AppError('db_unavailable', 'of the test', { cause: silent }),
    new AppError('db_unavailable', 'of the test', { cause: refused }),
    new AppError('db_unavailable', 'of the test', { cause: silent }),
  ]
  let asked = 0
  let answeredMsAgo = 1_999
  const nobody = () => Promise.reject(new Error('nobody asks that'))
  const database = {
    query: nobody,
    async transaction() {
      const refusal = refusals[asked] ?? new AppError('internal', 'of the test')
      asked += 1
      await Promise.resolve()
      throw refusal
    },
  }
  const nowMs = () => performance.now()
  const queue = registrationQueue({
    database,
    maxAtOnce: 1,
    msSinceResponse: () => answeredMsAgo,
    nowMs,
  })
  const register = (of: string) =>
    queue.register(
      { ...NOTHING_KNOWN, enrollmentTokenHash: Buffer.from(of) },
      () => {},
      () => true,
    )
  await t.rejects(register('a'), { code: 'db_unavailable' })
  t.equal(asked, 3, 'tried again where a database that answers made no connection')
  answeredMsAgo = 2_000
  const all = ['a', 'a', 'b'].map(register)
  t.equal(queue.waiting, 2)
  for (const one of all) await t.rejects(one, { code: 'db_unavailable' })
  t.equal(asked, 4, 'it has answered nothing for long: nobody else asked')
  const [begun, kept] = [register('c'), register('c')]
  queue.close()
  await t.rejects(kept, { code: 'shutting_down' })
  await t.rejects(begun, { code: 'internal' })
})

const NOTHING_KNOWN: Omit<Registration, 'enrollmentTokenHash'> = {
  alias: null,
  hardwareId: null,
  pushId: null,
  appVersion: null,
  model: null,
  manufacturer: null,
  androidVersion: null,
  sdkInt: null,
  newDeviceId: '',
  deviceTokenHash: Buffer.alloc(32),
  hmacSecretId: 'default',
  requestId: 'r',
  ip: null,
}

t.test('of one key one is at work, so many of all, the others wait in their order', async (t) => {
  const { turns, run, end, begun } = turnsToEnd({
    maxConcurrent: 2,
    maxWaiting: 4,
    maxWaitingPerKey: 2,
  })
  const [a1, a2, a3] = [run('a', 'a1'), run('a', 'a2'), run('a', 'a3')]
  await t.rejects(run('a', 'a4'), { code: 'overloaded' }, 'one more than may wait of a key')
  const [b1, c1, d1] = [run('b', 'b1'), run('c', 'c1'), run('d', 'd1')]
  t.equal(turns.waiting, 4)
  const e1 = run('e', 'e1')
  await t.rejects(a3, { code: 'overloaded' }, 'one more than may wait of all: the last to start')
  await t.rejects(run('f', 'f1'), { code: 'overloaded' }, 'of each key one waits')
  await t.rejects(run('c', 'c2'), { code: 'overloaded' }, 'it would be the last itself')
  t.equal(turns.waiting, 4)
  t.same(begun, ['a1', 'b1'])
  await end('b1')
  await b1
  t.same(begun, ['a1', 'b1', 'c1'], 'who waits for another of its key keeps nobody else')
  await end('a1', new Error('of the work'))
  await t.rejects(a1, /of the work/)
  t.same(begun, ['a1', 'b1', 'c1', 'a2'])
  for (const name of ['c1', 'a2', 'd1', 'e1']) await end(name)
  await Promise.all([a2, c1, d1, e1])
  t.equal(turns.waiting, 0)
  const next = run('a', 'a5')
  await end('a5')
  await next
})

t.test('a key that comes waits for one of each other key, however many of them wait', async (t) => {
  const { run, end, begun } = turnsToEnd({ maxConcurrent: 1, maxWaiting: 16 })
  const names = ['a1', 'a2', 'a3', 'a4', 'b1', 'b2', 'c1']
  const all = names.map((name) => run(name.slice(0, 1), name))
  for (const name of ['a1', 'a2', 'b1']) await end(name)
  all.push(run('d', 'd1'))
  for (const name of ['c1', 'a3', 'b2', 'd1', 'a4']) await end(name)
  await Promise.all(all)
  t.same(begun, ['a1', 'a2', 'b1', 'c1', 'a3', 'b2', 'd1', 'a4'])
})

t.test('none waits for too long, and all can be refused', async (t) => {
  const { turns, run, end, begun } = turnsToEnd({ maxConcurrent: 1, maxWaitMs: 20 })
  const first = run('a', 'a1')
  await t.rejects(run('b', 'b1'), { code: 'overloaded' }, 'it has waited for too long')
  const others = ['a2', 'c1'].map((name) => run('c', name))
  const reason = new Error('away')
  turns.rejectAll(reason)
  for (const other of others) await t.rejects(other, reason)
  await end('a1')
  await first
  t.same(begun, ['a1'])
})

/** Turns whose work ends on request. */
function turnsToEnd(options: Partial<KeyedQueueOptions>) {
  const defaults = { maxConcurrent: 8, maxWaiting: 8, maxWaitingPerKey: 8, maxWaitMs: 60_000 }
  const nowMs = () => performance.now()
  const refusal = () => new AppError('overloaded', 'Too many tasks.')
  const turns = createKeyedQueue({ refusal, nowMs, ...defaults, ...options })
  const begun: string[] = []
  const ends = new Map<string, (error?: Error) => void>()
  const run = (key: string, name: string) =>
    turns.run(key, () => {
      begun.push(name)
      return new Promise<void>((resolve, reject) => {
        ends.set(name, (error) => (error === undefined ? resolve() : reject(error)))
      })
    })
  const end = async (name: string, error?: Error) => {
    await until(() => ends.has(name))
    ends.get(name)?.(error)
  }
  return { turns, run, end, begun }
}
