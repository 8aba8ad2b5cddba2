/** Push tokens by heartbeat, registration and their own route: which one stays, and when it is pushed to. */
import t from 'tap'
import type { Enrolled } from '../helpers/service.ts'
import { beat, command, db, fcm, give, inMinutes, replica, row, service } from './beats.ts'

t.test('a heartbeat brings a push token unless it is older', async (t) => {
  const device = await service.enroll('push-age')
  const cases: [minutes: number, fcmToken: string | undefined, kept: string][] = [
    [-5, 'age-1', 'age-1'],
    [-10, 'age-0', 'age-1'],
    [-1, undefined, 'age-1'],
    [-3, 'age-2', 'age-1'], // newer than the token, older than the last status
    [-1, 'age-3', 'age-3'],
    [5, 'age-4', 'age-4'], // no usable time: received last
  ]
  for (const [minutes, fcm_token, kept] of cases) {
    await beat(device, { ts: inMinutes(minutes), fcm_token })
    t.match(await row('devices', device), { fcm_token: kept }, `${minutes} ${fcm_token}`)
  }
})

t.test('a push token that was not taken is named, and one that stays is not', async (t) => {
  const device = await service.enroll('push-named', { fcm_token: 'named-0' })
  const cases: [minutes: number, fcmToken: string | undefined, ignored: string[]][] = [
    [-5, 'named-1', []],
    [-10, 'named-0', ['fcm_token']],
    [-10, 'named-1', []],
    [-10, undefined, []],
    [-4, 'named-2', []],
  ]
  for (const [minutes, fcm_token, ignored] of cases) {
    const response = await beat(device, { ts: inMinutes(minutes), fcm_token }, `named${minutes}`)
    t.same(response.body.ignored, ignored, `${minutes} ${fcm_token}`)
  }
  t.match(await service.lines.terminalOf('named-4'), { ignored: null })
})

t.test('an older heartbeat may bring another push token for a dead one', async (t) => {
  const device = await service.enroll('dead-older')
  await beat(device, { ts: inMinutes(-1), fcm_token: 'dead-older-1' })
  const id = await command(device, 'dead-older-cmd')
  t.ok((await row('devices', device)).fcm_token_died_at)
  fcm.register('dead-older-2', () => {})
  const response = await beat(device, {
    ts: inMinutes(-60),
    battery_pct: 7,
    fcm_token: 'dead-older-2',
  })
  t.same(response.body.ignored, [])
  const sent = await fcm.waitForSend(({ pushToken }) => pushToken === 'dead-older-2')
  t.match(sent.data, { request_id: id })
  t.match(await row('device_status', device), { battery_pct: null }, 'it is older all the same')
  await beat(device, { ts: inMinutes(-30), fcm_token: 'dead-older-3' })
  t.match(await row('devices', device), { fcm_token: 'dead-older-2' })
})

t.test('in one group too the newest heartbeat decides the push token', async (t) => {
  const devices: Enrolled[] = []
  while (devices.length < 10) devices.push(await service.enroll(`pair${devices.length}`))
  await Promise.all(devices.map((device) => beat(device, { ts: inMinutes(-9), fcm_token: 'old' })))
  const sent = devices.flatMap((device) => [
    beat(device, { ts: inMinutes(-1), fcm_token: 'now' }),
    beat(device, { ts: inMinutes(-3), fcm_token: 'before' }),
  ])
  await Promise.all(sent)
  for (const device of devices) t.match(await row('devices', device), { fcm_token: 'now' })
})

t.test('a dead push token is remembered, and another one takes over', async (t) => {
  const device = await service.enroll('dead-token', { fcm_token: 'dead-1' })
  const id = await command(device, 'dead-token-cmd')
  const read = async () => (await service.call('GET', `/admin/commands/${id}`)).body
  t.match(await read(), { status: 'push_failed', push: { state: 'gave_up', attempts: 1 } })
  t.ok((await row('devices', device)).fcm_token_died_at)

  const same = await beat(device, { fcm_token: 'dead-1' })
  t.match(same.body.commands, [{ request_id: id, attempt: '2' }])
  t.match(await row('devices', device), { fcm_token: 'dead-1', fcm_token_died_at: Date })
  t.equal((await read()).push.state, 'gave_up', 'nothing is pushed to it')

  fcm.register('dead-2', () => {})
  t.match(await beat(device, { fcm_token: 'dead-2' }), { status: 200 })
  t.match(await row('devices', device), { fcm_token: 'dead-2', fcm_token_died_at: null })
  const send = await fcm.waitForSend(({ pushToken }) => pushToken === 'dead-2')
  t.match(send.data, { request_id: id, attempt: '3' })
})

t.test('a registration that is asked for again brings its push token too', async (t) => {
  const device = await service.enroll('again-push', {
    hardware_id: 'H1',
    model: 'R4S',
    app_version: '1',
  })
  const id = await command(device, 'again-push-cmd')
  fcm.register('again-push-1', () => {})
  const body = { hardware_id: 'H1', fcm_token: 'again-push-1', app_version: '2', sdk_int: 33 }
  const { enrollmentToken: token } = device
  t.match(await service.call('POST', '/v1/register', { token, body }), { status: 200 })
  const send = await fcm.waitForSend(({ pushToken }) => pushToken === 'again-push-1')
  t.match(send.data, { request_id: id })
  t.match(await row('devices', device), {
    fcm_token: 'again-push-1',
    fcm_token_at: null,
    model: 'R4S',
    app_version: '2',
    sdk_int: 33,
    enrollment_no: 1,
  })
})

t.test('a new push token and the hand-over of a command meet in one heartbeat', async (t) => {
  const device = await service.enroll('both-ways')
  const id = await command(device, 'both-ways-cmd')
  fcm.register('both-ways-1', () => {})
  const response = await beat(device, { fcm_token: 'both-ways-1' })
  t.match(response.body.commands, [{ request_id: id, attempt: '1' }])
  const send = await fcm.waitForSend(({ pushToken }) => pushToken === 'both-ways-1')
  t.match(send.data, { request_id: id, attempt: '2' })
})

t.test('the push token route replaces always, also the dead one by itself', async (t) => {
  const device = await service.enroll('route', { fcm_token: 'route-1' })
  const id = await command(device, 'route-cmd')
  t.ok((await row('devices', device)).fcm_token_died_at)
  fcm.register('route-1', () => {})
  const give = (body: object) =>
    service.call('POST', '/v1/devices/fcm-token', { token: device.token, body })
  t.match(await give({ fcm_token: 'route-1' }), { status: 200, body: { ok: true } })
  const send = await fcm.waitForSend(
    ({ pushToken, data }) => pushToken === 'route-1' && data['attempt'] === '2',
  )
  t.match(send.data, { request_id: id })
  t.match(await row('devices', device), { fcm_token: 'route-1', fcm_token_died_at: null })
  t.match(await give({ fcm_token: 'x'.repeat(4_096) }), { status: 200 })
  for (const body of [{}, { fcm_token: '' }, { fcm_token: 7 }, { fcm_token: 'x'.repeat(4_097) }]) {
    t.match(await give(body), { status: 422, body: { code: 'invalid_field' } })
  }
})

const commandRow = async (id: string) =>
  (await db.query('select *, xmin::text from commands where request_id = $1', [id])).rows[0]

/** As if nobody had changed the device's push token within the hour. */
async function limitFrees({ deviceId }: Enrolled): Promise<void> {
  await db.query('update devices set fcm_token_due_at = null where device_id = $1', [deviceId])
  const text = `update commands set next_attempt_at = now()
    where device_id = $1 and next_attempt_at > now() and lease_id is null`
  await db.query(text, [deviceId])
}

t.test('the same push token again is no reason to push, whichever way it comes', async (t) => {
  const fcm_token = 'same-1'
  fcm.register(fcm_token, () => {})
  const device = await service.enroll('same', { fcm_token })
  const id = await command(device, 'same-cmd')
  const pushed = { push_state: 'sent', push_attempts: 1, next_attempt_at: null }
  t.match(await commandRow(id), pushed)
  const about = async () => {
    const text = 'select xmin::text, * from devices where device_id = $1'
    return [(await db.query(text, [device.deviceId])).rows, await commandRow(id)]
  }

  const before = await about()
  for (const on of [service, replica, service, replica]) {
    t.match(await give(on, device, fcm_token), { status: 200, body: { ok: true } })
  }
  t.same(await about(), before, 'nothing is written')
  const { fcm_token_at } = await row('devices', device)
  for (const on of [service, replica]) await beat(device, { fcm_token }, undefined, on)
  t.same((await about())[0], before[0], 'nor by a heartbeat')
  const body = { fcm_token, hardware_id: 'H1' }
  const { enrollmentToken: token } = await service.enroll('same', body)
  t.match(await service.call('POST', '/v1/register', { token, body }), { status: 200 })
  t.match(await row('devices', device), { fcm_token, fcm_token_at, fcm_token_due_at: null })
  t.match(await commandRow(id), pushed, 'nor do registrations have it pushed')
})

t.test(
  'ten changes of the push token an hour are pushed to, then the last of the hour',
  async (t) => {
    const tokens = Array.from({ length: 16 }, (_, i) => `flood-${i}`)
    for (const one of tokens) fcm.register(one, () => {})
    const device = await service.enroll('flood', { fcm_token: 'flood-0' })
    const id = await command(device, 'flood-cmd')
    const sentTo = (pushToken: string, requestId = id) =>
      fcm.waitForSend(
        (send) => send.pushToken === pushToken && send.data['request_id'] === requestId,
      )
    for (let i = 1; i <= 10; i += 1) {
      if (i % 2)
        t.match(await give(i % 4 === 1 ? service : replica, device, `flood-${i}`), { status: 200 })
      else await beat(device, { fcm_token: `flood-${i}` }, undefined, i % 4 ? service : replica)
      await sentTo(`flood-${i}`)
    }
    const waits = async (fcm_token: string) => {
      let stored = await commandRow(id)
      while (stored.push_state === 'sending') stored = await commandRow(id)
      const { fcm_token_due_at, ...current } = await row('devices', device)
      t.match(current, { fcm_token, fcm_token_died_at: null }, 'it is stored')
      t.match(stored, { push_state: 'waiting', next_attempt_at: fcm_token_due_at })
      const inS = (fcm_token_due_at - Date.now()) / 1_000
      t.ok(inS > 3_000 && inS <= 3_601, `due in ${inS} s`)
      return fcm_token_due_at
    }
    t.match(await give(replica, device, 'flood-11'), { status: 200, body: { ok: true } })
    const dueAt = await waits('flood-11')
    t.match(await beat(device, { fcm_token: 'flood-12' }), { status: 200 })
    t.same(await waits('flood-12'), dueAt, 'another one puts nothing off')
    const again = await replica.enroll('flood', { fcm_token: 'flood-13' })
    t.same(await waits('flood-13'), dueAt)
    await command(again, 'flood-other')
    await sentTo('flood-13', 'flood-other')

    for (const [table, column] of [
      ['devices', 'fcm_token_due_at'],
      ['commands', 'next_attempt_at'],
    ]) {
      const text = `update ${table} set ${column} = ${column} - interval '1 hour' where device_id = $1`
      await db.query(text, [device.deviceId])
    }
    await sentTo('flood-13')
    t.match(await give(service, again, 'flood-14'), { status: 200 })
    t.same(await waits('flood-14'), dueAt, 'once an hour')
    const pushed = fcm.journal.flatMap(({ data, pushToken }) =>
      data['request_id'] === id ? [pushToken] : [],
    )
    t.same(pushed, [...tokens.slice(0, 11), 'flood-13'])
  },
)

t.test('push tokens that come by every way at once never stand in each other’s way', async (t) => {
  const device = await service.enroll('every-way')
  for (let i = 0; i < 8; i += 1) await command(device, `every-way-${i}`)
  for (let i = 0; i < 40; i += 1) fcm.register(`way-${i}`, () => {})
  const give = async (i: number): Promise<number> => {
    const on = i % 2 ? service : replica
    const body = { fcm_token: `way-${i}` }
    const path = i % 4 < 2 ? '/v1/heartbeat' : '/v1/devices/fcm-token'
    const { status } = await on.call('POST', path, { token: device.token, body })
    return status === 503 ? give(i) : status // a slow machine keeps it waiting for too long
  }
  const given = await Promise.all(Array.from({ length: 40 }, (_, i) => give(i)))
  t.same(new Set(given), new Set([200]))
  const { rows } = await db.query(
    'select deadlocks::int from pg_stat_database where datname = current_database()',
  )
  t.same(rows, [{ deadlocks: 0 }])
  await limitFrees(device)
  const { fcm_token } = await row('devices', device)
  for (let i = 0; i < 8; i += 1) {
    const isIt = (send: { pushToken: string; data: Readonly<Record<string, string>> }) =>
      send.pushToken === fcm_token && send.data['request_id'] === `every-way-${i}`
    t.ok(await fcm.waitForSend(isIt), 'the token that stayed got every command')
  }
})
