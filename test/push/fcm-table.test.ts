/** Every response of FCM over real HTTP: its effect on command, token and sender, and the log line. */
import t, { type Test } from 'tap'
import { type Behaviour, pushSettings, startFakeFcm } from '../../sim/fcm/fake-fcm.ts'
import { type PushKind, WIRE_NAMES } from '../../src/domain/delivery/push-id.ts'
import { connect } from '../helpers/database.ts'
import { type Enrolled, type Running, startService } from '../helpers/service.ts'

interface Row {
  readonly fault: string
  readonly behaviour: Behaviour
  /** null: no HTTP answer. */
  readonly httpCode: number | null
  readonly fcmStatus: string
  readonly pushState: 'sent' | 'gave_up' | 'backoff' | 'paused'
  readonly status: 'sent' | 'push_failed' | 'queued'
  readonly verdict: string
  readonly isTokenDead?: true
}

const SENT = { pushState: 'sent', status: 'sent', verdict: 'pushed_waiting_for_device' } as const
const GAVE_UP = { pushState: 'gave_up', status: 'push_failed' } as const
const DEAD = { ...GAVE_UP, verdict: 'push_token_dead', isTokenDead: true } as const
const OUR_BUG = { ...GAVE_UP, verdict: 'waiting_first_push' } as const
const PAUSED = { pushState: 'paused', status: 'queued', verdict: 'push_misconfigured' } as const
const BACKOFF = { pushState: 'backoff', status: 'queued', verdict: 'push_backoff' } as const
const asked = { retryAfter: '120' } as const

const row = (
  fault: string,
  behaviour: Behaviour,
  httpCode: number | null,
  fcmStatus: string,
  expected: Omit<Row, 'fault' | 'behaviour' | 'httpCode' | 'fcmStatus'>,
): Row => ({ fault, behaviour, httpCode, fcmStatus, ...expected })

const ROWS: readonly Row[] = [
  row('200', 'ok', 200, 'OK', SENT),
  row('404 UNREGISTERED', 'unregistered', 404, 'UNREGISTERED', DEAD),
  row('403 SENDER_ID_MISMATCH', 'sender_id_mismatch', 403, 'SENDER_ID_MISMATCH', DEAD),
  row('400 naming the token', 'invalid_token', 400, 'INVALID_ARGUMENT', DEAD),
  row('400 otherwise', 'invalid_argument', 400, 'INVALID_ARGUMENT', OUR_BUG),
  row('401 twice', 'unauthenticated', 401, 'UNAUTHENTICATED', PAUSED),
  row('403 without an FcmError', 'forbidden', 403, 'PERMISSION_DENIED', PAUSED),
  row('404 without an FcmError', 'not_found', 404, 'NOT_FOUND', PAUSED),
  row('429', 'quota', 429, 'QUOTA_EXCEEDED', BACKOFF),
  row('429, Retry-After', { mode: 'quota', ...asked }, 429, 'QUOTA_EXCEEDED', BACKOFF),
  row('500', 'internal', 500, 'INTERNAL', BACKOFF),
  row('502', 'bad_gateway', 502, 'UNAVAILABLE', BACKOFF),
  row('503', 'unavailable', 503, 'UNAVAILABLE', BACKOFF),
  row('503, Retry-After', { mode: 'unavailable', ...asked }, 503, 'UNAVAILABLE', BACKOFF),
  row('504', 'gateway_timeout', 504, 'DEADLINE_EXCEEDED', BACKOFF),
  row('network', 'accept_then_reset', null, 'NETWORK', BACKOFF),
  row('timeout', 'hang', null, 'TIMEOUT', BACKOFF),
]
/** An hour: no retry comes within a test. */
const RETRY_BASE_MS = 3_600_000

const fcm = await startFakeFcm()
t.teardown(() => fcm.close())
const env = {
  ...pushSettings(fcm),
  FCM_RETRY_BASE_MS: String(RETRY_BASE_MS),
  FCM_TIMEOUT_MS: '4000',
}
const shared = await startService(t, { env })
let devices = 0

/** A device that is in touch; FCM knows its push token. */
async function inTouch(
  service: Running,
  kind: PushKind = 'token',
): Promise<Enrolled & { readonly pushToken: string }> {
  devices += 1
  const pushToken = `push-${devices}`
  fcm.register(pushToken, () => {}, kind)
  const device = await service.enroll(`T${devices}`, { [WIRE_NAMES[kind]]: pushToken })
  await service.call('POST', '/v1/heartbeat', { token: device.token, body: {} })
  return { ...device, pushToken }
}

const send = (service: Running, { deviceId }: Enrolled) =>
  service.call('POST', '/admin/command?wait_ms=10000', {
    body: { device_id: deviceId, action: 'ping' },
  })

/** A sender that was paused stays so, and what it shares a database with could send for it. */
const serviceFor = (t: Test, { pushState }: Row) =>
  pushState === 'paused' ? startService(t, { env }) : shared

const KINDS: readonly PushKind[] = ['token', 'fid']

for (const [expected, kind] of ROWS.flatMap((each) => KINDS.map((of) => [each, of] as const))) {
  const { fault, httpCode, fcmStatus, pushState, status } = expected
  t.test(`${fault}, ${kind}: ${pushState}, ${expected.verdict}`, async (t) => {
    const service = await serviceFor(t, expected)
    const device = await inTouch(service, kind)
    fcm.setMode({
      fcm: ({ pushToken }) => (pushToken === device.pushToken ? expected.behaviour : 'ok'),
    })
    t.teardown(() => fcm.setMode({ fcm: 'ok' }))
    const response = await send(service, device)
    const push = { attempts: 1, state: pushState, fcm_http_code: httpCode, fcm_status: fcmStatus }
    t.match(response, { status: 202, body: { status, push } })

    const id: string = response.body.request_id
    const { body: story } = await service.call('GET', `/admin/commands/${id}`)
    t.match(story, { status, push, verdict: { code: expected.verdict } })
    const named = httpCode === null ? fcmStatus : `${httpCode} ${fcmStatus}`
    if (pushState !== 'sent') t.match(story.verdict.detail, `Its last push: ${named}.`)
    const [accepted, attempt, ...more] = story.timeline
    t.same([accepted.stage, more], ['accepted', []])
    const stage = pushState === 'sent' ? 'push_sent' : 'push_failed'
    const isAgain = pushState === 'backoff' || pushState === 'paused'
    const detail = { attempt: 1, fcm_http_code: httpCode, push_kind: kind }
    t.match(attempt, { stage, code: fcmStatus, detail })
    t.equal(typeof attempt.detail.retry_at, isAgain ? 'string' : 'object', 'null, or when')

    const isIt = (event: string) => (line: { readonly event: string }) =>
      line.event === event && Reflect.get(line, 'request_id') === id
    const line = await service.lines.waitFor(
      isIt(pushState === 'sent' ? 'dispatch.sent' : 'dispatch.fail'),
    )
    t.match(line, { fcm_http_code: httpCode, fcm_status: fcmStatus, attempt: 1, push_kind: kind })
    t.equal(Object.keys(line).at(-1), 'push_kind')
    if (pushState !== 'sent') t.match(line, { final: !isAgain, level: isAgain ? 'WARN' : 'ERROR' })
    if (pushState === 'paused') await service.lines.waitFor(({ event }) => event === 'push.paused')
    else t.same(service.lines.of('push.paused'), [])

    const db = await connect(t, service.databaseUrl)
    const text = 'select fcm_token, fid, fcm_token_died_at from devices where device_id = $1'
    const { rows } = await db.query(text, [device.deviceId])
    t.equal(rows[0][WIRE_NAMES[kind]], device.pushToken)
    t.same(fcm.journal.at(-1)?.pushKind, kind)
    t.equal(rows[0].fcm_token_died_at !== null, expected.isTokenDead === true)

    const { token } = device
    const beat = await service.call('POST', '/v1/heartbeat', { token, body: {} })
    t.match(beat.body.commands, [{ request_id: id, attempt: '2' }], 'the mailbox delivers')
  })
}

t.test('401 once: a fresh access token, the same attempt, sent', async (t) => {
  const device = await inTouch(shared)
  fcm.revokeAccessTokens()
  t.match(await send(shared, device), {
    status: 202,
    body: { status: 'sent', push: { attempts: 1, fcm_http_code: 200, fcm_status: 'OK' } },
  })
})

t.test('with FCM down a command comes with the next heartbeat, and ends', async (t) => {
  const gone = await startFakeFcm()
  const service = await startService(t, {
    env: {
      ...env,
      FCM_BASE_URL: gone.baseUrl,
      FIREBASE_SERVICE_ACCOUNT_JSON: gone.serviceAccount.json,
    },
  })
  await gone.close()
  const device = await inTouch(service)
  const response = await send(service, device)
  const id: string = response.body.request_id
  t.match(response.body, { status: 'queued', push: { state: 'backoff', fcm_http_code: null } })
  const read = async () => (await service.call('GET', `/admin/commands/${id}`)).body
  t.match(await read(), { verdict: { code: 'push_backoff', detail: /Its last push: NETWORK\.$/ } })

  const { token } = device
  const beat = await service.call('POST', '/v1/heartbeat', { token, body: {} })
  t.match(beat.body.commands, [{ request_id: id, action: 'ping', attempt: '2' }])
  t.match(await read(), { status: 'delivered' })
  const body = { request_id: id, outcome: 'success' }
  await service.call('POST', '/v1/action-result', { token, body })
  t.match(await read(), { status: 'completed', verdict: { code: 'completed' } })
})
