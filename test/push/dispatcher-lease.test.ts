/** Who sends a command, and when nobody may: leases, two replicas, the end of one, and the sender's pause. */
import { createHash, randomUUID } from 'node:crypto'
import t, { type Test } from 'tap'
import { startFcmStandIn } from '../../sim/fcm-stand-in.ts'
import { commandKey } from '../../src/core/command-message.ts'
import { commandQueue } from '../../src/db/command-queue.ts'
import { commandStore } from '../../src/db/commands.ts'
import { Pool } from '../../src/db/pool.ts'
import { createAccessTokens } from '../../src/push/access-token.ts'
import { Dispatcher, type DispatcherDeps } from '../../src/push/dispatcher.ts'
import { createFcmClient } from '../../src/push/fcm.ts'
import type { Line } from '../../src/telemetry/events.ts'
import { connect } from '../helpers/database.ts'
import { type Enrolled, startService } from '../helpers/service.ts'

const DEADLINE_MS = 10_000
const SECRET = 'test-hmac-secret-0123456789abcdef'

const fcm = await startFcmStandIn()
t.teardown(() => fcm.close())
// Push is off in this one: it serves the devices, and the dispatchers below are the replicas that push.
const service = await startService(t)
const db = await connect(t, service.databaseUrl)
const pool = new Pool({ url: service.databaseUrl, maxConnections: 8, isPrepared: true })
t.teardown(() => pool.close(1_000))
const queue = commandQueue(pool, 'replica')
const { account } = fcm.serviceAccount
const accessTokens = createAccessTokens(account, { timeoutMs: DEADLINE_MS })
const clientOf = (timeoutMs: number) =>
  createFcmClient({
    baseUrl: fcm.baseUrl,
    projectId: account.projectId,
    accessTokens,
    timeoutMs,
    ttlS: 300,
  })

function replica(t: Test, deps: Partial<DispatcherDeps> = {}) {
  const lines: Line[] = []
  const dispatcher = new Dispatcher({
    outbox: queue,
    fcm: clientOf(DEADLINE_MS),
    commandKey: ({ deviceId, enrollmentNo }) => commandKey(SECRET, deviceId, enrollmentNo),
    log: { write: (line) => void lines.push(line) },
    maxInFlight: 64,
    retryBaseMs: 1,
    newId: randomUUID,
    random: Math.random,
    now: () => new Date(),
    onRecorded: () => {},
    ...deps,
  })
  t.teardown(() => dispatcher.close(DEADLINE_MS))
  return {
    dispatcher,
    lines,
    eventsOf: (event: string) => lines.filter((one) => one.event === event),
  }
}

let devices = 0
let lastEnrolled: Enrolled
async function enroll(): Promise<string> {
  devices += 1
  fcm.register(`push-${devices}`, () => {})
  lastEnrolled = await service.enroll(`L${devices}`, { fcm_token: `push-${devices}` })
  return lastEnrolled.deviceId
}

let commands = 0
async function command(deviceId: string): Promise<string> {
  commands += 1
  const requestId = `cmd-${commands}`
  const outcome = await commandStore(pool).accept(
    { deviceId, alias: null },
    {
      requestId,
      action: 'ping',
      params: {},
      contentHash: createHash('sha256').digest(),
      admin: 'tester',
      ttlS: 3_600,
      ip: null,
      instance: 'replica',
      isPushOn: true,
    },
  )
  t.equal(outcome.kind, 'accepted')
  return requestId
}

async function row(requestId: string) {
  const text = 'select *, next_attempt_at <= now() as is_due from commands where request_id = $1'
  return (await db.query(text, [requestId])).rows[0]
}

const attemptsOf = (requestId: string) =>
  fcm.journal.flatMap(({ data }) => (data['request_id'] === requestId ? [data['attempt']] : []))

/** Asks until it holds; every wait of this file is for the database or for FCM. */
async function until(holds: () => Promise<boolean> | boolean): Promise<void> {
  const endsAtMs = performance.now() + DEADLINE_MS
  while (!(await holds())) {
    if (performance.now() > endsAtMs) throw new Error('it never held')
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

const isPush = (requestId: string, state: string) => async () =>
  (await row(requestId)).push_state === state

t.test('two replicas never send the same claim twice', async (t) => {
  const deviceId = await enroll()
  const ids: string[] = []
  while (ids.length < 60) ids.push(await command(deviceId))
  const both = [replica(t, { maxInFlight: 7 }), replica(t, { maxInFlight: 7 })]
  for (const { dispatcher } of both) dispatcher.start()
  for (const id of ids) await until(isPush(id, 'sent'))
  for (const id of ids) t.same(attemptsOf(id), ['1'])
  t.equal(both[0]?.dispatcher.inFlight, 0)
})

t.test('an abandoned lease runs out, and the command is sent with a higher attempt', async (t) => {
  const id = await command(await enroll())
  const [claim] = await queue.claim(1, randomUUID())
  t.match(claim, { requestId: id, attempt: 1 })
  t.match(await row(id), { push_state: 'sending', is_due: false })
  const { dispatcher } = replica(t)
  dispatcher.start()
  await db.query('update commands set next_attempt_at = now() where request_id = $1', [id])
  await until(isPush(id, 'sent'))
  t.same(attemptsOf(id), ['2'])

  const late = { fcmHttpCode: 400, fcmStatus: 'INVALID_ARGUMENT', latencyMs: 1, retryInMs: null }
  if (claim === undefined) throw new Error('nothing was claimed')
  t.equal(await queue.record(claim, { ...late, pushState: 'gave_up' }), false)
  t.equal(await queue.recordDeadToken(claim, { ...late, pushState: 'gave_up' }), 'lease_lost')
  t.match(await row(id), { push_state: 'sent', fcm_status: 'OK' }, 'the first holder is too late')
})

t.test('a command that went to a push token since replaced is due for the new one', async (t) => {
  const outcomes = [
    { pushState: 'sent', fcmHttpCode: 200, fcmStatus: 'OK' },
    { pushState: 'gave_up', fcmHttpCode: 404, fcmStatus: 'UNREGISTERED' },
  ] as const
  for (const outcome of outcomes) {
    const deviceId = await enroll()
    const id = await command(deviceId)
    const [claim] = await queue.claim(1, randomUUID())
    if (claim === undefined) throw new Error('nothing was claimed')
    const body = { fcm_token: `new-${id}` }
    const { token } = lastEnrolled
    await service.call('POST', '/v1/devices/fcm-token', { token, body })
    t.match(await row(id), { push_state: 'sending', is_due: false }, 'the lease holds')
    const attempt = { ...outcome, latencyMs: 1, retryInMs: null }
    if (outcome.pushState === 'sent') t.equal(await queue.record(claim, attempt), true)
    else t.equal(await queue.recordDeadToken(claim, attempt), 'replaced')
    t.match(await row(id), { push_state: 'waiting', is_due: true, lease_id: null })
    const text = 'select fcm_token, fcm_token_died_at from devices where device_id = $1'
    const { rows } = await db.query(text, [deviceId])
    t.same(rows, [{ ...body, fcm_token_died_at: null }])
    await service.call('DELETE', `/admin/commands/${id}`)
  }
})

t.test('a replica that stops gives back what it could not finish', async (t) => {
  fcm.setMode({ fcm: 'hang' })
  t.teardown(() => fcm.setMode({ fcm: 'ok' }))
  const id = await command(await enroll())
  const first = replica(t, { fcm: clientOf(500) })
  first.dispatcher.start()
  await fcm.waitForSend(({ data }) => data['request_id'] === id)
  await first.dispatcher.close(1)
  t.match(await row(id), { push_state: 'waiting', lease_id: null, is_due: true })

  fcm.setMode({ fcm: 'ok' })
  replica(t).dispatcher.start()
  await until(isPush(id, 'sent'))
  await until(() => first.dispatcher.inFlight === 0)
  t.same(attemptsOf(id), ['1', '2'])
  t.match(await row(id), { push_state: 'sent' }, 'what the first one records now counts no more')
})

t.test('a replica that stops while it claims sends nothing of it', async (t) => {
  const id = await command(await enroll())
  let claimed = () => {}
  const isClaimed = new Promise<void>((resolve) => {
    claimed = resolve
  })
  let answer = () => {}
  const mayAnswer = new Promise<void>((resolve) => {
    answer = resolve
  })
  const slow: DispatcherDeps['outbox'] = {
    ...queue,
    async claim(limit, leaseId) {
      const claims = await queue.claim(limit, leaseId)
      claimed()
      await mayAnswer
      return claims
    },
  }
  const { dispatcher } = replica(t, { outbox: slow })
  dispatcher.start()
  await isClaimed
  const closed = dispatcher.close(DEADLINE_MS)
  answer()
  await closed
  t.match(await row(id), { push_state: 'waiting', lease_id: null, is_due: true })
  t.same(attemptsOf(id), [])
  replica(t).dispatcher.start()
  await until(isPush(id, 'sent'))
})

for (const [mode, httpCode, fcmStatus] of [
  ['forbidden', 403, 'PERMISSION_DENIED'],
  ['not_found', 404, 'NOT_FOUND'],
  ['unauthenticated', 401, 'UNAUTHENTICATED'],
] as const) {
  t.test(`${httpCode} without an FcmError: the sender pauses, probes and resumes`, async (t) => {
    fcm.setMode({ fcm: mode })
    t.teardown(() => fcm.setMode({ fcm: 'ok' }))
    const deviceId = await enroll()
    const ids: string[] = []
    while (ids.length < 4) ids.push(await command(deviceId))
    const clock = { nowMs: Date.now() }
    const { dispatcher, lines, eventsOf } = replica(t, {
      maxInFlight: 1,
      probeMs: 1,
      now: () => new Date(clock.nowMs),
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
