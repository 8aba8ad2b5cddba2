/** How many sends at once: all of them, one hundredth in an outage, and the ramp of FCM's documentation after it. */
import t from 'tap'
import { type SendFailure, SendLimit } from '../../src/push/send-limit.ts'
import { until } from '../../testkit/until.ts'
import { DEADLINE_MS, startReplicas } from '../helpers/replicas.ts'

const { fcm, clientOf, replica, enroll, command, row, isPush } = await startReplicas(t)

const AT = new Date('2026-03-04T05:06:07Z')

const UNAVAILABLE = { deviceId: 'one', fcmHttpCode: 503, fcmStatus: 'UNAVAILABLE' }
const TIMEOUT = { deviceId: 'one', fcmHttpCode: null, fcmStatus: 'TIMEOUT' }

const fail = (limit: SendLimit, times: number, failure: SendFailure = UNAVAILABLE) => {
  for (let failures = 0; failures < times; failures++) limit.failed(failure, AT, 1_000_000)
}

t.test('failures among successes change nothing', async (t) => {
  const limit = new SendLimit(200)
  for (let round = 0; round < 10; round++) {
    fail(limit, 19)
    t.equal(limit.trouble, undefined)
    limit.succeeded(1_000_000)
  }
  t.equal(limit.at(1_000_000), 200)
})

t.test(
  'after twenty failures in a row one at a time, a second apart, however long it takes',
  async (t) => {
    const limit = new SendLimit(200)
    fail(limit, 20)
    t.equal(limit.at(1_000_999), 0)
    t.equal(limit.at(1_001_000), 1)
    t.same(limit.trouble, { kind: 'failing', since: AT, fcmStatus: 'UNAVAILABLE' })
    t.equal(limit.at(9_000_000), 1)
    limit.failed(TIMEOUT, new Date(), 9_000_000)
    t.equal(limit.at(9_000_999), 0)
    t.same(limit.trouble, { kind: 'failing', since: AT, fcmStatus: 'TIMEOUT' }, 'since the first')
    limit.succeeded(9_001_000)
    t.equal(limit.trouble, undefined)
    t.same(
      [0, 9_999, 10_000, 20_000, 30_000, 40_000, 50_000, 60_000, 0].map((ms) =>
        limit.at(9_001_000 + ms),
      ),
      [2, 2, 10, 20, 50, 100, 150, 200, 200],
    )
  },
)

for (const [fcmHttpCode, fcmStatus] of [
  [429, 'QUOTA_EXCEEDED'],
  [500, 'INTERNAL'],
] as const) {
  t.test(`${fcmStatus}: four devices are no outage, however often; five are`, async (t) => {
    const limit = new SendLimit(200)
    const failOf = (deviceId: string, times: number) =>
      fail(limit, times, { deviceId, fcmHttpCode, fcmStatus })
    for (const deviceId of ['a', 'b', 'c', 'd']) failOf(deviceId, 1_000)
    t.equal(limit.at(1_000_000), 200)
    t.equal(limit.trouble, undefined)
    failOf('e', 3)
    t.equal(limit.at(1_000_000), 200)
    failOf('e', 1)
    t.equal(limit.at(1_000_000), 0)
    t.match(limit.trouble, { kind: 'failing', fcmStatus })
    limit.succeeded(1_000_000)
    for (const deviceId of ['a', 'b', 'c', 'd']) failOf(deviceId, 1_000)
    t.equal(limit.trouble, undefined, 'a success begins the count anew')
    fail(limit, 3)
    t.equal(limit.trouble, undefined)
    fail(limit, 1)
    t.match(limit.trouble, { fcmStatus: 'UNAVAILABLE' }, 'they count beside the others')
  })
}

t.test('a new outage during the ramp begins it anew', async (t) => {
  const limit = new SendLimit(64)
  limit.ramp(50_000)
  t.equal(limit.at(50_000), 1, 'never 0')
  t.equal(limit.at(90_000), 32)
  for (let failures = 0; failures < 20; failures++) limit.failed(TIMEOUT, AT, 90_000)
  t.equal(limit.at(90_000), 0)
  limit.succeeded(95_000)
  t.equal(limit.at(96_000), 1)
  t.equal(limit.at(155_000), 64)
})

t.test('after an outage FCM sees one message at once', async (t) => {
  const { deviceId } = await enroll()
  fcm.setMode({ fcm: 'unavailable' })
  let open = () => {}
  let gate = Promise.resolve()
  const close = () => {
    gate = new Promise((resolve) => {
      open = resolve
    })
  }
  const client = clientOf(DEADLINE_MS)
  const { dispatcher, eventsOf } = replica(t, {
    retryBaseMs: 3_600_000,
    fcm: { send: (message) => gate.then(() => client.send(message)) },
  })
  for (let count = 0; count < 20; count++) await command(deviceId)
  close()
  dispatcher.start()
  await until(() => dispatcher.inFlight === 20) // after the first failure it would send one at a time
  open()
  await until(() => eventsOf('dispatch.fail').length === 20 && dispatcher.inFlight === 0)

  fcm.setMode({ fcm: 'ok' })
  close()
  const ids: string[] = []
  for (let count = 0; count < 20; count++) ids.push(await command(deviceId))
  dispatcher.wake()
  await until(() => dispatcher.inFlight === 1)
  for (let count = 0; count < 20; count++) dispatcher.wake()
  t.equal(dispatcher.inFlight, 1)
  open()
  for (const id of ids) await until(async () => (await row(id)).push_state === 'sent')
})

t.test('one phone beyond its own quota at FCM slows no other down', async (t) => {
  const [attacker, honest] = [await enroll(), await enroll()]
  fcm.setMode({
    fcm: ({ data }) => (data['device_id'] === attacker.deviceId ? 'quota' : 'ok'),
  })
  const { dispatcher, eventsOf } = replica(t)
  for (let count = 0; count < 50; count++) await command(attacker.deviceId)
  dispatcher.start()
  await until(() => eventsOf('dispatch.fail').length === 50 && dispatcher.inFlight === 0)
  t.equal(dispatcher.trouble, undefined)
  const ids: string[] = []
  for (let count = 0; count < 20; count++) ids.push(await command(honest.deviceId))
  dispatcher.wake()
  for (const id of ids) await until(isPush(id, 'sent'))
  t.match(eventsOf('dispatch.fail')[0], { fields: { fcm_status: 'QUOTA_EXCEEDED' } })
  t.same(eventsOf('push.paused'), [])
})
