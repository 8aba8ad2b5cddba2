/** The safety valve: one fault of FCM's must not mark the push tokens of a whole fleet dead. */
import t from 'tap'
import { DeadTokenValve } from '../../src/push/dead-token-valve.ts'
import { startReplicas, until } from '../helpers/replicas.ts'

function answers(valve: DeadTokenValve, alive: number, dead: number, nowMs: number): void {
  for (let count = 0; count < alive; count++) valve.answered(false, nowMs)
  for (let count = 0; count < dead; count++) valve.answered(true, nowMs)
}

t.test('it shuts above 5 % of at least 100 answers of the last minute', async (t) => {
  const valve = new DeadTokenValve()
  answers(valve, 0, 99, 0)
  t.equal(valve.shutBecause(0), undefined, 'too few to tell')
  answers(valve, 1, 0, 0)
  t.match(valve.shutBecause(0), /^99 of 100 /)
  t.match(valve.shutBecause(59_999), /^99 of 100 /)
  t.equal(valve.shutBecause(60_000), undefined, 'a minute later')
  answers(valve, 95, 5, 60_000)
  t.equal(valve.shutBecause(60_000), undefined, 'exactly 5 %')
  answers(valve, 0, 1, 61_000)
  t.match(valve.shutBecause(61_000), /^6 of 101 /)
  answers(valve, 19, 0, 62_000)
  t.equal(valve.shutBecause(62_000), undefined, 'healthy answers open it')
})

t.test(
  'while it is shut tokens are kept, commands back off, and an operator is told',
  async (t) => {
    const { fcm, db, replica, enroll, command, row } = await startReplicas(t)
    const clock = { nowMs: Date.now() }
    const { dispatcher, eventsOf } = replica(t, {
      maxInFlight: 1,
      retryBaseMs: 1_000,
      nowMs: () => clock.nowMs,
    })
    const healthy = await enroll()
    for (let count = 0; count < 95; count++) await command(healthy.deviceId)
    dispatcher.start()
    await until(() => eventsOf('dispatch.sent').length === 95)

    fcm.setMode({ fcm: 'unregistered' })
    const died = async (deviceId: string) =>
      (await db.query('select fcm_token_died_at from devices where device_id = $1', [deviceId]))
        .rows[0].fcm_token_died_at !== null
    for (let count = 1; count <= 5; count++) {
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
    const reason = 'token clearing only: 6 of 101 answers within a minute call the push token dead'
    t.match(eventsOf('push.paused'), [{ fields: { reason } }])
    t.notOk(dispatcher.isPaused, 'sends go on')
    t.equal(eventsOf('push.token_dead').length, 5)

    clock.nowMs += 60_000
    await db.query('update commands set next_attempt_at = now() where request_id = $1', [id])
    dispatcher.wake()
    await until(async () => (await row(id)).push_state === 'gave_up')
    t.ok(await died(kept.deviceId), 'a minute later FCM is believed again')
    t.equal(eventsOf('push.resumed').length, 1)
  },
)
