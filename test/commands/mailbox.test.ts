/** The mailbox alone, with push off: open commands ride in a heartbeat's answer until they are answered. */
import t from 'tap'
import { verifyCommandData } from '../../sim/device/verify-command.ts'
import { untilMidnightIsFar } from '../../testkit/until.ts'
import { connect } from '../helpers/database.ts'
import { type Enrolled, startService } from '../helpers/service.ts'

await untilMidnightIsFar()
const service = await startService(t, { env: { HEARTBEAT_DEDUP_WINDOW_S: '86400' } })
const db = await connect(t, service.databaseUrl)

type Message = Readonly<Record<string, string>>

async function command(device: Enrolled, request_id: string, body: object = {}): Promise<string> {
  const response = await service.call('POST', '/admin/command', {
    body: { device_id: device.deviceId, action: 'ring', request_id, ...body },
  })
  t.match(response, {
    status: 202,
    body: { status: 'queued', push: { state: /^off$/, attempts: 0 } },
  })
  return request_id
}

async function collect({ token }: Enrolled): Promise<readonly Message[]> {
  const response = await service.call('POST', '/v1/heartbeat', { token, body: {} })
  t.equal(response.status, 200)
  return response.body.commands
}

const idsOf = (messages: readonly Message[]) => messages.map((one) => one['request_id'])

const read = async (id: string) => (await service.call('GET', `/admin/commands/${id}`)).body

/** As if the last hand-over to the device had been so long ago. */
const handedOver = (device: Enrolled, seconds: number) =>
  db.query(
    `update commands set delivered_at = delivered_at - make_interval(secs => $2)
     where device_id = $1`,
    [device.deviceId, seconds],
  )

t.test('a command is handed over as FCM would have carried it', async (t) => {
  const device = await service.enroll('M1')
  const id = await command(device, 'm1', { params: { tone: 'loud', a: '' } })
  t.match(await read(id), { status: 'queued', verdict: { code: 'device_never_seen' } })
  const [message = {}, ...more] = await collect(device)
  t.same(more, [])
  t.same(Object.keys(message).sort(), [
    'a',
    'action',
    'attempt',
    'device_id',
    'expires_at',
    'hmac',
    'hmac2',
    'request_id',
    'tone',
    'ts',
  ])
  t.match(message, {
    action: 'ring',
    request_id: id,
    device_id: device.deviceId,
    attempt: '1',
    tone: 'loud',
    a: '',
    ts: /^\d{4}-.*Z$/,
    expires_at: (await read(id)).expires_at.replace(/\d{3}Z$/, 'Z'), // milliseconds, as pushed
  })
  t.same(verifyCommandData(message, device.hmacKey), { hmac: true, hmac2: true })
})

t.test('it is handed over again after 30 s, with a higher attempt', async (t) => {
  const device = await service.enroll('M2')
  const id = await command(device, 'm2')
  const [first] = await collect(device)
  t.same(await collect(device), [], 'not at once')
  await handedOver(device, 25)
  t.same(await collect(device), [], 'not yet')
  await handedOver(device, 5)
  const [second = {}] = await collect(device)
  t.match(second, { request_id: id, attempt: '2' })
  t.not(second['hmac2'], first?.['hmac2'], 'signed anew')
  t.same(verifyCommandData(second, device.hmacKey), { hmac: true, hmac2: true })

  const story = await read(id)
  t.match(story, {
    status: 'delivered',
    attempt: 2,
    deliveries: 2,
    push: { state: /^off$/, attempts: 0 },
    verdict: { code: 'delivered_waiting_for_result' },
  })
  t.match(story.timeline, [
    { stage: 'accepted' },
    { stage: 'delivered', detail: { attempt: 1 }, instance: String },
  ])
  t.equal(story.timeline.length, 2, 'one delivered step')
})

t.test('the oldest come first, at most twenty at once', async (t) => {
  const device = await service.enroll('M3')
  const ids: string[] = []
  while (ids.length < 23) ids.push(await command(device, `m3-${99 - ids.length}`))
  t.same(idsOf(await collect(device)), ids.slice(0, 20))
  t.same(idsOf(await collect(device)), ids.slice(20))
  t.same(await collect(device), [])
  await handedOver(device, 30)
  t.same(idsOf(await collect(device)), ids.slice(0, 20))
})

t.test('only what is open, in time and the device’s own is handed over', async (t) => {
  const device = await service.enroll('M4')
  const other = await service.enroll('M5')
  const expired = await command(device, 'm4-expired')
  const cancelled = await command(device, 'm4-cancelled')
  const answered = await command(device, 'm4-answered')
  const open = await command(device, 'm4-open')
  await command(other, 'm5')
  await db.query('update commands set expires_at = now() where request_id = $1', [expired])
  await service.call('DELETE', `/admin/commands/${cancelled}`)
  const result = { request_id: answered, outcome: 'success' }
  await service.call('POST', '/v1/action-result', { token: device.token, body: result })
  t.same(idsOf(await collect(device)), [open])
})

t.test('a deduped heartbeat gets its commands too', async (t) => {
  const device = await service.enroll('M6')
  const { token } = device
  await collect(device)
  const id = await command(device, 'm6')
  const response = await service.call('POST', '/v1/heartbeat', { token, body: {} })
  t.match(response.body, { deduped: true, commands: [{ request_id: id }] })
})

t.test('with push off the loop closes all the same', async (t) => {
  const device = await service.enroll('M7')
  const id = await command(device, 'm7')
  const [message = {}] = await collect(device)
  const body = { request_id: message['request_id'], action: 'ring', outcome: 'success' }
  const result = await service.call('POST', '/v1/action-result', { token: device.token, body })
  t.match(result, { status: 200, body: { duplicate: false } })
  const story = await read(id)
  t.match(story, { status: 'completed', verdict: { code: 'completed' } })
  const stages = story.timeline.map(({ stage }: { stage: string }) => stage)
  t.same(stages, ['accepted', 'delivered', 'result'])
  t.same(await collect(device), [])
  t.match(service.lines.of('service.start')[0]?.['config'], { push: 'off' })
})

t.test('a re-enrolled device gets its open commands signed with its new key', async (t) => {
  const device = await service.enroll('M8')
  const id = await command(device, 'm8')
  const again = await service.enroll('M8')
  t.equal(again.deviceId, device.deviceId)
  const [message = {}] = await collect(again)
  t.equal(message['request_id'], id)
  t.same(verifyCommandData(message, again.hmacKey), { hmac: true, hmac2: true })
  t.same(verifyCommandData(message, device.hmacKey), { hmac: false, hmac2: false })
})

t.test('with push off a new push token makes nothing due', async (t) => {
  const device = await service.enroll('M9')
  const { token } = device
  const id = await command(device, 'm9')
  const body = { fcm_token: 'push-9' }
  t.equal((await service.call('POST', '/v1/devices/fcm-token', { token, body })).status, 200)
  t.match(await read(id), { status: 'queued', push: { state: /^off$/ } })
  const sql = 'select next_attempt_at from commands where request_id = $1'
  t.same((await db.query(sql, [id])).rows, [{ next_attempt_at: null }])
})
