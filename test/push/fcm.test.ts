import { createServer } from 'node:http'
import t, { type Test } from 'tap'
import { fidOf } from '../../sim/fcm/apps.ts'
import { type Behaviour, startFakeFcm } from '../../sim/fcm/fake-fcm.ts'
import { makeKeyPair } from '../../sim/fcm/service-account.ts'
import type { PushId } from '../../src/domain/delivery/push-id.ts'
import { createAccessTokens } from '../../src/push/access-token.ts'
import { faultText } from '../../src/push/attempt.ts'
import { createFcmClient, type FcmClientOptions, messageBytes } from '../../src/push/fcm.ts'
import { classifyFcmResponse, readBody, safeText } from '../../src/push/fcm-response.ts'
import { fidId, tokenId } from '../../testkit/push-id.ts'
import { listenFor } from '../helpers/listen.ts'

const keyPair = await makeKeyPair()
const DATA = { action: 'ping', request_id: 'cmd-1', attempt: '1' }
const inAnHour = () => new Date(Date.now() + 3_600_000)
const message = () => ({ pushId: tokenId('device-1'), data: DATA, expiresAt: inAnHour() })

async function start(t: Test, options: Partial<FcmClientOptions> = {}) {
  const google = await startFakeFcm({ keyPair })
  t.teardown(() => google.close())
  const delivered: object[] = []
  google.register('device-1', (data) => delivered.push(data))
  const observed: [latencyMs: number, action: string][] = []
  const { account } = google.serviceAccount
  const client = createFcmClient({
    baseUrl: google.baseUrl,
    projectId: account.projectId,
    accessTokens: createAccessTokens(account, { timeoutMs: 5_000, proxy: null }),
    timeoutMs: 5_000,
    maxSockets: 64,
    proxy: null,
    ttlS: 300,
    onHttpAttempt: (latencyMs, action) => observed.push([latencyMs, action]),
    ...options,
  })
  return { google, client, delivered, observed }
}

t.test('a message reaches the device as it was given, and the answer says so', async (t) => {
  const { google, client, delivered, observed } = await start(t)
  const coming = google.waitForSend((send) => send.pushToken === 'device-1')
  const outcome = await client.send(message())
  t.match(outcome, { kind: 'sent', fcmHttpCode: 200, fcmStatus: 'OK', httpAttempts: 1 })
  t.match(await coming, { mode: 'ok', isDelivered: true })
  t.strictSame(delivered, [DATA])
  t.match(google.journal, [{ isValidateOnly: false, android: { priority: 'HIGH', ttl: '300s' } }])
  t.strictSame(observed, [[outcome.latencyMs, 'ping']])
})

t.test('ttl is whole seconds until the expiry, within 0 and the setting', async (t) => {
  const { google, client } = await start(t, { now: () => new Date('2026-03-04T05:00:00.500Z') })
  for (const end of ['05:00:30.000', '05:04:59.999', '06:00:00.000', '04:00:00.000']) {
    await client.send({ ...message(), expiresAt: new Date(`2026-03-04T${end}Z`) })
  }
  const ttls = google.journal.map(({ android: { ttl } }) => ttl)
  t.strictSame(ttls, ['29s', '299s', '300s', '0s'])
})

const rows: [Behaviour, kind: string, code: number, status: string, waitMs?: number | null][] = [
  ['invalid_token', 'token_dead', 400, 'INVALID_ARGUMENT'],
  ['invalid_argument', 'rejected', 400, 'INVALID_ARGUMENT'],
  ['unauthenticated', 'unauthenticated', 401, 'UNAUTHENTICATED'],
  ['sender_id_mismatch', 'token_dead', 403, 'SENDER_ID_MISMATCH'],
  ['forbidden', 'misconfigured', 403, 'PERMISSION_DENIED'],
  ['unregistered', 'token_dead', 404, 'UNREGISTERED'],
  ['not_found', 'misconfigured', 404, 'NOT_FOUND'],
  [{ mode: 'quota', retryAfter: '7' }, 'retry', 429, 'QUOTA_EXCEEDED', 7_000],
  ['quota', 'retry', 429, 'QUOTA_EXCEEDED', 60_000],
  ['internal', 'retry', 500, 'INTERNAL', null],
  ['bad_gateway', 'retry', 502, 'UNAVAILABLE', null],
  ['unavailable', 'retry', 503, 'UNAVAILABLE', null],
  [{ mode: 'unavailable', retryAfter: '30' }, 'retry', 503, 'UNAVAILABLE', 30_000],
]

for (const [behaviour, kind, fcmHttpCode, fcmStatus, waitMs] of rows) {
  t.test(`${JSON.stringify(behaviour)} is ${kind}`, async (t) => {
    const { google, client, observed, delivered } = await start(t)
    google.setMode({ fcm: behaviour })
    const outcome = await client.send(message())
    t.match(outcome, { kind, fcmHttpCode, fcmStatus })
    t.equal('retryAfterMs' in outcome ? outcome.retryAfterMs : undefined, waitMs)
    t.equal(observed.length, outcome.httpAttempts)
    t.equal(outcome.httpAttempts, behaviour === 'unauthenticated' ? 2 : 1)
    t.strictSame(delivered, [])

    google.setMode({ fcm: 'ok' })
    t.match(await client.send(message()), { kind: 'sent' }, 'the client works on')
  })
}

t.test('a FID is sent as fid alone', async (t) => {
  const { google, client, delivered } = await start(t)
  google.register('fid-1', (data) => delivered.push(data), 'fid')
  const outcome = await client.send({ ...message(), pushId: fidId('fid-1') })
  t.match(outcome, { kind: 'sent', httpAttempts: 1, pushKind: 'fid' })
  t.match(google.journal, [{ pushKind: 'fid', pushToken: 'fid-1' }])
  const asToken = await client.send({ ...message(), pushId: tokenId('fid-1') })
  t.match(asToken, { kind: 'token_dead', fcmStatus: 'UNREGISTERED', pushKind: 'token' })
})

t.test('the fake FCM ends the one address of an app with the other, and limits each', async (t) => {
  const { google, client } = await start(t)
  const app = google.install('phone-2', () => {})
  const sent = async (pushId: PushId) => (await client.send({ ...message(), pushId })).fcmStatus
  const token = app.newToken()
  t.equal(await sent(token), 'OK')
  const fid = app.registerFid()
  t.same([await sent(token), await sent(fid)], ['UNREGISTERED', 'OK'])
  const newer = app.newToken()
  t.same([await sent(fid), await sent(newer)], ['UNREGISTERED', 'OK'])
  t.same([await sent(token), app.registerFid()], ['UNREGISTERED', fid])

  google.setMode({ mostPerMinute: 2 })
  t.equal(await sent(fid), 'QUOTA_EXCEEDED', 'the third to this FID')
  t.equal(await sent(tokenId('device-1')), 'OK')

  const headers = {
    authorization: `Bearer ${await createAccessTokens(google.serviceAccount.account, { timeoutMs: 5_000, proxy: null }).get()}`,
  }
  const body = JSON.stringify({ message: { token: 'a', fid: 'b' } })
  const url = `${google.baseUrl}/v1/projects/${google.serviceAccount.account.projectId}/messages:send`
  const both = await fetch(url, { method: 'POST', headers, body })
  t.equal(both.status, 400, 'a message has one address')
})

t.test('what FCM refuses as a token is tried as a FID once, if it has that form', async (t) => {
  const { google, client, delivered } = await start(t)
  const fid = fidOf('phone-1')
  google.register(fid, (data) => delivered.push(data), 'fid')
  const kinds = () => google.journal.splice(0).map(({ pushKind }) => pushKind)
  t.match(await client.send({ ...message(), pushId: tokenId(fid) }), {
    kind: 'sent',
    pushKind: 'fid',
  })
  t.same(kinds(), ['token', 'fid'])
  t.same(delivered, [DATA])
  google.unregister(fid, 'fid')
  const gone = await client.send({ ...message(), pushId: tokenId(fid) })
  t.match(gone, { kind: 'token_dead', fcmStatus: 'UNREGISTERED', pushKind: 'fid' })
  t.same(kinds(), ['token', 'fid'])
  google.nextAnswers(['unavailable'])
  t.match(await client.send({ ...message(), pushId: tokenId(fid) }), { kind: 'retry' })
  t.same(kinds(), ['token'], 'a failure that a retry may mend is none of the name')
  await client.send({ ...message(), pushId: tokenId('device-9') })
  await client.send({ ...message(), pushId: fidId(fid) })
  t.same(kinds(), ['token', 'fid'], 'nothing else is tried twice')
})

t.test('a push token that nobody has is dead', async (t) => {
  const { client } = await start(t)
  const outcome = await client.send({ ...message(), pushId: tokenId('gone') })
  t.match(outcome, { kind: 'token_dead', fcmHttpCode: 404, fcmStatus: 'UNREGISTERED' })
})

t.test('a project that does not exist is a configuration fault, not a dead token', async (t) => {
  const { client } = await start(t, { projectId: 'no/such' })
  t.match(await client.send(message()), { kind: 'misconfigured', fcmHttpCode: 404 })
})

t.test('a connection that is reset after FCM took the message is a retry', async (t) => {
  const { google, client, observed } = await start(t)
  google.setMode({ fcm: 'accept_then_reset' })
  const outcome = await client.send(message())
  t.match(outcome, { kind: 'retry', fcmHttpCode: null, fcmStatus: 'NETWORK', retryAfterMs: null })
  t.match(google.journal, [{ isDelivered: true }], 'hence the higher attempt of the next message')
  t.strictSame(observed, [[outcome.latencyMs, 'ping']])
})

t.test('a hanging FCM is cut off by the clock of each call', async (t) => {
  const { google, client, observed } = await start(t, { timeoutMs: 50 })
  google.setMode({ fcm: 'hang' })
  const outcomes = await Promise.all([client.send(message()), client.send(message())])
  t.match(outcomes, [
    { kind: 'retry', fcmHttpCode: null, fcmStatus: 'TIMEOUT', retryAfterMs: null },
    { fcmStatus: 'TIMEOUT' },
  ])
  t.equal(observed.length, 2)
})

t.test('an FCM that is not there is a retry', async (t) => {
  const { google, client } = await start(t)
  await client.send(message())
  await google.close()
  t.match(await client.send(message()), { kind: 'retry', fcmStatus: 'NETWORK', httpAttempts: 1 })
})

t.test('access tokens that were revoked are replaced within the same send', async (t) => {
  const { google, client, delivered } = await start(t)
  await client.send(message())
  google.revokeAccessTokens()
  const outcomes = await Promise.all(Array.from({ length: 20 }, () => client.send(message())))
  t.ok(outcomes.every((outcome) => outcome.kind === 'sent'))
  t.equal(delivered.length, 21)
  t.equal(google.requests.token, 2, 'one new token for all')
})

t.test('trouble at the token endpoint sends nothing and is told apart', async (t) => {
  const { google, client, observed } = await start(t)
  const cases = [
    ['error', { kind: 'retry', fcmHttpCode: null, fcmStatus: 'NETWORK', retryAfterMs: null }],
    ['hang', { kind: 'retry', fcmHttpCode: null, fcmStatus: 'TIMEOUT' }],
    ['invalid_grant', { kind: 'misconfigured', fcmHttpCode: null, detail: /invalid_grant/ }],
  ] as const
  for (const [token, expected] of cases) {
    google.setMode({ token })
    const { account } = google.serviceAccount
    const fresh = createFcmClient({
      baseUrl: google.baseUrl,
      projectId: account.projectId,
      accessTokens: createAccessTokens(account, {
        timeoutMs: token === 'hang' ? 50 : 5_000,
        proxy: null,
      }),
      timeoutMs: 5_000,
      maxSockets: 64,
      proxy: null,
      ttlS: 300,
    })
    t.match(await fresh.send(message()), { ...expected, httpAttempts: 0, latencyMs: 0 })
  }
  t.match(await client.send(message()), { kind: 'misconfigured' })
  t.strictSame(observed, [], 'no HTTP attempt')
  t.equal(google.requests.send, 0)
})

t.test('a message above 4096 bytes, not characters, is refused here', async (t) => {
  const { google, client } = await start(t)
  const data = { k: 'é'.repeat(2047) } // 1 + 4094 bytes
  t.equal(messageBytes(data), 4095)
  t.match(await client.send({ ...message(), data: { ...data, x: '' } }), { kind: 'sent' })
  t.match(await client.send({ ...message(), data: { ...data, x: '1' } }), {
    kind: 'rejected',
    fcmHttpCode: null,
    fcmStatus: 'INVALID_ARGUMENT',
    detail: /4097 bytes/,
    httpAttempts: 0,
  })
  t.equal(google.requests.send, 1)
})

t.test('the self test is proven by the complaint about its token', async (t) => {
  const { google, client, observed } = await start(t)
  t.equal(await client.selfTest(), 'ok')
  t.match(google.journal, [{ isValidateOnly: true, isDelivered: false }])
  t.strictSame(observed, [], 'it is no dispatch')

  google.setMode({ fcm: 'forbidden' })
  t.match(await client.selfTest(), {
    problem: /^PERMISSION_DENIED \(HTTP 403\)/,
    isTemporary: false,
  })
  google.setMode({ fcm: 'unavailable' })
  t.match(await client.selfTest(), { problem: /^UNAVAILABLE/, isTemporary: true })
})

t.test('an error body without end is read to its limit only', async (t) => {
  const server = createServer((_req, res) => {
    res.writeHead(500)
    const timer = setInterval(() => res.write(Buffer.alloc(32 * 1024, 'x')), 1)
    res.on('close', () => clearInterval(timer))
  })
  const port = await listenFor(t, server)
  const { client } = await start(t, { baseUrl: `http://127.0.0.1:${port}/` })
  t.match(await client.send(message()), { kind: 'retry', fcmHttpCode: 500, fcmStatus: 'INTERNAL' })
})

t.test('the stand-in refuses what FCM refuses', async (t) => {
  const { google } = await start(t)
  const { account } = google.serviceAccount
  const token = await createAccessTokens(account, { timeoutMs: 5_000, proxy: null }).get()
  const ask = async (body: unknown) => {
    const url = `${google.baseUrl}/v1/projects/${account.projectId}/messages:send`
    const headers = { authorization: `Bearer ${token}` }
    const response = await fetch(url, { method: 'POST', headers, body: JSON.stringify(body) })
    return classifyFcmResponse(
      { httpCode: response.status, body: await response.text(), retryAfter: null },
      new Date(),
    )
  }
  const good = { token: 'device-1', data: { a: '1' }, android: { priority: 'HIGH', ttl: '5s' } }
  t.match(await ask({ message: good }), { kind: 'sent' })
  const bad: [body: unknown, detail: RegExp][] = [
    [{ message: { ...good, data: { a: 1 } } }, /TYPE_STRING/],
    [{ message: { ...good, data: { from: 'x' } } }, /payload key: from/],
    [{ message: { ...good, data: { a: 'x'.repeat(4096) } } }, /too big/],
    [{ message: { ...good, android: { ttl: 300 } } }, /duration/],
    [{ message: { ...good, android: { ttl: '3000000s' } } }, /duration/],
    [{ message: { ...good, android: { priority: 'URGENT' } } }, /priority/],
    [{ message: { ...good, android: { speed: 1 } } }, /Unknown name "speed"/],
    [{ message: { data: {} } }, /Recipient/],
    [{ message: good, extra: 1 }, /Unknown name "extra"/],
    [[], /Invalid value/],
  ]
  for (const [body, detail] of bad)
    t.match(await ask(body), { kind: 'rejected', detail }, `${detail}`)
  t.equal(google.journal.length, 1)
})

t.test('FcmError, status and code decide in this order; no body throws', async (t) => {
  const error = (error: object) => JSON.stringify({ error })
  const fcmError = (errorCode: string, status?: string) =>
    error({ status, details: [{ '@type': 'x/google.firebase.fcm.v1.FcmError', errorCode }] })
  const other = error({ details: [{ '@type': 'x/Other', errorCode: 'UNREGISTERED' }] })
  const invalid = (message: string, ...fields: string[]) => {
    const fieldViolations = fields.map((field) => ({ field }))
    return error({ status: 'INVALID_ARGUMENT', message, details: [{ fieldViolations }] })
  }
  const odd = [null, 1, { errorCode: { a: 1 } }, { fieldViolations: [null] }]
  const badToken = 'The registration token is not a valid FCM registration token'
  const cases: [httpCode: number, body: string, kind: string, fcmStatus: string][] = [
    [200, '<html>', 'sent', 'OK'],
    [400, fcmError('UNREGISTERED'), 'token_dead', 'UNREGISTERED'],
    [404, fcmError('UNREGISTERED', 'NOT_FOUND'), 'token_dead', 'UNREGISTERED'],
    [404, other, 'misconfigured', 'NOT_FOUND'],
    [404, '<html>UNREGISTERED</html>', 'misconfigured', 'NOT_FOUND'],
    [404, '', 'misconfigured', 'NOT_FOUND'],
    [403, 'null', 'misconfigured', 'PERMISSION_DENIED'],
    [400, invalid(badToken), 'token_dead', 'INVALID_ARGUMENT'],
    [400, invalid('', 'message.token'), 'token_dead', 'INVALID_ARGUMENT'],
    [400, invalid(badToken, 'message.data'), 'rejected', 'INVALID_ARGUMENT'],
    [400, invalid('', 'message.token', 'message.data'), 'rejected', 'INVALID_ARGUMENT'],
    [400, `<p>${badToken}`, 'rejected', 'INVALID_ARGUMENT'],
    [401, fcmError('THIRD_PARTY_AUTH_ERROR'), 'rejected', 'THIRD_PARTY_AUTH_ERROR'],
    [401, '{"error":"invalid_token"}', 'unauthenticated', 'UNAUTHENTICATED'],
    [429, '', 'retry', 'RESOURCE_EXHAUSTED'],
    [504, '<html>', 'retry', 'DEADLINE_EXCEEDED'],
    [503, '[{"error":{"status":"UNAVAILABLE"}}]', 'retry', 'UNAVAILABLE'],
    [500, error({ status: 5, details: 'x', message: [] }), 'retry', 'INTERNAL'],
    [500, error({ details: odd }), 'retry', 'INTERNAL'],
    [500, fcmError('A B', 'lower case\n'), 'retry', 'INTERNAL'],
    [500, '{"error":', 'retry', 'INTERNAL'],
    [400, fcmError('SOMETHING_NEW'), 'rejected', 'SOMETHING_NEW'],
    [403, fcmError('SOMETHING_NEW'), 'misconfigured', 'SOMETHING_NEW'],
    [299, '', 'sent', 'OK'],
    [300, '', 'misconfigured', 'UNKNOWN'],
    [302, '', 'misconfigured', 'UNKNOWN'],
    [407, '<html>', 'misconfigured', 'UNKNOWN'],
    [413, '<html>', 'rejected', 'UNKNOWN'],
    [520, '<html>', 'retry', 'UNKNOWN'],
  ]
  for (const [httpCode, body, kind, fcmStatus] of cases) {
    const response = classifyFcmResponse({ httpCode, body, retryAfter: null }, new Date())
    t.match(response, { kind, fcmStatus, fcmHttpCode: httpCode }, `${httpCode} ${body}`)
  }
})

t.test('what FCM says reaches us as one bounded line without secrets', async (t) => {
  const secret = 'fW9x:APA91bH-8dXn0iVbL_2pQ4sT7uY1wE6rK3mN5oZ9aC'
  const link =
    'https://console.developers.google.com/apis/api/fcm.googleapis.com/overview?project=1'
  const error = { message: `visit\n${link} ${secret} ${'word '.repeat(100)}` }
  const raw = { httpCode: 400, body: JSON.stringify({ error }), retryAfter: null }
  const response = classifyFcmResponse(raw, new Date())
  const detail = 'detail' in response ? response.detail : ''
  t.ok(detail.startsWith(`visit ${link} fW9x:[cut] word`), detail)
  t.ok(detail.length <= 300)
})

t.test('text of others is read, and told, as far as its bounds', async (t) => {
  for (const [sizes, length, pulls] of [
    [[65_535], 65_535, 1],
    [[65_536, 1], 65_536, 1],
    [[65_537, 1], 65_536, 1],
    [[65_535, 1, 1], 65_536, 2],
    [[65_535, 2, 1], 65_536, 2],
  ] as const) {
    let pulled = 0
    async function* body() {
      for (const size of sizes) {
        pulled += 1
        yield Buffer.alloc(size, 'x')
      }
    }
    t.same([(await readBody(body())).length, pulled], [length, pulls], `${sizes}`)
  }
  t.equal(await readBody(null), '')
  t.equal(safeText('x'.repeat(31)), 'x'.repeat(31), 'a word')
  t.equal(safeText('x'.repeat(32)), '[cut]', 'perhaps a secret')
  t.equal(safeText('abc.'.repeat(75)).length, 300)
  t.equal(safeText('abc.'.repeat(76)).length, 300)
  t.equal(faultText('x'.repeat(200)).length, 200)
  t.equal(faultText('x'.repeat(201)).length, 200)
})
