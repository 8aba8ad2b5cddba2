/** The dispatcher's lines with a fake FCM: background work, under each command's id. */

import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import t, { type Test } from 'tap'
import { pushSettings, startFakeFcm } from '../../sim/fcm/fake-fcm.ts'
import { CANNED } from '../../sim/fcm/responses.ts'
import { listenFor } from '../helpers/listen.ts'
import { type Enrolled, type Running, startService } from '../helpers/service.ts'
import { about, BACKGROUND, isCount, isDuration, theme } from './helpers.ts'

const { compare, compareOnly } = theme(t, {
  'dispatch.sent': ['INFO'],
  'dispatch.fail': ['WARN', 'ERROR'],
  'push.paused': ['ERROR'],
  'push.resumed': ['INFO'],
  'push.self_test': ['WARN'],
  'push.token_dead': ['WARN'],
})
const fcm = await startFakeFcm()
t.teardown(() => fcm.close())
fcm.register('push-1', () => {})

const start = (t: Test, fcmBaseUrl = fcm.baseUrl) =>
  startService(t, {
    env: {
      FIREBASE_SERVICE_ACCOUNT_JSON: fcm.serviceAccount.json,
      FCM_BASE_URL: fcmBaseUrl,
      FCM_SELF_TEST: 'false',
      FCM_RETRY_BASE_MS: '1',
    },
  })

const command = (service: Running, request_id: string, query = '?wait_ms=10000') =>
  service.call('POST', `/admin/command${query}`, {
    body: { alias: 'D01', action: 'ping', request_id, ttl_s: 30 },
  })

const push_kind = 'token'

/** The own fields of an attempt that FCM answered, or not (`code` null). */
const attempted = (code: number | null, status: string, attempt: number) => ({
  action: 'ping',
  fcm_http_code: code,
  fcm_status: status,
  dispatch_latency_ms: isDuration,
  attempt,
})

/** Compares the line of one failed attempt. */
async function compareFailure(
  t: Test,
  service: Running,
  device: Enrolled,
  id: string,
  own: ReturnType<typeof attempted>,
  isFinal: boolean,
): Promise<void> {
  const line = await service.lines.waitFor(
    (each) => each['request_id'] === id && each['attempt'] === own.attempt,
  )
  compare(t, line, 'dispatch.fail', isFinal ? 'ERROR' : 'WARN', about(id, 'D01', device), {
    ...own,
    final: isFinal,
    retry_in_ms: isFinal ? null : isCount,
    push_kind,
  })
}

t.test('a command that is taken, after some failures or at once', async (t) => {
  const service = await start(t)
  const device = await service.enroll('D01', { fcm_token: 'push-1' })

  await command(service, 'sent')
  const at = about('sent', 'D01', device)
  await compareOnly(t, service, 'dispatch.sent', 'INFO', at, {
    ...attempted(200, 'OK', 1),
    push_kind,
  })

  fcm.nextAnswers(['unavailable', 'bad_gateway', 'accept_then_reset'])
  await command(service, 'later')
  const failures = [
    [503, 'UNAVAILABLE'],
    [502, 'UNAVAILABLE'],
    [null, 'NETWORK'],
  ] as const
  for (const [index, [code, status]] of failures.entries()) {
    const own = attempted(code, status, index + 1)
    await compareFailure(t, service, device, 'later', own, false)
  }
  const laterAt = about('later', 'D01', device)
  await compareOnly(t, service, 'dispatch.sent', 'INFO', laterAt, {
    ...attempted(200, 'OK', 4),
    push_kind,
  })
})

t.test('a command that push gives up: WARN while it tries, ERROR when it is final', async (t) => {
  const service = await start(t)
  const device = await service.enroll('D01', { fcm_token: 'push-1' })
  fcm.nextAnswers(['internal', 'invalid_argument'])
  await command(service, 'given-up')
  await compareFailure(t, service, device, 'given-up', attempted(500, 'INTERNAL', 1), false)
  const refused = attempted(400, 'INVALID_ARGUMENT', 2)
  await compareFailure(t, service, device, 'given-up', refused, true)

  fcm.nextAnswers([{ mode: 'unavailable', retryAfter: '60' }])
  await command(service, 'too-late')
  await compareFailure(t, service, device, 'too-late', attempted(503, 'UNAVAILABLE', 1), true)

  fcm.nextAnswers(['unregistered'])
  await command(service, 'dead')
  await compareFailure(t, service, device, 'dead', attempted(404, 'UNREGISTERED', 1), true)
  const at = about('dead', 'D01', device)
  const dead = { fcm_status: 'UNREGISTERED' }
  await compareOnly(t, service, 'push.token_dead', 'WARN', at, dead)
})

t.test('a sender that FCM refuses as a whole, and takes again', async (t) => {
  const gate = await startGate(t)
  const service = await start(t, gate.url)
  const device = await service.enroll('D01', { fcm_token: 'push-1' })
  // Both are out before the first is refused: the answer to the second resumes, with no probe to wait for.
  await command(service, 'refused', '?wait_ms=0')
  const refuse = await gate.sendOf('refused')
  await command(service, 'taken', '?wait_ms=0')
  const take = await gate.sendOf('taken')

  const { status, json } = CANNED.forbidden
  refuse.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(json))
  const reason = /^PERMISSION_DENIED: Permission /
  await compareOnly(t, service, 'push.paused', 'ERROR', BACKGROUND, { reason })
  const own = attempted(403, 'PERMISSION_DENIED', 1)
  await compareFailure(t, service, device, 'refused', own, false)

  take
    .writeHead(200, { 'content-type': 'application/json' })
    .end('{"name":"projects/p/messages/1"}')
  await compareOnly(t, service, 'push.resumed', 'INFO', BACKGROUND, {})
})

t.test('a self-test that FCM does not answer', async (t) => {
  fcm.revokeAccessTokens()
  fcm.setMode({ token: 'error' })
  t.teardown(() => fcm.setMode({ token: 'ok' }))
  const service = await startService(t, { env: { ...pushSettings(fcm), FCM_SELF_TEST: '' } })
  const reason = /^self-test: NETWORK: token endpoint 127\.0\.0\.1:\d+ answered 500$/
  await compareOnly(t, service, 'push.self_test', 'WARN', BACKGROUND, { reason })
  t.match(service.stderr(), /^FCM self-test: NETWORK: token endpoint /m)
})

t.test('another replica goes on under the same id', async (t) => {
  const first = await start(t)
  const device = await first.enroll('D01', { fcm_token: 'push-1' })
  fcm.setMode({ fcm: 'unavailable' })
  t.teardown(() => fcm.setMode({ fcm: 'ok' }))
  await command(first, 'handed-on', '?wait_ms=0')
  await compareFailure(t, first, device, 'handed-on', attempted(503, 'UNAVAILABLE', 1), false)
  t.equal(await first.stop(), 0)

  fcm.setMode({ fcm: 'ok' })
  const second = await startService(t, {
    databaseUrl: first.databaseUrl,
    env: pushSettings(fcm),
  })
  const at = about('handed-on', 'D01', device)
  const own = { ...attempted(200, 'OK', 1), attempt: isCount, push_kind }
  await compareOnly(t, second, 'dispatch.sent', 'INFO', at, own)
})

/** In FCM's place: takes messages, and answers each on request. */
async function startGate(t: Test) {
  const waiting = new Map<string, ServerResponse>()
  const server = createServer(async (req, res) => {
    let text = ''
    for await (const chunk of req) text += chunk
    waiting.set(JSON.parse(text).message.data.request_id, res)
    server.emit('message')
  })
  const port = await listenFor(t, server)
  return {
    url: `http://127.0.0.1:${port}`,
    /** The answer that the message of this command waits for. */
    async sendOf(requestId: string): Promise<ServerResponse> {
      for (;;) {
        const res = waiting.get(requestId)
        if (res !== undefined) return res
        await once(server, 'message')
      }
    },
  }
}
