/**
 * What must not cost a phone its credentials, or a depot its phones: lost answers, a database that was restored or
 * stopped, dead phones that never give up. Five 401s wipe a phone, so none of them may meet one that is not its own.
 */

import { createHash } from 'node:crypto'
import t, { type Test } from 'tap'
import { makeApk } from '../../sim/apk.ts'
import { issueEnrollmentTokens } from '../../sim/enroll.ts'
import { createFleet } from '../../sim/fleet.ts'
import { startEmbedded } from '../../src/dev/embedded-postgres.ts'
import { createSend, type Send } from '../../testkit/http/client.ts'
import { until } from '../../testkit/until.ts'
import { keptAlive } from '../heartbeats/kept-alive.ts'
import type { TestResponse } from '../helpers/client.ts'
import { connect, createDatabase } from '../helpers/database.ts'
import { databaseDirectory } from '../helpers/directory.ts'
import { head, openRaw } from '../helpers/raw.ts'
import { ADMIN, type Running, startService } from '../helpers/service.ts'

const LATEST = '/v1/apk/download-latest'
const names = (prefix: string, count: number) =>
  Array.from({ length: count }, (_, index) => `${prefix}-${index}`)

async function issue(service: Running, alias: string, options = {}) {
  const made = await service.call('POST', '/v1/enroll-tokens', {
    body: { aliases: [alias], ...options },
  })
  return { id: made.body.tokens[0].token_id as string, token: made.body.tokens[0].token as string }
}

const register = (service: Running, token: string, body: unknown = { hardware_id: 'H0' }) =>
  service.call('POST', '/v1/register', { token, body })
/** One after the other: enrolling is not what is tried here. */
async function enrollAll(service: Running, aliases: readonly string[]) {
  const tokens = await issueEnrollmentTokens(createSend(service.origin), ADMIN, aliases)
  const phones: { readonly token: string; readonly deviceId: string }[] = []
  for (const token of tokens.values()) {
    const { body } = await register(service, token)
    phones.push({ token: body.device_token, deviceId: body.device_id })
  }
  return phones
}
const beat = (service: Running, token: string) =>
  service.call('POST', '/v1/heartbeat', { token, body: {} })

function countBy(responses: readonly TestResponse[]): Readonly<Record<string, number>> {
  const counts: Record<string, number> = {}
  for (const { status, body } of responses) {
    const key = status < 400 ? String(status) : `${status} ${body.code}`
    counts[key] = (counts[key] ?? 0) + 1
  }
  return counts
}

/** It registers and its connection is cut with the answer unread. Resolves when the service has done its part. */
async function registerInVain(t: Test, service: Running, token: string, requestId: string) {
  const connection = await openRaw(t, service.origin)
  connection.pause()
  const lines = [`Authorization: Bearer ${token}`, `X-Request-ID: ${requestId}`]
  const body = '{"hardware_id":"H1"}'
  connection.write(
    `${head('POST /v1/register HTTP/1.1', ...lines, `Content-Length: ${body.length}`)}${body}`,
  )
  await service.lines.waitFor(
    (line) => line.event === 'sec.token.consume' && line['request_id'] === requestId,
  )
  connection.destroy()
}

t.test('the answer to a registration is lost, also to one that enrolls again', async (t) => {
  const service = await startService(t)
  const db = await connect(t, service.databaseUrl)
  const tokensOf = async (deviceId: string) => {
    const text = `select encode(token_hash, 'hex') as hash, dead_at is null as is_alive
      from device_tokens join devices using (device_id, enrollment_no) where device_id = $1`
    return (await db.query<{ hash: string; is_alive: boolean }>(text, [deviceId])).rows
  }
  const again = await service.enroll('lost-2')
  t.equal((await beat(service, again.token)).status, 200)

  for (const [alias, known, created] of [
    ['lost-1', undefined, 201],
    ['lost-2', again, 200],
  ] as const) {
    const { id, token } = await issue(service, alias)
    await registerInVain(t, service, token, `vain-${alias}`)
    if (known) t.equal((await beat(service, known.token)).status, 401, 'replaced, answered or not')
    const retries: string[] = []
    for (const _ of ['the retry', 'lost once more']) {
      const { status, body } = await register(service, token, { hardware_id: 'H1' })
      t.match({ status, alias: body.alias }, { status: 200, alias })
      retries.push(body.device_token)
    }
    const { rows } = await db.query(
      'select device_id, enrollment_no from devices where alias = $1',
      [alias],
    )
    t.match(rows, [{ enrollment_no: known ? 2 : 1, ...(known && { device_id: known.deviceId }) }])
    t.equal(rows.length, 1, 'one device')
    const used = 'select uses_consumed from enrollment_tokens where token_id = $1'
    t.same((await db.query(used, [id])).rows, [{ uses_consumed: 1 }], 'of one use')
    const deviceId: string = rows[0].device_id
    t.match(await tokensOf(deviceId), [{ is_alive: true }, { is_alive: true }, { is_alive: true }])

    const [second = '', third = ''] = retries
    t.equal((await beat(service, second)).status, 200, 'whichever comes first stays')
    t.match(await beat(service, third), { status: 401, body: { code: 'token_superseded' } })
    t.equal((await beat(service, second)).status, 200)
    const alive = (await tokensOf(deviceId)).filter((row) => row.is_alive)
    const hash = createHash('sha256').update(second).digest('hex')
    t.same(alive, [{ hash, is_alive: true }], 'the one that nobody read is dead, too')
    t.equal(created === 201, known === undefined)
  }
})

t.test('a token is revoked, a new one brings the same device back', async (t) => {
  const service = await startService(t)
  const apk = { raw: makeApk() }
  t.equal((await service.call('PUT', '/admin/apk/builds/b1?version_code=1', apk)).status, 201)
  const old = await issue(service, 'revoked-1', { uses_allowed: 2 })
  const first = await register(service, old.token)
  t.equal(first.status, 201)
  const fetch = (token: string) => service.call('GET', LATEST, { token })
  t.equal((await fetch(old.token)).status, 200)
  t.equal((await service.call('DELETE', `/v1/enroll-tokens/${old.id}`)).status, 204)
  t.match(await fetch(old.token), { status: 401, body: { code: 'token_revoked' } })
  t.match(await register(service, old.token), { status: 401, body: { code: 'token_revoked' } })
  t.equal((await beat(service, first.body.device_token)).status, 200, 'the phone itself goes on')
  const { token } = await issue(service, 'revoked-1')
  t.equal((await fetch(token)).status, 200)
  const second = await register(service, token)
  t.match(second, { status: 200, body: { device_id: first.body.device_id } })
  t.equal((await register(service, token)).status, 200, 'its answer is lost')
  t.equal((await beat(service, second.body.device_token)).status, 200)
  const { audit } = (await service.call('GET', '/admin/audit')).body
  t.same(
    audit.map(({ what, admin }: { what: string; admin: string | null }) => [what, admin]),
    [
      ['device.reissued', null],
      ['device.re_enrolled', null],
      ['enrollment_token.create', 'tester'],
      ['enrollment_token.revoke', 'tester'],
      ['device.created', null],
      ['enrollment_token.create', 'tester'],
      ['apk.publish', 'tester'],
    ],
    'each step is audited',
  )
})

t.test('a database restored to before 50 enrollments tells none of them 401', async (t) => {
  const before = await startService(t)
  const kept = await before.enroll('kept')
  t.equal(await before.stop(), 0)
  const backup = await createDatabase(t, before.databaseUrl)
  const service = await startService(t, { databaseUrl: before.databaseUrl })
  const phones = await enrollAll(service, names('later', 50))
  const beats = await Promise.all(phones.map(({ token }) => beat(service, token)))
  t.same(countBy(beats), { '200': 50 })
  t.equal(await service.stop(), 0)

  const restored = await startService(t, { databaseUrl: backup })
  const ack = ({ token, deviceId }: (typeof phones)[number]) =>
    restored.call('POST', `/v1/devices/${deviceId}/ack`, {
      token,
      body: { request_id: 'c1', status: 'OK' },
    })
  const asks = [
    ...Array.from({ length: 5 }, () => (one: { token: string }) => beat(restored, one.token)),
    ack,
  ]
  for (const ask of asks) {
    const responses = await Promise.all(phones.map(ask))
    t.same(countBy(responses), { '503 not_provisioned': 50 })
    t.ok(responses.every(({ headers }) => /^[1-9]\d*$/.test(headers.get('retry-after') ?? '')))
  }
  t.equal((await beat(restored, kept.token)).status, 200)
  t.equal((await beat(restored, (await restored.enroll('later-0')).token)).status, 200)
})

t.test('dead phones behind one address take nothing from the good ones', async (t) => {
  const service = await startService(t)
  const good = await enrollAll(service, names('good', 100))
  const replaced = await enrollAll(service, names('dead', 10))
  await enrollAll(service, names('dead', 10))
  const dead = [
    ...replaced.map(({ token }) => token),
    ...names('x', 10).map((name) => `dt_${name.padEnd(43, 'x')}`),
  ]
  const answered: TestResponse[] = []
  let isOver = false
  const hammering = dead.map(async (token) => {
    while (!isOver) answered.push(await beat(service, token))
  })
  await until(() => answered.length > 200)
  for (let round = 0; round < 3; round += 1) {
    const beats = await Promise.all(good.map(({ token }) => beat(service, token)))
    t.same(countBy(beats), { '200': 100 }, `round ${round}`)
  }
  isOver = true
  await Promise.all(hammering)
  const counts = countBy(answered)
  t.same(Object.keys(counts).sort(), ['401 token_superseded', '401 token_unknown'])
  t.comment(`${answered.length} refusals beside 300 heartbeats: ${JSON.stringify(counts)}`)
})

t.test('PostgreSQL stops while 40 phones drain 250 heartbeats each: none is wiped', async (t) => {
  const dataDir = databaseDirectory(t)
  const open = () => startEmbedded({ dataDir, log: () => {} })
  let postgres = await open()
  t.teardown(() => postgres.stop())
  const service = await startService(t, { databaseUrl: postgres.url })
  const sendNow = keptAlive(t, service.origin)
  const statuses: Record<number, number> = {}
  const world = { nowMs: Date.now(), isOnline: true, isStopped: Promise.resolve() }
  const send: Send = async (request) => {
    if (!world.isOnline) throw new Error('ENETUNREACH')
    if ((statuses[200] ?? 0) > 5_000) await world.isStopped // however slow its stop is, half is left
    const response = await sendNow(request)
    statuses[response.status] = (statuses[response.status] ?? 0) + 1
    return response
  }
  const fleet = createFleet({
    aliases: names('drain', 40),
    send,
    nowMs: () => world.nowMs,
    random: () => 0.5,
  })
  await fleet.enroll(await issueEnrollmentTokens(send, ADMIN, names('drain', 40)))
  world.isOnline = false
  for (let made = 0; made < 250; made += 1) {
    await fleet.beat()
    world.nowMs += 7 // less in all than the first retry waits
  }
  t.equal(fleet.report().queued, 10_000)

  world.isOnline = true
  world.nowMs += 600_000
  let stopped = () => {}
  world.isStopped = new Promise((resolve) => {
    stopped = resolve
  })
  const draining = Promise.all(fleet.devices.map((device) => device.drain()))
  await until(() => (statuses[200] ?? 0) > 1_000)
  await postgres.stop()
  stopped()
  await draining
  t.same(Object.keys(statuses), ['200', '201', '503'])
  t.ok((statuses[503] ?? 0) > 4_000, `${statuses[503]} refusals`)

  postgres = await open()
  await until(async () => (await service.call('GET', '/readyz')).status === 200)
  const some = fleet.devices.slice(0, 10)
  for (let turn = 0; turn < 10 && some.some(({ queue }) => queue.length > 0); turn += 1) {
    world.nowMs += 600_000 // a heartbeat that a busy machine made too slow is retried
    await Promise.all(some.map((device) => device.drain()))
  }
  const { queued, counts, ...rest } = fleet.report()
  t.match(rest, { enrolled: 40, lost: 0 })
  t.same(counts.wiped, 0)
  t.same(Object.keys(statuses), ['200', '201', '503'], 'no 401 at all')
  t.equal(counts.heartbeatsAccepted + queued, 10_000)
  t.ok(
    some.every(({ queue }) => queue.length === 0),
    'and they go on',
  )
  t.comment(`answers: ${JSON.stringify(statuses)}`)
})
