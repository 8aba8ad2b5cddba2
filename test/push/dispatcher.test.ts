/** What each response of FCM does to a command, its push token and the log, over real HTTP. */
import t from 'tap'
import { verifyCommandData } from '../../sim/device/verify-command.ts'
import {
  type Behaviour,
  type JournaledSend,
  pushSettings,
  startFakeFcm,
} from '../../sim/fcm/fake-fcm.ts'
import type { LogLine } from '../../testkit/log-book.ts'
import { connect } from '../helpers/database.ts'
import { startService } from '../helpers/service.ts'

const fcm = await startFakeFcm()
t.teardown(() => fcm.close())
const env = {
  ...pushSettings(fcm),
  FCM_RETRY_BASE_MS: '1',
  FCM_TIMEOUT_MS: '4000',
}
const service = await startService(t, { env })
const db = await connect(t, service.databaseUrl)

/** What FCM does with the next messages to a push token; after them it takes all. */
const behaviours = new Map<string, Behaviour[]>()
fcm.setMode({ fcm: ({ pushToken }) => behaviours.get(pushToken)?.shift() ?? 'ok' })

/** A device called `name` with the push token `name`, and FCM's next answers for it. */
async function enroll(name: string, ...responses: Behaviour[]) {
  behaviours.set(name, responses)
  fcm.register(name, () => {})
  return service.enroll(name, { fcm_token: name })
}

/** Sends a command of the device's name to it. */
const command = (name: string, body: object = {}, query = '?wait_ms=10000') =>
  service.call('POST', `/admin/command${query}`, {
    body: { alias: name, action: 'ping', request_id: name, ...body },
  })

const read = async (id: string) => (await service.call('GET', `/admin/commands/${id}`)).body
const sendsOf = (id: string): readonly JournaledSend[] =>
  fcm.journal.filter(({ data }) => data['request_id'] === id)
const linesOf = (id: string): readonly LogLine[] =>
  service.lines.all.filter(
    (line) => line['request_id'] === id && /^dispatch\.[sf]/.test(line.event),
  )

/** The line of the attempt with this number. */
const attemptOf = (id: string, attempt: number) =>
  service.lines.waitFor((line) => line['request_id'] === id && line['attempt'] === attempt)

async function pushTokenOf(alias: string) {
  const text = 'select fcm_token, fcm_token_died_at from devices where alias = $1'
  return (await db.query(text, [alias])).rows[0]
}

t.test('200: sent, one line with the exact fields', async (t) => {
  const device = await enroll('ok')
  t.match(await command('ok'), { body: { status: 'sent' } })
  const line = await attemptOf('ok', 1)
  t.same(Object.keys(line).slice(11), [
    'action',
    'fcm_http_code',
    'fcm_status',
    'dispatch_latency_ms',
    'attempt',
    'push_kind',
  ])
  t.match(line, {
    level: 'INFO',
    event: 'dispatch.sent',
    route: null,
    ip: null,
    user_agent: null,
    device_id: device.deviceId,
    alias: 'ok',
    status_code: null,
    latency_ms: null,
    action: 'ping',
    fcm_http_code: 200,
    fcm_status: 'OK',
    dispatch_latency_ms: Number,
  })
  const [send] = sendsOf('ok')
  t.same(verifyCommandData(send?.data ?? {}, device.hmacKey), { hmac: true, hmac2: true })
  t.equal(sendsOf('ok').length, 1)
})

t.test('one request_id runs through the answer, the lines, the rows and the message', async (t) => {
  await enroll('one-id')
  const id = 'one-id:2026'
  const body = { alias: 'one-id', action: 'ping' }
  const headers = { 'x-request-id': id }
  const response = await service.call('POST', '/admin/command', { body, headers })
  t.same([response.requestId, response.body.request_id], [id, id])
  t.equal(sendsOf(id).length, 1)
  await service.lines.terminalOf(id)
  const events = service.lines.all.filter((line) => line['request_id'] === id)
  t.same(events.map(({ event }) => event).sort(), [
    'dispatch.request',
    'dispatch.sent',
    'http.request',
  ])
  for (const table of ['commands', 'command_events', 'audit_log']) {
    const { rowCount } = await db.query(`select from ${table} where request_id = $1`, [id])
    t.ok(rowCount, table)
  }
})

const DEAD: readonly [mode: Behaviour, httpCode: number, fcmStatus: string][] = [
  ['unregistered', 404, 'UNREGISTERED'],
  ['sender_id_mismatch', 403, 'SENDER_ID_MISMATCH'],
  ['invalid_token', 400, 'INVALID_ARGUMENT'],
]
for (const [mode, httpCode, fcmStatus] of DEAD) {
  t.test(
    `${fcmStatus} of the token: it is dead, push gives up, the mailbox delivers`,
    async (t) => {
      const name = `dead-${mode}`
      const device = await enroll(name, mode)
      t.match(await command(name), {
        status: 202,
        body: {
          status: 'push_failed',
          push: { state: 'gave_up', attempts: 1, fcm_http_code: httpCode, fcm_status: fcmStatus },
        },
      })
      t.match(await attemptOf(name, 1), {
        level: 'ERROR',
        event: 'dispatch.fail',
        fcm_http_code: httpCode,
        fcm_status: fcmStatus,
        final: true,
        retry_in_ms: null,
      })
      const isDeath = (line: LogLine) =>
        line.event === 'push.token_dead' && line['device_id'] === device.deviceId
      const death = await service.lines.waitFor(isDeath)
      t.match(death, { level: 'WARN', request_id: name, alias: name, fcm_status: fcmStatus })
      t.match(await pushTokenOf(name), { fcm_token: name, fcm_token_died_at: Date })
      await service.call('POST', '/v1/heartbeat', { token: device.token, body: {} })
      t.match(await read(name), { status: 'delivered', attempt: 2 })
      const next = await command(name, { request_id: `${name}-next` })
      t.match(next, { body: { status: 'push_failed', push: { state: 'no_token', attempts: 0 } } })
      t.match(await read(`${name}-next`), { verdict: { code: 'push_token_dead' } })
      t.equal(sendsOf(`${name}-next`).length, 0)
    },
  )
}

t.test('400 about anything else: our fault, push gives up, the token stays', async (t) => {
  await enroll('bad', 'invalid_argument')
  t.match(await command('bad'), { body: { status: 'push_failed', push: { state: 'gave_up' } } })
  t.match(await attemptOf('bad', 1), { level: 'ERROR', final: true, fcm_http_code: 400 })
  t.match(await pushTokenOf('bad'), { fcm_token: 'bad', fcm_token_died_at: null })
  t.match(await command('bad', { request_id: 'bad-2' }), { body: { status: 'sent' } })
})

t.test('401: the access token is refreshed and the message sent, in one attempt', async (t) => {
  await enroll('refresh')
  const tokens = fcm.requests.token
  fcm.revokeAccessTokens()
  t.match(await command('refresh'), { body: { status: 'sent', push: { attempts: 1 } } })
  t.equal(fcm.requests.token, tokens + 1)
  t.equal(sendsOf('refresh').length, 1)
  await service.lines.terminalOf((await service.call('GET', '/v1/nowhere')).requestId)
  t.equal(linesOf('refresh').length, 1)
  t.same(service.lines.of('push.paused'), [])
})

t.test('what may pass is retried with a higher attempt and a new signature', async (t) => {
  const modes = ['internal', 'bad_gateway', 'unavailable', 'hang', 'accept_then_reset'] as const
  const device = await enroll('retry', ...modes)
  t.equal((await command('retry')).status, 202)
  await attemptOf('retry', 6)
  const lines = linesOf('retry')
  t.match(
    lines.map((line) => [line.event, line['level'], line['fcm_http_code'], line['fcm_status']]),
    [
      ['dispatch.fail', 'WARN', 500, 'INTERNAL'],
      ['dispatch.fail', 'WARN', 502, 'UNAVAILABLE'],
      ['dispatch.fail', 'WARN', 503, 'UNAVAILABLE'],
      ['dispatch.fail', 'WARN', null, 'TIMEOUT'],
      ['dispatch.fail', 'WARN', null, 'NETWORK'],
      ['dispatch.sent', 'INFO', 200, 'OK'],
    ],
  )
  for (const line of lines.slice(0, 5)) {
    t.match(line, { final: false, retry_in_ms: Number, dispatch_latency_ms: Number })
    t.same(Object.keys(line).slice(-4), ['attempt', 'final', 'retry_in_ms', 'push_kind'])
  }
  const sends = sendsOf('retry').map(({ data }) => data)
  t.same(
    sends.map((data) => data['attempt']),
    ['1', '2', '3', '4', '5', '6'],
  )
  t.equal(new Set(sends.map((data) => data['hmac2'])).size, 6)
  for (const data of sends) {
    t.same(verifyCommandData(data, device.hmacKey), { hmac: true, hmac2: true })
  }
  t.match(await pushTokenOf('retry'), { fcm_token_died_at: null })
})

t.test('Retry-After is kept: its own for a 503, 60 s for a 429 without', async (t) => {
  const cases: [name: string, mode: Behaviour, leastMs: number, mostMs: number][] = [
    ['asked', { mode: 'unavailable', retryAfter: '120' }, 120_000, 132_000],
    ['quota', 'quota', 60_000, 66_000],
    ['quota-asked', { mode: 'quota', retryAfter: '90' }, 90_000, 99_000],
  ]
  for (const [name, mode, leastMs, mostMs] of cases) {
    await enroll(name, mode)
    t.match(await command(name), { body: { push: { state: 'backoff' } } })
    const retryInMs = Number((await attemptOf(name, 1))['retry_in_ms'])
    t.ok(retryInMs >= leastMs && retryInMs <= mostMs, `${name}: ${retryInMs}`)
    const { timeline } = await read(name)
    const { stage, detail } = timeline.at(-1)
    t.equal(stage, 'push_failed')
    t.match(detail, { attempt: 1, retry_at: /^\d{4}-/ })
  }
})

t.test('a retry that would come after the command’s end is not made', async (t) => {
  await enroll('too-late', { mode: 'unavailable', retryAfter: '40' })
  t.match(await command('too-late', { ttl_s: 30 }), { body: { push: { state: 'gave_up' } } })
  t.match(await attemptOf('too-late', 1), { level: 'ERROR', final: true, retry_in_ms: null })
})

t.test('a device that is in touch and in backoff is told so', async (t) => {
  const device = await enroll('verdict', 'quota')
  await service.call('POST', '/v1/heartbeat', { token: device.token, body: {} })
  await command('verdict')
  t.match(await read('verdict'), { verdict: { code: 'push_backoff' } })
})

t.test('a command that comes while the sender is paused is told so at once', async (t) => {
  behaviours.set('paused', ['forbidden'])
  fcm.register('paused', () => {})
  const other = await startService(t, { env })
  const { token } = await other.enroll('P1', { fcm_token: 'paused' })
  await other.call('POST', '/v1/heartbeat', { token, body: {} })
  const send = (request_id: string) => {
    const body = { alias: 'P1', action: 'ping', request_id }
    return other.call('POST', '/admin/command?wait_ms=10000', { body })
  }
  const failed = { state: 'paused', attempts: 1, fcm_http_code: 403 }
  t.match(await send('paused-1'), { status: 202, body: { status: 'queued', push: failed } })
  t.match(await send('paused-2'), {
    status: 202,
    body: { status: 'queued', push: { state: 'paused', attempts: 0, fcm_http_code: null } },
  })
  for (const id of ['paused-1', 'paused-2']) {
    const story = await other.call('GET', `/admin/commands/${id}`)
    t.equal(story.body.verdict.code, 'push_misconfigured')
  }
  const paused = await other.lines.atLeast(1, 'push.paused')
  t.match(paused, [{ level: 'ERROR', request_id: null, reason: /^PERMISSION_DENIED: / }])
  t.equal(paused.length, 1)
})

t.test('a push token that came while FCM held its answer is pushed to as well', async (t) => {
  const device = await enroll('held', 'hang')
  await command('held', {}, '?wait_ms=0')
  await fcm.waitForSend(({ pushToken }) => pushToken === 'held')
  fcm.register('held-new', () => {})
  const body = { fcm_token: 'held-new' }
  const given = await service.call('POST', '/v1/heartbeat', { token: device.token, body })
  t.match(given.body.commands, [{ request_id: 'held', attempt: '2' }])
  const send = await fcm.waitForSend(({ pushToken }) => pushToken === 'held-new')
  t.match(send.data, { request_id: 'held', attempt: '3' })
})

t.test('while FCM is silent heartbeats and results are answered', async (t) => {
  const names = Array.from({ length: 10 }, (_, i) => `silent${i}`)
  for (const name of names) await enroll(name, 'hang')
  const device = await enroll('silent')
  for (const name of names) await command(name, {}, '?wait_ms=0')
  await fcm.waitForSend(({ mode, pushToken }) => mode === 'hang' && pushToken === 'silent9')
  const { token } = device
  const beats = names.map(() => service.call('POST', '/v1/heartbeat', { token, body: {} }))
  for (const response of await Promise.all(beats)) t.equal(response.status, 200)
  for (const name of names) t.match(await attemptOf(name, 2), { event: 'dispatch.sent' })
})

t.test('each HTTP attempt is observed, failed ones too', async (t) => {
  await enroll('observed', 'internal', 'unavailable')
  await command('observed', { action: 'ring' })
  await attemptOf('observed', 3)
  const { text } = await service.call('GET', '/metrics')
  t.match(text, 'fcm_dispatch_latency_ms_count{action="ring"} 3\n')
})
