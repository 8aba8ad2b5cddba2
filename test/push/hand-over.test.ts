/** The doorbell and the mailbox at once: what happens to a command while its message is with FCM. */
import t, { type Test } from 'tap'
import { verifyCommandData } from '../../sim/device/verify-command.ts'
import { fidOf } from '../../sim/fcm/apps.ts'
import { WIRE_NAMES } from '../../src/domain/delivery/push-id.ts'
import { until } from '../../testkit/until.ts'
import { startReplicas } from '../helpers/replicas.ts'
import type { Enrolled } from '../helpers/service.ts'
import { slowReplica as startSlowReplica } from './slow-replica.ts'

const replicas = await startReplicas(t)
const { fcm, service, db, replica, enroll, command, row, isPush } = replicas
const slowReplica = (t: Test) => startSlowReplica(t, replicas)

const read = async (id: string) => (await service.call('GET', `/admin/commands/${id}`)).body

const beat = async ({ token }: Enrolled, body: object = {}) =>
  (await service.call('POST', '/v1/heartbeat', { token, body })).body.commands

async function pushTokenOf({ deviceId }: Enrolled) {
  const text = 'select fcm_token, fcm_token_died_at from devices where device_id = $1'
  return (await db.query(text, [deviceId])).rows[0]
}

const pushed = async (id: string, attempt: string) =>
  (await fcm.waitForSend(({ data }) => data['request_id'] === id && data['attempt'] === attempt))
    .data

t.test('a hand-over between claim and record: both are recorded', async (t) => {
  const device = await enroll()
  const id = await command(device.deviceId)
  const { push, letRecord } = slowReplica(t)
  t.match(await push(id), { kind: 'sent', fcmHttpCode: 200 })
  t.equal((await read(id)).status, 'queued')

  const [message, ...more] = await beat(device)
  t.same(more, [])
  t.match(message, { request_id: id, attempt: '2' }, 'the second message has the higher attempt')
  t.match(await read(id), { status: 'delivered', push: { state: 'sending' } })
  letRecord()
  await until(isPush(id, 'sent'))
  const story = await read(id)
  t.match(story, { status: 'delivered', attempt: 2, deliveries: 1, push: { attempts: 1 } })
  t.match(story.timeline, [
    { stage: 'accepted' },
    { stage: 'delivered', detail: { attempt: 2 } },
    { stage: 'push_sent', detail: { attempt: 1 } },
  ])

  for (const data of [await pushed(id, '1'), message]) {
    t.same(verifyCommandData(data, device.hmacKey), { hmac: true, hmac2: true })
    const alterations = [
      { expires_at: '2099-01-01T00:00:00.000Z' },
      { attempt: '9' },
      { app: 'io.example.other' },
    ]
    for (const altered of alterations) {
      const verified = verifyCommandData({ ...data, ...altered }, device.hmacKey)
      t.same(verified, { hmac: true, hmac2: false }, JSON.stringify(altered))
    }
  }
})

t.test('a push that fails after the hand-over takes nothing back', async (t) => {
  const device = await enroll()
  const id = await command(device.deviceId)
  fcm.nextAnswers(['unavailable'])
  const { push, letRecord, dispatcher } = slowReplica(t)
  t.match(await push(id), { kind: 'retry', fcmHttpCode: 503 })
  t.match(await beat(device), [{ request_id: id, attempt: '2' }])
  letRecord()
  await until(async () => {
    dispatcher.wake()
    return (await row(id)).push_state === 'sent'
  })
  t.match(await pushed(id, '3'), { request_id: id }, 'and the next one is higher again')
  t.match(await read(id), {
    status: 'delivered',
    timeline: [
      { stage: 'accepted' },
      { stage: 'delivered' },
      { stage: 'push_failed', code: 'UNAVAILABLE', detail: { attempt: 1 } },
      { stage: 'push_sent', detail: { attempt: 3 } },
    ],
  })
})

t.test('a result before FCM’s 200: completed, and it stays so', async (t) => {
  const device = await enroll()
  const id = await command(device.deviceId)
  const { push, letRecord } = slowReplica(t)
  t.match(await push(id), { kind: 'sent' })
  const stranger = await enroll()
  const report = ({ token }: Enrolled, outcome: string) =>
    service.call('POST', '/v1/action-result', { token, body: { request_id: id, outcome } })
  const before = await row(id)
  t.match(await report(stranger, 'failure'), { status: 404, body: { code: 'command_unknown' } })
  t.same(await row(id), before, 'another device’s answer changes nothing')

  t.match(await report(device, 'success'), { status: 200, body: { duplicate: false } })
  t.match(await read(id), { status: 'completed', verdict: { code: 'completed' } })
  letRecord()
  await until(isPush(id, 'sent'))
  const story = await read(id)
  t.match(story, { status: 'completed', verdict: { code: 'completed' } })
  const stages = story.timeline.map(({ stage }: { stage: string }) => stage)
  t.same(stages, ['accepted', 'result', 'push_sent'])
  t.match(await row(id), { state: 'completed', next_attempt_at: null, lease_id: null })
})

t.test('a dead push token in every heartbeat stays dead; a newer one takes over', async (t) => {
  const device = await enroll()
  const { fcm_token } = await pushTokenOf(device)
  fcm.unregister(fcm_token)
  const id = await command(device.deviceId)
  const { dispatcher } = replica(t)
  dispatcher.wake()
  await until(isPush(id, 'gave_up'))
  const { fcm_token_died_at: diedAt } = await pushTokenOf(device)
  t.ok(diedAt)
  for (let count = 0; count < 5; count += 1) {
    await beat(device, { fcm_token })
    t.same(await pushTokenOf(device), { fcm_token, fcm_token_died_at: diedAt })
    t.match(await row(id), { push_state: 'gave_up', is_due: null })
  }
  fcm.register('newer', () => {})
  await beat(device, { fcm_token: 'newer' })
  t.same(await pushTokenOf(device), { fcm_token: 'newer', fcm_token_died_at: null })
  dispatcher.wake()
  await until(isPush(id, 'sent'))
  const send = await fcm.waitForSend(({ pushToken }) => pushToken === 'newer')
  t.equal(send.data['request_id'], id)
})

async function pushIdOf({ deviceId }: Enrolled) {
  const text = `
    select fcm_token, fid, fcm_token_died_at is not null as is_dead, fcm_token_due_at is not null as has_changed
    from devices where device_id = $1`
  return (await db.query(text, [deviceId])).rows[0]
}

const FID = fidOf('hand-over')

t.test('a FID is taken wherever a token is, and one replaces the other', async (t) => {
  const post = async ({ token }: Enrolled, path: string, body: object) => {
    const response = await service.call('POST', path, { token, body })
    return [response.status, response.body.ignored ?? response.body.errors?.[0].field]
  }
  const both = { hardware_id: 'R4S-kinds', fid: FID, fcm_token: 'beside' }
  const device = await service.enroll('kinds', both)
  const repeated = { ...device, token: device.enrollmentToken }
  t.same(await post(repeated, '/v1/register', both), [200, ['fcm_token']])
  const isFid = { fcm_token: null, fid: FID, is_dead: false }
  t.match(await pushIdOf(device), isFid)
  for (const path of ['/v1/devices/fcm-token', '/v1/devices/push-id']) {
    t.same(await post(device, path, { fcm_token: `of ${path}` }), [200, []])
    t.match(await pushIdOf(device), { fcm_token: `of ${path}`, fid: null })
    t.same(await post(device, path, { fid: FID, fcm_token: 'beside' }), [200, ['fcm_token']])
    t.match(await pushIdOf(device), isFid)
    for (const fid of ['a b', 'ü', 'x'.repeat(256), 5]) {
      t.same(await post(device, path, { fid }), [422, 'fid'], `${fid}`)
    }
    for (const body of [{}, { fid: '', fcm_token: '' }, { fid: null }]) {
      t.same(await post(device, path, body), [422, 'fcm_token'])
    }
    t.same(await post(device, path, { fid: '', fcm_token: 'token-1' }), [200, []])
  }
  const nested = { system: {}, battery: {}, network: {}, memory: {} }
  for (const shape of [{}, nested]) {
    const heart = (body: object) => post(device, '/v1/heartbeat', { ...shape, ...body })
    t.same(await heart({ fcm_token: 'token-1' }), [200, []])
    t.match(await pushIdOf(device), { fcm_token: 'token-1', fid: null })
    t.same(await heart({ fid: FID, fcm_token: 'token-1' }), [200, ['fcm_token']])
    t.match(await pushIdOf(device), isFid)
    t.same(await heart({ fid: 'a b', fcm_token: 'token-2' }), [200, ['fid']])
    t.match(await pushIdOf(device), { fcm_token: 'token-2', fid: null })
    const before = new Date(Date.now() - 3_600_000).toISOString()
    t.same(await heart({ fid: 'older', ts: before }), [200, ['fid']])
    t.match(await pushIdOf(device), { fcm_token: 'token-2', fid: null })
  }
  t.match(await pushIdOf(await service.enroll('kinds', { fid: FID })), isFid)
  t.match((await service.call('GET', `/admin/devices/${device.deviceId}`)).body, {
    push_token: 'live',
    push_kind: 'fid',
  })
  const longest = await service.enroll('longest', { fid: 'x'.repeat(255) })
  t.match(await pushIdOf(longest), { fid: 'x'.repeat(255) })
})

for (const [from, to] of [
  ['token', 'fid'],
  ['fid', 'token'],
  ['token', 'token'],
] as const) {
  t.test(`UNREGISTERED of a ${from} that a ${to} has replaced kills nothing`, async (t) => {
    const app = fcm.install(`${from}-${to}`, () => {})
    const first = from === 'token' ? app.newToken() : app.registerFid()
    const device = await service.enroll(`${from}-${to}`, { [WIRE_NAMES[from]]: first.value })
    await beat(device)
    const second = to === 'token' ? app.newToken() : app.registerFid()
    const id = await command(device.deviceId)
    const { push, letRecord, eventsOf } = slowReplica(t)
    t.match(await push(id), { kind: 'token_dead', fcmStatus: 'UNREGISTERED', pushKind: from })
    const path = from === to ? '/v1/heartbeat' : '/v1/devices/push-id'
    const body = { [WIRE_NAMES[to]]: second.value }
    await service.call('POST', path, { token: device.token, body })
    letRecord()
    await until(isPush(id, 'sent'))
    t.match(await pushIdOf(device), { [WIRE_NAMES[to]]: second.value, is_dead: false })
    t.same(eventsOf('push.token_dead'), [])
    const { timeline } = await read(id)
    const attempts = timeline.flatMap(
      ({ detail }: { detail: { push_kind?: string } }) => detail.push_kind ?? [],
    )
    t.same(attempts, [from, to], 'the timeline names the kind of each attempt')
  })
}

t.test('UNREGISTERED of a FID that came back meanwhile kills nothing', async (t) => {
  const ways = {
    'through a token': [{ fcm_token: 'between' }, { fid: FID }],
    'registered again': [{ fid: FID }],
  }
  for (const [way, reports] of Object.entries(ways)) {
    const device = await service.enroll(`back ${way}`.replaceAll(' ', '-'), { fid: FID })
    await beat(device)
    const id = await command(device.deviceId)
    const { push, letRecord, eventsOf } = slowReplica(t)
    t.match(await push(id), { kind: 'token_dead', fcmStatus: 'UNREGISTERED' })
    fcm.register(FID, () => {}, 'fid')
    for (const body of reports) {
      const path = '/v1/devices/push-id'
      t.match(await service.call('POST', path, { token: device.token, body }), { status: 200 })
    }
    letRecord()
    await until(isPush(id, 'backoff'))
    const { at, detail } = (await read(id)).timeline.at(-1)
    t.equal(Date.parse(detail.retry_at) - Date.parse(at), 60_000)
    t.match(await pushIdOf(device), { fcm_token: null, fid: FID, is_dead: false }, way)
    t.same(eventsOf('push.token_dead'), [])
    fcm.unregister(FID, 'fid')
  }
})

t.test('the same text as the other kind is another identity', async (t) => {
  const device = await service.enroll('same-text', { fcm_token: 'same-text' })
  const id = await command(device.deviceId)
  const { dispatcher } = replica(t)
  dispatcher.wake()
  await until(isPush(id, 'gave_up'))
  t.match(await pushIdOf(device), { fcm_token: 'same-text', is_dead: true })
  fcm.register('same-text', () => {}, 'fid')
  await beat(device, { fid: 'same-text' })
  t.match(await pushIdOf(device), { fcm_token: null, fid: 'same-text', is_dead: false })
  dispatcher.wake()
  await until(isPush(id, 'sent'))
})

t.test('a FID under the name of a token is pushed to, and the verdict says so', async (t) => {
  const fid = fidOf('misnamed')
  fcm.register(fid, () => {}, 'fid')
  const device = await service.enroll('misnamed', { fcm_token: fid })
  await beat(device)
  const id = await command(device.deviceId)
  const { dispatcher } = replica(t)
  dispatcher.wake()
  await until(isPush(id, 'sent'))
  t.match(await pushIdOf(device), { fcm_token: fid, fid: null, is_dead: false })
  const { timeline, verdict } = await read(id)
  t.match(timeline.at(-1), { stage: 'push_sent', detail: { push_kind: 'fid' } })
  t.equal(verdict.code, 'pushed_waiting_for_device')
  t.match(verdict.detail, 'The agent sends a FID as fcm_token')
})

t.test('the previous release loses no FID, and what it writes counts', async (t) => {
  const device = await service.enroll('previous', { fid: FID })
  // Its statement for a dead token, as of sql/0023.
  await db.query(
    `update devices set fcm_token_died_at = now()
     where device_id = $1 and fcm_token = $2 and fcm_token_died_at is null`,
    [device.deviceId, 'former'],
  )
  t.match(await pushIdOf(device), { fid: FID, is_dead: false })
  // Its statement for another token: it knows no fid.
  await db.query(
    'update devices set fcm_token = $2, fcm_token_died_at = null where device_id = $1',
    [device.deviceId, 'by-previous'],
  )
  fcm.register('by-previous', () => {})
  const id = await command(device.deviceId)
  const { dispatcher } = replica(t)
  dispatcher.wake()
  await until(isPush(id, 'sent'))
  t.match(await fcm.waitForSend(({ data }) => data['request_id'] === id), {
    pushKind: 'token',
    pushToken: 'by-previous',
  })
  await beat(device, { fid: FID })
  t.match(await pushIdOf(device), { fcm_token: null, fid: FID })
})
