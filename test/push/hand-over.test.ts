/** The doorbell and the mailbox at once: what happens to a command while its message is with FCM. */
import t, { type Test } from 'tap'
import { verifyCommandData } from '../../src/domain/command-message.ts'
import type { SendOutcome } from '../../src/push/fcm.ts'
import { startReplicas, until } from '../helpers/replicas.ts'
import type { Enrolled } from '../helpers/service.ts'

const { fcm, service, db, clientOf, replica, enroll, command, row, isPush } = await startReplicas(t)

const read = async (id: string) => (await service.call('GET', `/admin/commands/${id}`)).body

const beat = async ({ token }: Enrolled, body: object = {}) =>
  (await service.call('POST', '/v1/heartbeat', { token, body })).body.commands

async function pushTokenOf({ deviceId }: Enrolled) {
  const text = 'select fcm_token, fcm_token_died_at from devices where device_id = $1'
  return (await db.query(text, [deviceId])).rows[0]
}

/** A replica that gets FCM's response only when the test says so. */
function slowReplica(t: Test) {
  const client = clientOf(10_000)
  const answered: SendOutcome[] = []
  const held: (() => void)[] = []
  const { dispatcher, eventsOf } = replica(t, {
    fcm: {
      async send(message) {
        const outcome = await client.send(message)
        answered.push(outcome)
        if (answered.length === 1) await new Promise<void>((resolve) => held.push(resolve))
        return outcome
      },
    },
  })
  t.teardown(() => held[0]?.())
  return {
    dispatcher,
    eventsOf,
    /** FCM has taken the first message, its answer is not recorded. */
    async push(id: string) {
      dispatcher.wake()
      await until(() => held.length > 0)
      t.equal((await row(id)).push_state, 'sending')
      return answered[0]
    },
    letRecord: () => held[0]?.(),
  }
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

t.test('UNREGISTERED of a token that was replaced meanwhile kills nothing', async (t) => {
  const device = await enroll()
  const id = await command(device.deviceId)
  fcm.nextAnswers(['unregistered'])
  const { push, letRecord, eventsOf } = slowReplica(t)
  t.match(await push(id), { kind: 'token_dead', fcmStatus: 'UNREGISTERED' })
  fcm.register('replacement', () => {})
  await beat(device, { fcm_token: 'replacement' })
  letRecord()
  await until(isPush(id, 'sent'))
  t.same(await pushTokenOf(device), { fcm_token: 'replacement', fcm_token_died_at: null })
  t.same(eventsOf('push.token_dead'), [])
  const send = await fcm.waitForSend(({ pushToken }) => pushToken === 'replacement')
  t.equal(send.data['request_id'], id, 'what the old one did not get goes to the new one')
})
