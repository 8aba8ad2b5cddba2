/** How many sends at once: all of them, one hundredth in an outage, and the ramp of FCM's documentation after it. */
import t from 'tap'
import { SendLimit } from '../../src/push/send-limit.ts'
import { DEADLINE_MS, startReplicas, until } from '../helpers/replicas.ts'

const AT = new Date('2026-03-04T05:06:07Z')

const fail = (limit: SendLimit, times: number) => {
  for (let failures = 0; failures < times; failures++) limit.failed('UNAVAILABLE', AT, 1_000_000)
}

t.test('failures among successes change nothing', async (t) => {
  const limit = new SendLimit(200)
  for (let round = 0; round < 10; round++) {
    fail(limit, 19)
    t.equal(limit.trouble, undefined)
    limit.gotThrough(1_000_000)
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
    limit.failed('TIMEOUT', new Date(), 9_000_000)
    t.equal(limit.at(9_000_999), 0)
    t.same(limit.trouble, { kind: 'failing', since: AT, fcmStatus: 'TIMEOUT' }, 'since the first')
    limit.gotThrough(9_001_000)
    t.equal(limit.trouble, undefined)
    t.same(
      [0, 9_999, 10_000, 20_000, 30_000, 40_000, 50_000, 60_000, 0].map((ms) =>
        limit.at(9_001_000 + ms),
      ),
      [2, 2, 10, 20, 50, 100, 150, 200, 200],
    )
  },
)

t.test('a new outage during the ramp begins it anew', async (t) => {
  const limit = new SendLimit(64)
  limit.ramp(50_000)
  t.equal(limit.at(50_000), 1, 'never 0')
  t.equal(limit.at(90_000), 32)
  for (let failures = 0; failures < 20; failures++) limit.failed('TIMEOUT', AT, 90_000)
  t.equal(limit.at(90_000), 0)
  limit.gotThrough(95_000)
  t.equal(limit.at(96_000), 1)
  t.equal(limit.at(155_000), 64)
})

t.test('after an outage FCM sees one message at once', async (t) => {
  const { fcm, clientOf, replica, enroll, command, row } = await startReplicas(t)
  const { deviceId } = await enroll()
  fcm.setMode({ fcm: 'unavailable' })
  let open = () => {}
  let gate = Promise.resolve()
  const client = clientOf(DEADLINE_MS)
  const { dispatcher, eventsOf } = replica(t, {
    retryBaseMs: 3_600_000,
    fcm: { send: (message) => gate.then(() => client.send(message)) },
  })
  for (let count = 0; count < 20; count++) await command(deviceId)
  dispatcher.start()
  await until(() => eventsOf('dispatch.fail').length === 20 && dispatcher.inFlight === 0)

  fcm.setMode({ fcm: 'ok' })
  gate = new Promise((resolve) => {
    open = resolve
  })
  const ids: string[] = []
  for (let count = 0; count < 20; count++) ids.push(await command(deviceId))
  dispatcher.wake()
  await until(() => dispatcher.inFlight === 1)
  for (let count = 0; count < 20; count++) dispatcher.wake()
  t.equal(dispatcher.inFlight, 1)
  open()
  for (const id of ids) await until(async () => (await row(id)).push_state === 'sent')
})
