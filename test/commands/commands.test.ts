/** POST /admin/command and what admins read, list and cancel. */
import t from 'tap'
import { verifyCommandData } from '../../sim/device/verify-command.ts'
import { pushSettings, startFakeFcm } from '../../sim/fcm/fake-fcm.ts'
import { until } from '../../testkit/until.ts'
import { connect } from '../helpers/database.ts'
import { startService } from '../helpers/service.ts'

const fcm = await startFakeFcm()
t.teardown(() => fcm.close())
const service = await startService(t, {
  env: pushSettings(fcm),
})
const db = await connect(t, service.databaseUrl)
let devices = 0

/** A device whose push token works. */
function enroll() {
  devices += 1
  const fcmToken = `push-${devices}`
  fcm.register(fcmToken, () => {})
  return service.enroll(`C${devices}`, { fcm_token: fcmToken })
}

function send(
  body: object,
  headers: Readonly<Record<string, string>> = {},
  query = '?wait_ms=10000',
) {
  return service.call('POST', `/admin/command${query}`, { body, headers })
}

const read = (requestId: string, query = '') =>
  service.call('GET', `/admin/commands/${requestId}${query}`)

const cancel = (requestId: string) => service.call('DELETE', `/admin/commands/${requestId}`)

const sendsOf = (requestId: string) =>
  fcm.journal.filter(({ data }) => data['request_id'] === requestId).length

const shared = await enroll()
const PUSH = { received_at: null, priority: null, original_priority: null }

t.test('a command is accepted, pushed once and answered with how the push went', async (t) => {
  const body = { device_id: shared.deviceId, action: 'ring', request_id: 'one', ttl_s: 30 }
  const response = await send({ ...body, params: { tone: 'loud', note: '' } })
  t.equal(response.status, 202)
  const { expires_at, ...rest } = response.body
  t.same(rest, {
    request_id: 'one',
    device_id: shared.deviceId,
    alias: 'C1',
    action: 'ring',
    status: 'sent',
    push: { ...PUSH, ...{ state: 'sent', attempts: 1, fcm_http_code: 200, fcm_status: 'OK' } },
    duplicate: false,
  })
  const { rows } = await db.query(
    `select created_at + interval '30 s' as expires_at from commands where request_id = 'one'`,
  )
  const inMs = rows[0].expires_at.toISOString()
  t.equal(`${expires_at.slice(0, 23)}Z`, inMs)
  const message = await fcm.waitForSend(({ data }) => data['request_id'] === 'one')
  t.match(message, {
    pushToken: 'push-1',
    data: { action: 'ring', tone: 'loud', note: '', expires_at: inMs, attempt: '1' },
    android: { priority: 'HIGH', ttl: /^(2\d|30)s$/ },
  })
})

t.test('a repeat is answered as the command stands, and nothing is sent', async (t) => {
  const keys: [name: string, body: object, headers: Readonly<Record<string, string>>][] = [
    ['body', { request_id: 'again-body' }, {}],
    ['header', {}, { 'idempotency-key': 'again-header' }],
    ['both', { request_id: 'again-both' }, { 'idempotency-key': 'not-this' }],
  ]
  for (const [name, key, headers] of keys) {
    const body = { device_id: shared.deviceId, action: 'ping', ...key }
    const first = await send({ ...body, params: { a: '1', b: '2' } }, headers)
    t.match(first, { status: 202, body: { request_id: `again-${name}`, duplicate: false } })
    const again = await send({ ...body, params: { b: '2', a: '1' }, ttl_s: 60 }, headers)
    t.same([again.status, again.body], [200, { ...first.body, duplicate: true }], name)
    const { device_id: _, ...byAlias } = { ...body, alias: 'C1', params: { a: '1', b: '2' } }
    t.match(await send(byAlias, headers), { status: 200, body: { duplicate: true } })
    t.equal(sendsOf(`again-${name}`), 1)

    for (const other of [{ params: { a: '1' } }, { action: 'ring' }, { params: undefined }]) {
      const refused = await send({ ...body, params: { a: '1', b: '2' }, ...other }, headers)
      t.match(refused, { status: 409, body: { code: 'request_id_conflict' } }, name)
      t.match(refused.body.detail, `again-${name}`)
    }
  }
  const other = await enroll()
  const conflict = { device_id: other.deviceId, action: 'ping', request_id: 'again-body' }
  t.match(await send({ ...conflict, params: { a: '1', b: '2' } }), { status: 409 })
})

t.test('without a key the ingress id becomes the command’s, once', async (t) => {
  const headers = { 'x-request-id': 'ingress-1' }
  const body = { device_id: shared.deviceId, action: 'ping' }
  const first = await send(body, headers)
  t.match(first, { status: 202, requestId: 'ingress-1', body: { request_id: 'ingress-1' } })
  for (const other of [{ ...body, action: 'ring' }, body]) {
    const refused = await send(other, headers)
    t.match(refused, {
      status: 409,
      body: {
        code: 'request_id_conflict',
        request_id: 'ingress-1',
        detail: /already has the X-Request-ID ingress-1/,
      },
    })
  }
  t.equal(sendsOf('ingress-1'), 1, 'and nothing is sent')
  const key = { ...headers, 'idempotency-key': 'ingress-1' }
  t.match(await send(body, key), { status: 200, body: { duplicate: true } }, 'a key may repeat it')
  const made = await send(body)
  t.equal(made.body.request_id, made.requestId)
})

t.test('what is not valid is refused with the field that is to blame', async (t) => {
  const ok = { device_id: shared.deviceId, action: 'ping' }
  const { device_id, action } = ok
  const reserved = `request_id correlation_id device_id action ts hmac hmac2 expires_at attempt from
    message_type collapse_key google google_x googlex gcm gcm_x`.split(/\s+/)
  const cases: [body: object, field: string][] = [
    [{ action }, 'device_id'],
    [{ action, device_id, alias: 'C1' }, 'device_id'],
    [{ action, device_id: 'D01' }, 'device_id'],
    [{ action, alias: '-x' }, 'alias'],
    [{ device_id }, 'action'],
    [{ ...ok, params: [] }, 'params'],
    [{ ...ok, params: 'x' }, 'params'],
    [{ ...ok, params: { a: 1 } }, 'params.a'],
    [{ ...ok, params: { a: null } }, 'params.a'],
    [{ ...ok, params: { A: 'x' } }, 'params.A'],
    [{ ...ok, params: { '1a': 'x' } }, 'params.1a'],
    [{ ...ok, params: { ['a'.repeat(65)]: 'x' } }, `params.${'a'.repeat(64)}`],
    [{ ...ok, params: { a: '\0' } }, 'params.a'],
    [{ ...ok, params: { a: '\ud800' } }, 'params.a'],
    [{ ...ok, params: { a: 'x'.repeat(3_000) } }, 'params'],
    [{ ...ok, params: { a: 'é'.repeat(1_500) } }, 'params'],
    [{ ...ok, ttl_s: 29 }, 'ttl_s'],
    [{ ...ok, ttl_s: 604_801 }, 'ttl_s'],
    [{ ...ok, ttl_s: 30.5 }, 'ttl_s'],
    [{ ...ok, ttl_s: '60' }, 'ttl_s'],
    [{ ...ok, request_id: 'a b' }, 'request_id'],
    [{ ...ok, request_id: 'x'.repeat(129) }, 'request_id'],
    [{ ...ok, request_id: '' }, 'request_id'],
    ...reserved.map((name): [object, string] => [
      { ...ok, params: { [name]: 'x' } },
      `params.${name}`,
    ]),
  ]
  for (const [body, field] of cases) {
    const response = await send(body)
    const title = `${field}: ${JSON.stringify(body).slice(50, 90)}`
    t.match(response, { status: 422, body: { code: 'invalid_field', errors: [{ field }] } }, title)
  }
  for (const unknown of ['wipe', 'PING', 'ping ', 'constructor']) {
    t.match(await send({ ...ok, action: unknown }), {
      status: 422,
      body: { code: 'action_unknown' },
    })
  }
  for (const wait of ['-1', '10001', 'x', '1e3']) {
    t.match(await send(ok, {}, `?wait_ms=${wait}`), { status: 422 }, `wait_ms=${wait}`)
  }
  t.match(await send([]), { status: 400, body: { code: 'bad_json' } })
})

t.test('names that only look reserved reach the phone, signed', async (t) => {
  const names = `from_x xfrom message_types message_id collapse_keys collapse notification priority
    to registration_id goog gc rawdata`.split(/\s+/)
  const params = Object.fromEntries(names.map((name) => [name, `value of ${name}`]))
  const device = await service.enroll('whole', { fcm_token: 'whole' })
  const received = new Promise<Readonly<Record<string, string>>>((resolve) => {
    fcm.register('whole', resolve)
  })
  t.match(await send({ alias: 'whole', action: 'ring', params }), { body: { status: 'sent' } })
  const data = await received
  t.match(data, params)
  t.same(verifyCommandData(data, device.hmacKey), { hmac: true, hmac2: true })
})

t.test('the largest params and lifetime are taken', async (t) => {
  const params = { ['a'.repeat(64)]: 'x'.repeat(2_936) }
  const body = { device_id: shared.deviceId, action: 'ping', params, ttl_s: 604_800 }
  t.match(await send(body), { status: 202, body: { status: 'sent' } })
})

t.test('an unknown device is 404, a deleted one 410', async (t) => {
  const unknown = { code: 'device_unknown' }
  const action = 'ping'
  const device_id = '6377acb3-0000-4000-8000-000000000025'
  t.match(await send({ action, device_id }), { status: 404, body: unknown })
  t.match(await send({ action, alias: 'nobody' }), { status: 404, body: unknown })
  const device = await enroll()
  const body = { action, device_id: device.deviceId, request_id: 'before-deletion' }
  await send(body)
  await service.call('DELETE', `/admin/devices/${device.deviceId}`)
  const gone = await send({ action, device_id: device.deviceId })
  t.match(gone, { status: 410, body: { code: 'device_deleted' } })
  const repeat = { status: 200, body: { status: 'cancelled', duplicate: true } }
  t.match(await send(body), repeat, 'a repeat stays a repeat')
})

t.test('wait_ms=0 answers before the push, whatever FCM does', async (t) => {
  const device = await enroll()
  fcm.setMode({ fcm: ({ pushToken }) => (pushToken === `push-${devices}` ? 'hang' : 'ok') })
  t.teardown(() => fcm.setMode({ fcm: 'ok' }))
  const response = await send({ device_id: device.deviceId, action: 'ping' }, {}, '?wait_ms=0')
  const push = { state: 'waiting', attempts: 0, fcm_http_code: null }
  t.match(response, { status: 202, body: { status: 'queued', push } })
  const held = await send({ device_id: device.deviceId, action: 'ping' }, {}, '?wait_ms=50')
  t.match(held, { status: 202, body: { status: 'queued' } })
  await until(async () => (await read(held.body.request_id)).body.push.state === 'sending')
})

t.test('a command tells its story', async (t) => {
  await send({ device_id: shared.deviceId, action: 'ping', request_id: 'story' })
  const { status, body } = await read('story')
  t.equal(status, 200)
  t.match(body, {
    request_id: 'story',
    device_id: shared.deviceId,
    alias: 'C1',
    action: 'ping',
    admin: 'tester',
    status: 'sent',
    result: null,
    verdict: { code: 'device_never_seen', detail: String },
    timeline: [
      { stage: 'accepted', at: /Z$/, instance: String, detail: { admin: 'tester' } },
      {
        stage: 'push_sent',
        code: 'OK',
        detail: { attempt: 1, fcm_http_code: 200, latency_ms: Number, retry_at: null },
      },
    ],
  })
  t.match(await read('nobody'), { status: 404, body: { code: 'command_unknown' } })
  t.match(await read('a%20b'), { status: 404, body: { code: 'command_unknown' } })
  t.match(await read('story', '?wait_ms=30001'), { status: 422 })
})

t.test('a waiting GET ends when the result comes', async (t) => {
  await send({ device_id: shared.deviceId, action: 'ping', request_id: 'awaited' })
  const waiting = read('awaited', '?wait_ms=30000')
  const body = { request_id: 'awaited', outcome: 'success' }
  await service.call('POST', '/v1/action-result', { token: shared.token, body })
  t.match(await waiting, { status: 200, body: { status: 'completed' } })
})

t.test('an open command is cancelled once', async (t) => {
  await send({ device_id: shared.deviceId, action: 'ping', request_id: 'cancelled' })
  const first = await cancel('cancelled')
  t.match(first, { status: 200, body: { request_id: 'cancelled', status: 'cancelled' } })
  t.match(await cancel('cancelled'), { status: 409, body: { code: 'command_ended' } })
  t.match(await cancel('nobody'), { status: 404, body: { code: 'command_unknown' } })
  const { body } = await read('cancelled')
  t.equal(body.verdict.code, 'cancelled')
  t.match(body.timeline.at(-1), { stage: 'cancelled', detail: { admin: 'tester' } })
  const line = await service.lines.waitFor(
    (one) => one.event === 'command.cancelled' && one['request_id'] === 'cancelled',
  )
  t.match(line, { action: 'ping', admin: 'tester', reason: 'admin', device_id: shared.deviceId })
  const { audit } = (await service.call('GET', '/admin/audit?limit=500')).body
  const own = audit.filter(({ subject }: { subject: string }) => subject === 'cancelled')
  t.match(own, [{ what: 'command.cancel', admin: 'tester' }, { what: 'command.create' }])
  t.equal(own.length, 2, 'audited, each once')
})

t.test('lists are filtered, newest first, page by page', async (t) => {
  const device = await enroll()
  const ids = Array.from({ length: 5 }, (_, i) => `list-${i}`)
  for (const [i, request_id] of ids.entries()) {
    await send({ device_id: device.deviceId, action: i % 2 ? 'ring' : 'ping', request_id })
  }
  await cancel('list-0')
  const list = async (query: string) =>
    (await service.call('GET', `/admin/commands?device_id=${device.deviceId}${query}`)).body
  const idsOf = (body: { commands: { request_id: string }[] }) =>
    body.commands.map((command) => command.request_id)
  t.same(idsOf(await list('')), [...ids].reverse())
  t.same(idsOf(await list('&action=ring')), ['list-3', 'list-1'])
  t.same(idsOf(await list('&status=cancelled')), ['list-0'])
  t.same(idsOf(await list('&status=sent&action=ping')), ['list-4', 'list-2'])
  const pages: string[][] = []
  let cursor: string | null = ''
  while (cursor !== null) {
    const page = await list(`&limit=2${cursor === '' ? '' : `&cursor=${cursor}`}`)
    pages.push(idsOf(page))
    cursor = page.next_cursor
  }
  t.same(pages, [['list-4', 'list-3'], ['list-2', 'list-1'], ['list-0']])
  t.equal((await list('&limit=5')).next_cursor, null, 'a full last page is the last')
  const bad = ['limit=0', 'limit=501', 'cursor=x', 'status=open', 'device_id=x']
  for (const query of bad) {
    t.equal((await service.call('GET', `/admin/commands?${query}`)).status, 422, query)
  }
})
