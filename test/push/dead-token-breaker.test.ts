/** The safety valve: one fault of FCM's must not mark the push tokens of a whole fleet dead. */
import t from 'tap'
import { DeadTokenBreaker } from '../../src/push/dead-token-breaker.ts'
import { until } from '../../testkit/until.ts'
import { startReplicas } from '../helpers/replicas.ts'

/** Of as many devices, the dead ones first. */
function responses(valve: DeadTokenBreaker, alive: number, dead: number, nowMs: number): void {
  for (let n = 1; n <= dead; n++) valve.record(`dead-${n}`, true, nowMs)
  for (let n = 1; n <= alive; n++) valve.record(`alive-${n}`, false, nowMs)
}

t.test('it shuts above 5 % of at least 100 devices of the last minute', async (t) => {
  const valve = new DeadTokenBreaker()
  responses(valve, 0, 99, 0)
  t.equal(valve.openReason(0), undefined, 'too few to tell')
  responses(valve, 1, 0, 0)
  t.match(valve.openReason(0), /of 99 of 100 devices/)
  t.match(valve.openReason(59_999), /of 99 of 100 devices/)
  t.equal(valve.openReason(60_000), undefined, 'a minute later')
  responses(valve, 95, 5, 60_000)
  t.equal(valve.openReason(60_000), undefined, 'exactly 5 %')
  responses(valve, 0, 6, 61_000)
  t.match(valve.openReason(61_000), /of 6 of 101 devices/)
  responses(valve, 114, 0, 62_000)
  t.equal(valve.openReason(62_000), undefined, 'healthy devices open it')
})

t.test('each device counts once, by its latest answer', async (t) => {
  const valve = new DeadTokenBreaker()
  responses(valve, 100, 0, 0)
  for (let n = 0; n < 10_000; n++) valve.record('one', true, n)
  t.equal(valve.openReason(10_000), undefined, 'one that makes tokens up shuts nothing')
  responses(valve, 0, 6, 10_000)
  t.match(valve.openReason(10_000), /of 7 of 107 devices/)
  for (const id of ['one', 'dead-1', 'dead-2']) valve.record(id, false, 11_000)
  t.equal(valve.openReason(11_000), undefined)
})

t.test('of a large fleet the 10,000 devices are judged that were answered last', async (t) => {
  const valve = new DeadTokenBreaker()
  responses(valve, 0, 1_000, 0)
  responses(valve, 9_500, 0, 1)
  t.equal(valve.openReason(1), undefined, '500 of 10,000')
  valve.record('dead-1', true, 2)
  t.equal(valve.openReason(2), undefined, 'it was forgotten, another one is for it')
  valve.record('alive-1', true, 3)
  t.match(valve.openReason(3), /of 501 of 10000 devices/)
})

t.test(
  'while it is shut tokens are kept, commands back off, and an operator is told',
  async (t) => {
    const { fcm, service, db, replica, enroll, command, row } = await startReplicas(t)
    const clock = { nowMs: Date.now() }
    const { dispatcher, eventsOf } = replica(t, {
      maxInFlight: 1,
      retryBaseMs: 1_000,
      probeMs: 1_000,
      nowMs: () => clock.nowMs,
    })
    const healthy = await enroll()
    const { rows } = await db.query(
      `with made as (
         insert into devices (device_id, alias, enrollment_no, enrolled_by, hmac_secret_id, fcm_token, request_id)
         select gen_random_uuid(), 'healthy-' || n, 1, enrolled_by, hmac_secret_id, fcm_token, request_id
         from devices, generate_series(1, 95) n where device_id = $1 returning device_id)
       insert into device_status (device_id) select device_id from made returning device_id`,
      [healthy.deviceId],
    )
    for (const { device_id } of rows) await command(device_id)
    dispatcher.start()
    await until(() => eventsOf('dispatch.sent').length === 95)

    const attacker = await enroll()
    const stolen = await command(attacker.deviceId)
    dispatcher.wake()
    await until(async () => (await row(stolen)).push_state === 'sent')
    for (let count = 1; count <= 10; count++) {
      const body = { fcm_token: `made-up-${count}` }
      await service.call('POST', '/v1/devices/fcm-token', { token: attacker.token, body })
      dispatcher.wake()
      await until(() => eventsOf('push.token_dead').length === count)
    }
    t.same(eventsOf('push.paused'), [], 'one phone that makes push tokens up shuts nothing')

    fcm.setMode({ fcm: 'unregistered' })
    const died = async (deviceId: string) =>
      (await db.query('select fcm_token_died_at from devices where device_id = $1', [deviceId]))
        .rows[0].fcm_token_died_at !== null
    for (let count = 1; count <= 4; count++) {
      const { deviceId } = await enroll()
      const id = await command(deviceId)
      dispatcher.wake()
      await until(async () => (await row(id)).push_state === 'gave_up')
      t.ok(await died(deviceId))
    }
    t.same(eventsOf('push.paused'), [])

    const kept = await enroll()
    const id = await command(kept.deviceId)
    dispatcher.wake()
    await until(async () => (await row(id)).push_state === 'backoff')
    t.notOk(await died(kept.deviceId))
    t.match(await row(id), { fcm_status: 'UNREGISTERED', fcm_http_code: 404 })
    const reason =
      'token clearing only: FCM calls the push tokens of 6 of 101 devices dead within a minute'
    t.match(eventsOf('push.paused'), [{ fields: { reason } }])
    t.notOk(dispatcher.isPaused, 'sends go on')
    t.equal(eventsOf('push.token_dead').length, 14)

    fcm.setMode({ fcm: 'forbidden' })
    const probe = await command(healthy.deviceId)
    dispatcher.wake()
    await until(() => dispatcher.isPaused && dispatcher.inFlight === 0)
    fcm.setMode({ fcm: 'ok' })
    clock.nowMs += 1_000
    await db.query('update commands set next_attempt_at = now() where request_id = $1', [probe])
    dispatcher.wake()
    await until(async () => (await row(probe)).push_state === 'sent')
    t.equal(eventsOf('push.resumed').length, 1)
    dispatcher.wake()
    await until(() => eventsOf('push.paused').length === 3)
    t.match(
      eventsOf('push.paused').map(({ fields }) => fields),
      [{ reason }, { reason: /^PERMISSION_DENIED: / }, { reason: /^token clearing only: / }],
      'that it is still shut is told again',
    )

    fcm.setMode({ fcm: 'unregistered' })
    clock.nowMs += 60_000
    await db.query('update commands set next_attempt_at = now() where request_id = $1', [id])
    dispatcher.wake()
    await until(async () => (await row(id)).push_state === 'gave_up')
    t.ok(await died(kept.deviceId), 'a minute later FCM is believed again')
    t.equal(eventsOf('push.resumed').length, 2)
  },
)
