/** The sender's pause: what begins it, what is tried meanwhile, and what alone ends it. */
import t from 'tap'
import { pushSettings } from '../../sim/fcm/fake-fcm.ts'
import type { Claim } from '../../src/domain/delivery/outbox.ts'
import { AppError } from '../../src/domain/errors.ts'
import { until } from '../../testkit/until.ts'
import { DEADLINE_MS, startReplicas } from '../helpers/replicas.ts'
import { startService } from '../helpers/service.ts'

const { fcm, service, db, outbox, replica, enroll, command, row, tokenDied, attemptsOf, isPush } =
  await startReplicas(t)

for (const [mode, httpCode, fcmStatus] of [
  ['forbidden', 403, 'PERMISSION_DENIED'],
  ['not_found', 404, 'NOT_FOUND'],
  ['unauthenticated', 401, 'UNAUTHENTICATED'],
] as const) {
  t.test(`${httpCode} without an FcmError: the sender pauses, probes and resumes`, async (t) => {
    fcm.setMode({ fcm: mode })
    t.teardown(() => fcm.setMode({ fcm: 'ok' }))
    const { deviceId } = await enroll()
    const ids: string[] = []
    while (ids.length < 4) ids.push(await command(deviceId))
    const clock = { nowMs: Date.now() }
    const { dispatcher, lines, eventsOf } = replica(t, {
      maxInFlight: 1,
      probeMs: 1,
      nowMs: () => clock.nowMs,
    })
    const failures = async (count: number) => {
      await until(() => eventsOf('dispatch.fail').length >= count)
      await until(() => dispatcher.inFlight === 0)
    }
    dispatcher.start()
    await failures(1)
    t.match(lines[0], { event: 'push.paused', fields: { reason: new RegExp(`^${fcmStatus}: `) } })
    t.match(lines[1], {
      event: 'dispatch.fail',
      level: 'WARN',
      fields: {
        fcm_http_code: httpCode,
        fcm_status: fcmStatus,
        attempt: 1,
        final: false,
        retry_in_ms: 1,
      },
    })
    t.match(await row(ids[0] ?? ''), { push_state: 'paused', fcm_status: fcmStatus })
    const { body } = await service.call('GET', `/admin/commands/${ids[0]}?wait_ms=0`)
    t.match(body.verdict, { code: 'device_never_seen', detail: /Also: push_misconfigured/ })

    for (let probe = 2; probe <= 3; probe += 1) {
      clock.nowMs += 1
      await until(() => {
        dispatcher.wake()
        return eventsOf('dispatch.fail').length === probe
      })
      await failures(probe)
      for (let i = 0; i < 20; i += 1) dispatcher.wake()
      t.equal(dispatcher.inFlight, 0, 'one at a time, until the next is due')
    }
    t.equal(eventsOf('push.paused').length, 1)

    fcm.setMode({ fcm: 'ok' })
    clock.nowMs += 1
    for (const id of ids) {
      await until(async () => {
        dispatcher.wake()
        return (await row(id)).push_state === 'sent'
      })
    }
    t.equal(eventsOf('push.resumed').length, 1)
    t.equal(eventsOf('dispatch.fail').length, 3)
    t.same(eventsOf('push.token_dead'), [])
    const text = 'select fcm_token_died_at from devices where device_id = $1'
    t.same((await db.query(text, [deviceId])).rows, [{ fcm_token_died_at: null }])
  })
}

t.test('a probe that FCM never saw does not resume', async (t) => {
  fcm.setMode({ fcm: 'forbidden' })
  t.teardown(() => fcm.setMode({ fcm: 'ok' }))
  const { deviceId } = await enroll()
  const first = await command(deviceId)
  const clock = { nowMs: Date.now() }
  const nowMs = () => clock.nowMs
  // Far enough that only the clock below makes a probe due, and that the first command is not one.
  const { dispatcher, eventsOf } = replica(t, { probeMs: 1_000_000, nowMs })
  dispatcher.wake()
  await until(isPush(first, 'paused'))

  const tooLarge = await command(deviceId)
  const params = JSON.stringify({ note: 'x'.repeat(5_000) })
  await db.query('update commands set params = $2 where request_id = $1', [tooLarge, params])
  const tokenless = await enroll()
  const untold = await command(tokenless.deviceId)
  await tokenDied(tokenless.deviceId)
  const last = await command(deviceId)
  fcm.setMode({ fcm: 'ok' })

  clock.nowMs += 1_000_000
  dispatcher.wake()
  await until(isPush(tooLarge, 'gave_up'))
  await until(() => dispatcher.inFlight === 0)
  t.same(eventsOf('push.resumed'), [])
  t.equal(dispatcher.isPaused, true)
  t.match(await row(untold), { push_state: 'waiting' }, 'one at a time')

  clock.nowMs += 1_000_000
  dispatcher.wake()
  await until(isPush(last, 'sent'))
  await until(isPush(untold, 'no_token')) // one that is not sent is no probe
  t.equal(eventsOf('push.resumed').length, 1)
  t.same(attemptsOf(tooLarge), [])
})

/** As by default. */
const SELF_TEST = { ...pushSettings(fcm), FCM_SELF_TEST: '' }

t.test('a self-test that FCM refuses pauses the sender once the service is ready', async (t) => {
  fcm.setMode({ fcm: 'forbidden' })
  t.teardown(() => fcm.setMode({ fcm: 'ok' }))
  const tested = await startService(t, { env: SELF_TEST })
  const paused = await tested.lines.waitFor((line) => line.event === 'push.paused')
  t.match(paused, { level: 'ERROR', reason: /^self-test: PERMISSION_DENIED \(HTTP 403\): / })
  await until(() => /^FCM self-test: PERMISSION_DENIED \(HTTP 403\): /m.test(tested.stderr()))
  t.match((await tested.call('GET', '/healthz')).status, 200, 'it serves')
  const events = tested.lines.all.map(({ event }) => event)
  t.ok(events.indexOf('service.ready') < events.indexOf('push.paused'))

  fcm.register('self-tested', () => {})
  await tested.enroll('S1', { fcm_token: 'self-tested' })
  const body = { alias: 'S1', action: 'ping', request_id: 'self-tested' }
  t.match(await tested.call('POST', '/admin/command', { body }), {
    status: 202,
    body: { status: 'queued', push: { state: 'paused', attempts: 0 } },
  })
})

t.test('a self-test without an answer delays no start and pauses nothing', async (t) => {
  fcm.revokeAccessTokens()
  const before = fcm.requests.token
  fcm.setMode({ token: 'hang' })
  t.teardown(() => fcm.setMode({ token: 'ok' }))
  const tested = await startService(t, { env: SELF_TEST })
  await until(() => fcm.requests.token > before)
  t.same(tested.lines.of('push.paused'), [])
  t.equal(await tested.stop(), 0, 'nor the end')
})

t.test('a fault that is no outage is told once, and its end too', async (t) => {
  let isBroken = true
  const broken = {
    ...outbox,
    claim: (limit: number, leaseId: string) =>
      isBroken ? Promise.reject(new TypeError('broken')) : outbox.claim(limit, leaseId),
  }
  const { dispatcher, eventsOf } = replica(t, { outbox: broken })
  const turns = async () => {
    for (let turn = 0; turn < 10; turn += 1) {
      dispatcher.wake()
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
  dispatcher.start()
  await until(() => eventsOf('push.paused').length === 1)
  await turns()
  isBroken = false
  dispatcher.wake()
  await until(() => eventsOf('push.resumed').length === 1)
  await turns()
  t.match(eventsOf('push.paused'), [{ fields: { reason: 'a fault of ours: TypeError: broken' } }])
  t.equal(eventsOf('push.paused').length + eventsOf('push.resumed').length, 2)
})

t.test('a fault in making one message is that command’s alone', async (t) => {
  const [broken, sound] = [await enroll(), await enroll()]
  const ids = [await command(broken.deviceId), await command(sound.deviceId)] as const
  const { dispatcher } = replica(t, {
    retryBaseMs: 60_000,
    commandKey({ deviceId }) {
      if (deviceId === broken.deviceId) throw new Error('broken')
      return 'key'
    },
  })
  dispatcher.start()
  await until(async () => (await row(ids[1])).push_state === 'sent')
  await until(async () => (await row(ids[0])).push_state === 'backoff')
  t.match(await row(ids[0]), { fcm_status: 'INTERNAL', fcm_http_code: null })
})

t.test('two commands in flight to one dead push token tell of it once', async (t) => {
  fcm.setMode({ fcm: 'unregistered' })
  t.teardown(() => fcm.setMode({ fcm: 'ok' }))
  const { deviceId } = await enroll()
  const ids = [await command(deviceId), await command(deviceId)]
  const { dispatcher, eventsOf } = replica(t)
  dispatcher.start()
  for (const id of ids) await until(async () => (await row(id)).push_state === 'gave_up')
  await until(() => dispatcher.inFlight === 0)
  t.equal(eventsOf('push.token_dead').length, 1)
})

t.test('an outage of the token endpoint slows the sender down as one of FCM does', async (t) => {
  const { deviceId } = await enroll()
  let sends = 0
  const { dispatcher, eventsOf } = replica(t, {
    maxInFlight: 1,
    retryBaseMs: 3_600_000,
    nowMs: () => 1_000_000,
    fcm: {
      async send() {
        sends += 1
        const lost = { fcmHttpCode: null, fcmStatus: 'NETWORK', latencyMs: 0, httpAttempts: 0 }
        return {
          pushKind: 'token',
          kind: 'retry',
          retryAfterMs: null,
          detail: 'no access token',
          ...lost,
        } as const
      },
    },
  })
  for (let count = 0; count < 25; count += 1) await command(deviceId)
  dispatcher.start()
  await until(() => eventsOf('dispatch.fail').length === 20 && dispatcher.inFlight === 0)
  for (let turn = 0; turn < 20; turn += 1) dispatcher.wake()
  t.equal(dispatcher.inFlight, 0, 'the next one only after a second')
  t.equal(sends, 20)
})

t.test(
  'whoever waits for a command is told when it was recorded, also without a push',
  async (t) => {
    const { deviceId } = await enroll()
    const [silent, pushed] = [await command(deviceId), await command((await enroll()).deviceId)]
    await tokenDied(deviceId)
    const told: string[] = []
    const { dispatcher } = replica(t, { commandChanged: (requestId) => void told.push(requestId) })
    dispatcher.start()
    // Tests before this one have left commands, too.
    await until(() => [silent, pushed].every((id) => told.includes(id)))
    t.match(await row(silent), { push_state: 'no_token' })
    t.match(await row(pushed), { push_state: 'sent' })
  },
)

t.test('a record that cannot be written holds up no end', async (t) => {
  const id = await command((await enroll()).deviceId)
  let tries = 0
  const failing = {
    ...outbox,
    async record({ requestId }: Claim) {
      if (requestId === id) tries += 1
      throw new AppError('db_unavailable', 'away')
    },
  }
  const { dispatcher } = replica(t, { outbox: failing })
  dispatcher.start()
  await until(() => tries === 1)
  await dispatcher.close(DEADLINE_MS)
  t.equal(tries, 2, 'once more, then it is left to its lease')
  t.same(attemptsOf(id), ['1'])
})
