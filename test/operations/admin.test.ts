/** Admins: who may do what, and the fleet, its tokens and its history as lists. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { makeApk } from '../../sim/apk.ts'
import type { LogLine } from '../../testkit/log-book.ts'
import type { TestResponse } from '../helpers/client.ts'
import { connect } from '../helpers/database.ts'
import { ADMIN, startService } from '../helpers/service.ts'

const SECOND_ADMIN = 'next-admin-token-Qd8vXr2kWz9mBt4sLh7cYp3n'
const SCOPES = ['command', 'enroll', 'apk', 'metrics', 'read'] as const
const JSON_TYPE = { 'content-type': 'application/json' }
const UNKNOWN_ID = '018f0000-0000-7000-8000-000000000000'
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z$/

/** Of an admin with this scope alone. */
const scoped = (scope: string) => `${scope}-admin-token-Qd8vXr2kWz9mBt4sLh7cYp3n`

const service = await startService(t, {
  env: {
    ADMIN_TOKENS: [
      `tester=${ADMIN}`,
      `tester-next=${SECOND_ADMIN}`,
      ...SCOPES.map((scope) => `${scope}-only:${scope}=${scoped(scope)}`),
    ].join(','),
  },
})
const db = await connect(t, service.databaseUrl)
const get = (path: string) => service.call('GET', path)
const bodyOf = (method: string) => (/^P(OST|ATCH)$/.test(method) ? { body: {} } : {})

/** All lines of the answered request, its terminal line last. */
async function story({ requestId }: TestResponse): Promise<readonly LogLine[]> {
  await service.lines.terminalOf(requestId)
  return service.lines.all.filter((line) => line['request_id'] === requestId)
}

/** Every row of a list, read in pages of `limit`. */
async function readAll<Row>(t: Test, path: string, name: string, limit: number): Promise<Row[]> {
  const rows: Row[] = []
  let cursor: string | null = null
  do {
    const after: string = cursor === null ? '' : `&cursor=${encodeURIComponent(cursor)}`
    const { body } = await get(`${path}${path.includes('?') ? '&' : '?'}limit=${limit}${after}`)
    t.ok(body[name].length <= limit)
    t.ok(cursor === null || body[name].length > 0, 'a cursor leads to rows')
    rows.push(...body[name])
    cursor = body.next_cursor
  } while (cursor !== null)
  return rows
}

t.test('a scope opens its own routes and no others', async (t) => {
  for (const [method, path, ...scopes] of [
    ['POST', '/v1/enroll-tokens', 'enroll'],
    ['GET', '/v1/enroll-tokens', 'enroll', 'read'],
    ['DELETE', `/v1/enroll-tokens/${UNKNOWN_ID}`, 'enroll'],
    ['POST', '/admin/command', 'command'],
    ['POST', '/admin/commands', 'command'],
    ['GET', '/openapi.json', 'command', 'enroll', 'apk', 'metrics', 'read'],
    ['GET', '/admin/commands', 'command', 'read'],
    ['GET', '/admin/commands/none', 'command', 'read'],
    ['DELETE', '/admin/commands/none', 'command'],
    ['GET', '/admin/devices', 'read'],
    ['GET', `/admin/devices/${UNKNOWN_ID}`, 'read'],
    ['GET', `/admin/devices/${UNKNOWN_ID}/heartbeats`, 'read'],
    ['GET', '/admin/fleet', 'read'],
    ['DELETE', `/admin/devices/${UNKNOWN_ID}`],
    ['PATCH', `/admin/devices/${UNKNOWN_ID}`, 'command'],
    ['POST', '/admin/devices/labels', 'command'],
    ['PUT', '/admin/apk/builds/none', 'apk'],
    ['GET', '/admin/apk/builds', 'apk', 'read'],
    ['GET', '/admin/apk/builds/none/download', 'apk', 'read'],
    ['GET', '/v1/apk/download-latest', 'apk'],
    ['GET', '/admin/audit', 'read'],
    ['GET', '/admin/events', 'read'],
    ['GET', '/metrics', 'metrics'],
  ] as const) {
    for (const scope of SCOPES) {
      const response = await service.call(method, path, { token: scoped(scope), ...bodyOf(method) })
      const isAllowed = (scopes as readonly string[]).includes(scope)
      const what = `${scope}: ${method} ${path}`
      t.equal(response.status === 401 || response.status === 403, !isAllowed, what)
      if (isAllowed) continue
      t.match(response, { status: 403, body: { code: 'forbidden' } }, what)
      const denied = { event: 'sec.auth.denied', reason: 'scope', token_id: null }
      const lines = await story(response)
      t.match(
        lines.find((line) => line.event.startsWith('sec.')),
        denied,
      )
    }
    const full = await service.call(method, path, bodyOf(method))
    t.not(full.status, 401, path)
    t.not(full.status, 403, path)
  }
})

t.test('two tokens of one person work during a rotation, each under its name', async (t) => {
  for (const [token, name] of [
    [ADMIN, 'tester'],
    [SECOND_ADMIN, 'tester-next'],
  ] as const) {
    const body = { aliases: [null] }
    const response = await service.call('POST', '/v1/enroll-tokens', { token, body })
    t.equal(response.status, 201)
    t.match(await service.lines.terminalOf(response.requestId), {
      event: 'http.request',
      admin: name,
    })
    const { rows } = await db.query('select admin from audit_log where request_id = $1', [
      response.requestId,
    ])
    t.same(rows, [{ admin: name }])
  }
  const unknown = await service.call('GET', '/admin/devices', { token: `${ADMIN}x` })
  t.match(unknown, { status: 401, body: { code: 'token_unknown' } })
  t.match(await story(unknown), [{ event: 'sec.auth.denied', reason: 'unknown', status_code: 401 }])
})

t.test('a device is shown with its last status and no secret', async (t) => {
  const { deviceId, token } = await service.enroll('shown-1', {
    hardware_id: 'H1',
    model: 'R4S',
    manufacturer: 'Acme',
    android_version: '13',
    sdk_int: 33,
    fcm_token: 'fcm-1',
  })
  const path = `/admin/devices/${deviceId}`
  t.match((await get(path)).body, { last_seen_at: null, enrollment_no: 1, deleted_at: null })
  const status = { status: 'warn', battery_pct: 41, network_type: 'lte', uptime_s: 12_345_678 }
  await service.call('POST', '/v1/heartbeat', { token, body: status })
  const { body } = await get(path)
  t.match(body, { device_id: deviceId, alias: 'shown-1', hardware_id: 'H1', model: 'R4S' })
  t.match(body, { manufacturer: 'Acme', android_version: '13', sdk_int: 33, last_seen_at: TIME })
  t.match(body.last_status, status)
  t.match(body, { created_at: TIME, enrolled_at: TIME, offline_after_s: 1_500 })
  t.same((await get(path.toUpperCase().replace('/ADMIN/DEVICES', '/admin/devices'))).body, body)
  t.same((await get('/admin/devices?alias=shown-1')).body, { devices: [body], next_cursor: null })
})

t.test('labels are merged, removed, bounded, shown and audited', async (t) => {
  const { deviceId } = await service.enroll('label-1')
  const path = `/admin/devices/${deviceId}`
  const change = (labels: unknown) => service.call('PATCH', path, { body: { labels } })
  t.same((await get(path)).body.labels, {})
  const { body } = await change({ site: 'zrh', empty: '', note: 'on loan 📱' })
  t.same(body.labels, { site: 'zrh', empty: '', note: 'on loan 📱' })
  const next = await change({ site: 'bern', empty: null, none: null })
  t.same(next.body, { ...body, labels: { site: 'bern', note: 'on loan 📱' } })
  t.same((await get(path)).body, next.body)
  t.equal((await change({ site: 'bern', none: null })).status, 200)
  const { body: audit } = await get(`/admin/audit?subject=${deviceId}`)
  const told = audit.audit.filter(({ what }: { what: string }) => what === 'device.label')
  t.equal(told.length, 2, 'no entry for what changed nothing')
  const detail = { alias: 'label-1', labels: { site: 'bern', empty: null, none: null } }
  t.same(told[0].detail, detail)
  t.match(told[0], { admin: 'tester', request_id: next.requestId })

  const many = numbered(15)
  for (const [labels, field, hint] of [
    [undefined, 'labels', 'is required'],
    [null, 'labels', 'is required'],
    [{}, 'labels', 'must name a label'],
    ['site=zrh', 'labels', 'must be an object of strings'],
    [{ Site: 'x' }, 'labels.Site', 'names must match ^[a-z][a-z0-9._-]{0,31}$'],
    [JSON.parse('{"__proto__":"x"}'), 'labels.__proto__', 'names must match'],
    [{ ['a'.repeat(33)]: 'x' }, `labels.${'a'.repeat(33)}`, 'names must match'],
    [{ site: 7 }, 'labels.site', 'must be a string'],
    [{ site: 'x'.repeat(64) }, 'labels.site', 'must be at most 63 characters'],
    [{ site: 'a\u202eb' }, 'labels.site', 'holds U+202E'],
    [{ site: 'a\nb' }, 'labels.site', 'holds U+000A'],
    [many, 'labels', 'label-1 would have more than 16 labels'],
    [numbered(33), 'labels', 'may name at most 32 labels, not 33'],
  ] as const) {
    const { status, body } = await change(labels)
    t.match([status, body.code, body.errors?.[0].field], [422, 'invalid_field', field])
    t.match(body.errors[0].message, hint)
  }
  t.same((await get(path)).body.labels, { site: 'bern', note: 'on loan 📱' })
  const full = await change({ ...numbered(14), site: null, ['k'.repeat(32)]: 'x'.repeat(63) })
  t.equal(Object.keys(full.body.labels).length, 16, 'as many as may be')

  await service.call('DELETE', path)
  t.match(await change({ site: 'x' }), { status: 404, body: { code: 'device_unknown' } })
})

t.test('labels of a selection: as announced, all or none', async (t) => {
  const ids: string[] = []
  for (const n of [1, 2, 3]) ids.push((await service.enroll(`shelf-${n}`)).deviceId)
  const change = (body: object) => service.call('POST', '/admin/devices/labels', { body })
  const labelsOf = async () => {
    const { body } = await get('/admin/devices?where=alias:shelf-*&order=alias')
    return body.devices.map(({ labels }: { labels: object }) => labels)
  }
  const sample = ids.map((device_id, n) => ({ device_id, alias: `shelf-${n + 1}` }))
  const where = 'alias:shelf-*'
  const labels = { site: 'zrh' }
  const planned = await change({ where, labels, dry_run: true })
  t.same(planned.body, { devices: 3, changed: 3, dry_run: true, sample })
  t.same(await labelsOf(), [{}, {}, {}], 'a dry run changes nothing')
  await service.call('PATCH', `/admin/devices/${ids[0]}`, { body: { labels } })
  const done = await change({ where, labels, expect_devices: 3 })
  t.same(done.body, { devices: 3, changed: 2, dry_run: false, sample })
  t.same(await labelsOf(), [labels, labels, labels])
  const selected = await get('/admin/devices?where=label:site=z*%20alias:shelf-*')
  t.equal(selected.body.devices.length, 3)

  for (const dry_run of [true, false]) {
    const more = { labels: { ring: 'x' }, dry_run }
    const changed = await change({ where, ...more, expect_devices: 2 })
    t.match(changed, { status: 409, body: { code: 'selection_changed' } })
    t.match(changed.body.detail, 'has 3 devices, not 2. Nothing was changed.')
    const nobody = await change({ where: 'alias:nobody', ...more })
    t.match(nobody, {
      status: 422,
      body: { code: 'selection_empty', errors: [{ field: 'where' }] },
    })
    for (const [field, asked] of [
      ['where', { ...more }],
      ['where', { where: 7, ...more }],
      ['where', { where: 'vesion_code<42', ...more }],
      ['labels', { where, dry_run }],
      ['expect_devices', { where, ...more, expect_devices: -1 }],
      ['expect_devices', { where, ...more, expect_devices: '3' }],
      ['dry_run', { where, ...more, dry_run: 'yes' }],
    ] as const) {
      const { status, body } = await change(asked)
      t.match([status, body.code, body.errors?.[0].field], [422, 'invalid_field', field])
    }
  }
  await service.call('PATCH', `/admin/devices/${ids[1]}`, { body: { labels: numbered(15) } })
  for (const dry_run of [true, false]) {
    const overfull = await change({ where, labels: { ring: 'x' }, dry_run })
    t.match(overfull, { status: 422, body: { code: 'invalid_field' } })
    t.match(overfull.body.detail, 'shelf-2 would have more than 16 labels')
  }
  t.same((await labelsOf())[0], labels, 'none was changed')
  const swapped = await change({ where, labels: { ring: 'x', n0: null } })
  t.same(swapped.body.changed, 3)

  const { body: audit } = await get('/admin/audit?admin=tester&limit=8')
  const own = audit.audit.filter(
    ({ request_id }: { request_id: string }) => request_id === swapped.requestId,
  )
  const detail = { where, labels: { ring: 'x', n0: null }, devices: 3, changed: 3 }
  const entry = own.find(({ what }: { what: string }) => what === 'devices.label')
  t.match(entry, { subject: swapped.requestId })
  t.same(entry.detail, detail)
  const subjects = own.map(({ subject }: { subject: string }) => subject)
  t.same(new Set(subjects), new Set([...ids, swapped.requestId]))
})

t.test('a selection with 65 wildcards is refused wherever one is taken', async (t) => {
  const where = `alias:${'x*,'.repeat(64)}*`
  const inQuery = encodeURIComponent(where)
  for (const answer of [
    await service.call('GET', `/admin/devices?where=${inQuery}`),
    await service.call('GET', `/admin/fleet?where=${inQuery}`),
    await service.call('POST', '/admin/devices/labels', { body: { where, labels: { a: '1' } } }),
    await service.call('POST', '/admin/jobs', { body: { where, job_id: 'many', action: 'ping' } }),
  ]) {
    t.match(answer, { status: 422, body: { code: 'invalid_field', errors: [{ field: 'where' }] } })
    t.match(answer.body.errors[0].message, / at 1: at most 64 `\*`/)
  }
})

t.test('two changes of one selection at once do not hurt each other', async (t) => {
  const change = (labels: object) =>
    service.call('POST', '/admin/devices/labels', { body: { where: 'alias:shelf-*', labels } })
  const both = await Promise.all([
    change({ left: 'a', n1: null }),
    change({ right: 'b', n2: null }),
  ])
  t.same(
    both.map(({ status }) => status),
    [200, 200],
  )
  await db.query('begin')
  await db.query(`select pg_advisory_xact_lock(hashtextextended('device-labels', 0))`)
  t.match(await change({ left: null }), { status: 503, body: { code: 'overloaded' } })
  await db.query('rollback')
  const { body } = await get('/admin/devices?where=label:left%20label:right')
  t.equal(body.devices.length, 3)
})

t.test('an enrollment token gives its labels to what enrolls with it', async (t) => {
  const issue = async (body: object, headers = {}) =>
    service.call('POST', '/v1/enroll-tokens', { body: { aliases: ['tag-1'], ...body }, headers })
  const enroll = async (body: object) => {
    const issued = await issue(body)
    const [{ token }] = issued.body.tokens
    return (await service.call('POST', '/v1/register', { token, body: {} })).body.device_id
  }
  const deviceId = await enroll({ labels: { site: 'zrh', ring: 'a' } })
  const path = `/admin/devices/${deviceId}`
  t.same((await get(path)).body.labels, { site: 'zrh', ring: 'a' })
  await service.call('PATCH', path, { body: { labels: { own: 'x' } } })
  t.equal(await enroll({ labels: { ring: 'b' } }), deviceId)
  t.same((await get(path)).body.labels, { site: 'zrh', ring: 'b', own: 'x' })
  t.equal(await enroll({}), deviceId)
  t.same((await get(path)).body.labels, { site: 'zrh', ring: 'b', own: 'x' })
  await enroll({ labels: { ...numbered(14), ring: 'c' } })
  const kept = { ...numbered(14), ring: 'c', own: 'x' }
  t.same((await get(path)).body.labels, kept, 'as many of its own as still fit')

  const { body: listed } = await get('/v1/enroll-tokens?alias=tag-1')
  const [newest, , second] = listed.tokens
  t.same([newest.labels, second.labels], [{ ...numbered(14), ring: 'c' }, { ring: 'b' }])
  const keyed = { 'idempotency-key': 'labelled-batch' }
  t.equal((await issue({ labels: { b: '2', a: '1' } }, keyed)).status, 201)
  t.equal((await issue({ labels: { a: '1', b: '2' } }, keyed)).status, 200)
  t.equal((await issue({ labels: { a: '1' } }, keyed)).status, 409)
  for (const [labels, field] of [
    [[], 'labels'],
    [numbered(17), 'labels'],
    [{ site: null }, 'labels.site'],
    [{ 'a b': 'x' }, 'labels.a b'],
  ] as const) {
    const { status, body } = await issue({ labels })
    t.match([status, body.errors?.[0].field], [422, field])
  }
})

/** So many labels. */
function numbered(count: number): Readonly<Record<string, string>> {
  return Object.fromEntries(Array.from({ length: count }, (_, n) => [`n${n}`, 'x']))
}

t.test('the heartbeats of a device, one by one and in steps', async (t) => {
  const { deviceId, token } = await service.enroll('history-1')
  const path = `/admin/devices/${deviceId}/heartbeats`
  t.same((await get(path)).body, { heartbeats: [], next_cursor: null })
  const body = { battery_pct: 41, temp_c: 31.5, network_type: 'lte', uptime_s: 4_000_000_000 }
  const beat = await service.call('POST', '/v1/heartbeat', { token, body })
  const [newest] = (await get(path)).body.heartbeats
  const status = (await get(`/admin/devices/${deviceId}`)).body.last_status
  t.match(newest, { ...status, received_at: TIME, reported_at: null, request_id: beat.requestId })
  t.match(newest, body)
  const { body: none } = await get(`${path}?until=2026-01-31T08:00:00Z`)
  t.same(none.heartbeats, [])

  const unknown = await get(`/admin/devices/${UNKNOWN_ID}/heartbeats`)
  t.match(unknown, { status: 404, body: { code: 'device_unknown' } })
  for (const [query, field, hint] of [
    ['step_s=70', 'step_s', 'must divide a day'],
    ['step_s=59', 'step_s', 'must be 60 to 86400'],
    ['step_s=86401', 'step_s', 'must be 60 to 86400'],
    ['since=yesterday', 'since', 'must be a time'],
    ['until=', 'until', 'must be a time'],
    ['since=2026-02-01T00:00:00Z&until=2026-01-01T00:00:00Z', 'since', 'is later than until'],
  ] as const) {
    const { status, body } = await get(`${path}?${query}`)
    t.match([status, body.errors?.[0].field], [422, field])
    t.match(body.errors[0].message, hint)
  }
  const { body: steps } = await get(`${path}?step_s=86400&limit=1`)
  const numbers = { battery_pct: 41, uptime_s: 4_000_000_000, temp_c: 31.5, signal_dbm: null }
  const whole = { ...numbers, ram_used_mb: null }
  t.match(steps, { steps: [{ heartbeats: 1, from: TIME }], next_cursor: null })
  t.same(steps.steps[0], { ...steps.steps[0], min: whole, max: whole, last: newest })
  const ofSteps = Buffer.from(JSON.stringify([newest.received_at, '0', 'heartbeats by 60 s']))
  const cursor = ofSteps.toString('base64url')
  t.equal((await get(`${path}?cursor=${cursor}`)).status, 422, 'the cursor of another step')
  t.same((await get(`${path}?step_s=60&cursor=${cursor}`)).status, 200)
  await service.call('DELETE', `/admin/devices/${deviceId}`)
  t.equal((await get(path)).status, 404)
})

t.test('commands are filtered by alias and outcome, and waited for to their end', async (t) => {
  const { deviceId, token } = await service.enroll('filter-1')
  await service.enroll('filter-2')
  const send = (request_id: string, query = '?wait_ms=0', alias = 'filter-1') =>
    service.call('POST', `/admin/commands${query}`, { body: { alias, action: 'ping', request_id } })
  const answer = (request_id: string, outcome: string) =>
    service.call('POST', '/v1/action-result', { token, body: { request_id, outcome } })
  for (const [id, outcome] of [
    ['f1', 'success'],
    ['f2', 'failure'],
    ['f3', 'success'],
  ] as const) {
    t.match(await send(id), { status: 202, body: { request_id: id, status: 'queued' } })
    await answer(id, outcome)
  }
  t.match(await send('f1'), { status: 200, body: { duplicate: true, status: 'completed' } })
  const other = { alias: 'filter-1', action: 'ping', request_id: 'f1' }
  const sameKey = await service.call('POST', '/admin/command?wait_ms=0', { body: other })
  t.match(sameKey, { status: 200, body: { duplicate: true } }, 'both paths are one route')
  await send('f4', '?wait_ms=0', 'filter-2')
  const listed = async (query: string) => {
    const rows = await readAll<{ request_id: string }>(t, `/admin/commands?${query}`, 'commands', 1)
    return rows.map(({ request_id }) => request_id).join(' ')
  }
  t.equal(await listed('alias=filter-1'), 'f3 f2 f1')
  t.equal(await listed('alias=filter-2'), 'f4')
  t.equal(await listed('alias=nobody'), '')
  t.equal(await listed(`alias=filter-2&device_id=${deviceId}`), '', 'both must hold')
  t.equal(await listed(`alias=filter-1&device_id=${deviceId}&outcome=failure`), 'f2')
  t.equal(await listed('alias=filter-1&outcome=success'), 'f3 f1')
  t.equal(await listed('outcome=failure'), 'f2')
  t.equal(await listed('outcome=success&action=ping&status=completed'), 'f3 f1')
  t.equal(await listed('outcome=timeout&action=ping'), '')
  for (const [query, field] of [
    ['outcome=success&status=expired', 'outcome'],
    ['outcome=ok', 'outcome'],
    ['alias=filter-*', 'alias'],
  ] as const) {
    t.match(await get(`/admin/commands?${query}`), { status: 422, body: { errors: [{ field }] } })
  }

  const waited = send('f5', '?wait_for=end')
  const isAccepted = ({ event, request_id }: LogLine) =>
    event === 'dispatch.request' && request_id === 'f5'
  await service.lines.waitFor(isAccepted)
  await answer('f5', 'success')
  t.match(await waited, { status: 202, body: { status: 'completed', duplicate: false } })
  t.match(await send('f6', '?wait_for=push'), { status: 202, body: { status: 'queued' } })
  const pushed = await get('/admin/commands/f6?wait_for=push&wait_ms=30000')
  t.match(pushed, { status: 200, body: { status: 'queued' } }, 'push is off: nothing to wait for')
  for (const path of ['/admin/commands/f6?wait_for=result', '/admin/commands/f6?wait_for=']) {
    t.match(await get(path), { status: 422, body: { errors: [{ field: 'wait_for' }] } })
  }
})

t.test('the audit log is filtered by time and by kind of change', async (t) => {
  await db.query(
    `insert into audit_log (at, admin, what, subject, request_id, detail)
     select timestamptz '2026-01-31 09:00:00Z' + n * interval '1 min', case n % 2 when 0 then 'a' else 'b' end,
       case n % 3 when 0 then 'device.delete' else 'command.create' end, 's' || n % 4, 'r' || n, '{"alias":"kind-1"}'
     from generate_series(1, 12) n`,
  )
  const listed = async (query: string) => {
    const until = query.includes('until=') ? '' : 'until=2026-02-01T00:00:00Z&'
    const path = `/admin/audit?${until}${query}`
    const rows = await readAll<{ request_id: string }>(t, path, 'audit', 2)
    return rows.map(({ request_id }) => request_id).join(' ')
  }
  t.equal(await listed(''), 'r12 r11 r10 r9 r8 r7 r6 r5 r4 r3 r2 r1')
  t.equal(await listed('what=device.delete'), 'r12 r9 r6 r3')
  t.equal(await listed('what=device.delete&admin=a'), 'r12 r6')
  t.equal(await listed('what=device.delete&alias=kind-1&admin=b'), 'r9 r3')
  t.equal(await listed('what=command.create&subject=s2'), 'r10 r2')
  t.equal(await listed('what=command.create&subject=s2&alias=kind-1&admin=b'), '')
  t.equal(await listed('what=device.erase'), '')
  t.equal(await listed('since=2026-01-31T09:10:00Z'), 'r12 r11 r10')
  const minute = await get('/admin/audit?until=2026-01-31T09:02:00Z')
  t.match(minute.body.audit, [{ request_id: 'r1' }], 'until is not included')
  // A cursor that leads to later entries than `until` does not lift it.
  const { next_cursor } = (await get('/admin/audit?limit=1')).body
  const both = await get(`/admin/audit?until=2026-01-31T09:03:00Z&cursor=${next_cursor}`)
  t.match(both.body.audit, [{ request_id: 'r2' }, { request_id: 'r1' }])
  for (const [query, field] of [
    ['until=yesterday', 'until'],
    ['what=device', 'what'],
    ['what=device.*', 'what'],
    ['what=', 'what'],
    ['since=2026-02-01T00:00:00Z&until=2026-01-01T00:00:00Z', 'since'],
  ] as const) {
    t.match(await get(`/admin/audit?${query}`), { status: 422, body: { errors: [{ field }] } })
  }
  const { body: past } = await get('/admin/audit?what=device.deleted')
  t.match(past.errors, [{ field: 'what', message: /Did you mean device\.delete\?/ }])
  await db.query(`insert into audit_log (at, what, subject, request_id)
    values ('2026-01-30 09:00:00.123456Z', 'job.done', 'micro', 'micro')`)
  for (const [query, found] of [
    ['since=2026-01-30T09:00:00.123456Z&until=2026-01-30T09:00:00.123457Z', 'micro'],
    ['since=2026-01-30T09:00:00.123457Z&subject=micro', ''],
    ['until=2026-01-30T09:00:00.123456Z&subject=micro', ''],
  ] as const) {
    t.equal(await listed(query), found, query)
  }
})

t.test('openapi.json is served as it is in the repository', async (t) => {
  const response = await get('/openapi.json')
  t.equal(response.headers.get('content-type'), 'application/json')
  const file = fileURLToPath(new URL('openapi.json', import.meta.resolve('#package.json')))
  t.same(response.body, JSON.parse(readFileSync(file, 'utf8')))
  t.ok(response.text.length < 150_000, 'without white space')
})

t.test('an erased phone has left nothing but its device_id', async (t) => {
  const alias = 'erase-7.x'
  const labels = { owner: 'erase-owner' }
  const asked = { aliases: [alias], note: 'erase-note', labels, uses_allowed: 2 }
  const { body: issued } = await service.call('POST', '/v1/enroll-tokens', { body: asked })
  const enrollment: string = issued.tokens[0].token
  const about = { hardware_id: 'erase-hardware', model: 'erase-model', fcm_token: 'erase-push' }
  const registered = await service.call('POST', '/v1/register', { token: enrollment, body: about })
  const { device_id: deviceId, device_token: token } = registered.body
  const beat = { network_type: 'erase-net', app_version: 'erase-app', agent_version: 'erase-agent' }
  await service.call('POST', '/v1/heartbeat', { token, body: beat })
  await db.query(
    `insert into heartbeats (bucket, device_id, seq, received_at, status, request_id)
     values (now() - interval '90 days', $1, 0, now(), 'ok', 'erase-net-default')`,
    [deviceId],
  )
  await service.call('POST', '/v1/devices/push-id', { token, body: { fid: 'erase-fid' } })
  for (const n of [1, 2]) {
    const request_id = `erase-7.x-ring-${n}`
    const params = { text: 'erase-params' }
    await service.call('POST', '/admin/command?wait_ms=0', {
      body: { alias, action: 'ring', request_id, params },
    })
    if (n === 2) await service.call('DELETE', `/admin/commands/${request_id}`)
    const result = { request_id, outcome: 'failure', message: 'erase-message', output: 'erase-out' }
    await service.call('POST', '/v1/action-result', { token, body: result })
  }
  await service.call('PUT', '/admin/apk/builds/erasing?version_code=1', { raw: makeApk() })
  await service.call('GET', '/v1/apk/download-latest', { token })
  await service.call('GET', '/v1/apk/download-latest', { token: enrollment })
  const change = { labels: { shelf: 'erase-shelf' } }
  await service.call('PATCH', `/admin/devices/${deviceId}`, { body: change })
  const where = `alias:erase-7.x,erase-7.xy,other -label:gone`
  await service.call('POST', '/admin/devices/labels', { body: { where, labels: { ring: 'a' } } })
  const other = await service.enroll('erase-7.xy')

  const stored = async (text: string) => {
    const { rows } = await db.query<{ name: string }>(
      "select tablename as name from pg_tables where schemaname = 'public' order by 1",
    )
    const found: string[] = []
    for (const { name } of rows) {
      const sql = `select t::text as row from "${name}" t where t::text ilike $1`
      for (const { row } of (await db.query(sql, [`%${text}%`])).rows) found.push(`${name} ${row}`)
    }
    return found
  }
  const isOther = (row: string) => !/erase-(?!7\.xy)/.test(row)
  t.ok((await stored('erase-')).length > 12, 'much was known')
  const path = `/admin/devices/${deviceId}?erase=true`
  t.equal((await service.call('DELETE', path)).status, 204)
  t.same(
    (await stored('erase-')).filter((row) => !isOther(row)),
    [],
  )
  const left = await stored(deviceId)
  const ofPhones = ['device_status', 'device_tokens', 'devices']
  const tables = ['audit_log', ...ofPhones, 'enrollment_tokens', 'fleet_events']
  t.same([...new Set(left.map((row) => row.split(' ')[0]))], tables)
  const late = await service.call('POST', '/v1/heartbeat', { token, body: {} })
  t.match(late, { status: 410, body: { code: 'device_deleted' } }, 'its phone still learns it')
  const { body } = await get(`/admin/audit?subject=${deviceId}`)
  t.match(body.audit[0], { what: 'device.erase', admin: 'tester', detail: { alias: deviceId } })
  t.match((await get(`/admin/devices/${other.deviceId}`)).body, { alias: 'erase-7.xy' })
  const { rows: tokens } = await db.query('select * from enrollment_tokens where alias = $1', [
    deviceId,
  ])
  t.match(tokens, [{ note: null, revoked_at: Date, labels: {} }], 'what was left of it is revoked')

  t.equal((await service.call('DELETE', path)).status, 204, 'again')
  const unknown = await service.call('DELETE', `/admin/devices/${UNKNOWN_ID}?erase=true`)
  t.match(unknown, { status: 404, body: { code: 'device_unknown' } })
  const bad = await service.call('DELETE', `/admin/devices/${UNKNOWN_ID}?erase=yes`)
  t.match(bad, { status: 422, body: { errors: [{ field: 'erase' }] } })
})

t.test('what was set for an erased phone alone has gone with it', async (t) => {
  const labels = { owner: 'alone-label' }
  const asked = { aliases: [null], labels, note: 'alone-note' }
  const { body: issued } = await service.call('POST', '/v1/enroll-tokens', { body: asked })
  const [{ token_id: tokenId, token }] = issued.tokens
  const body = { alias: 'alone-1', model: 'alone-model' }
  const registered = await service.call('POST', '/v1/register', { token, body })
  const { device_id: deviceId } = registered.body
  await service.call('GET', '/v1/apk/download-latest', { token })
  const headers = { 'x-request-id': 'nightly' } // of every run
  const label = (where: string, more: object) =>
    service.call('POST', '/admin/devices/labels', { body: { where, labels: more }, headers })
  const wheres = ['alias:alone-1', `device:${deviceId}`, 'label:owner=alone-label', 'alias:alon*']
  for (const where of wheres) await label(where, { room: `alone-room-${wheres.indexOf(where)}` })
  for (const where of wheres.slice(0, 2)) await label(where, { room: 'alone-room-3' })
  const other = await service.enroll('other-1')
  await label('alias:other-1', { room: 'other-room' })
  const params = { text: 'alone-params' }
  const ofOne = { where: 'model:alone-model', action: 'ring', note: 'alone-job', params }
  const later = { not_before: new Date(Date.now() + 3_600_000).toISOString() }
  for (const job of [{ job_id: 'own-job' }, { job_id: 'later-job', ...later }]) {
    const { status } = await service.call('POST', '/admin/jobs', { body: { ...ofOne, ...job } })
    t.equal(status, 202)
  }
  const path = `/admin/devices/${deviceId}`
  await service.call('DELETE', path)
  const heir = await service.enroll('alone-1')
  await label('alias:alone-1', { room: 'of-the-heir' })
  t.equal((await service.call('DELETE', `${path}?erase=true`)).status, 204)
  await db.query("update jobs set not_before = now() where job_id = 'later-job'")
  t.match((await get('/admin/jobs/later-job?wait_ms=30000')).body, { counts: { cancelled: 1 } })

  const left: string[] = []
  const tables = ['audit_log', 'commands', 'jobs', 'enrollment_tokens', 'apk_download_events']
  for (const name of tables) {
    const sql = `select t::text as row from ${name} t where t::text like any (array['%alone-%', $1])`
    for (const { row } of (await db.query(sql, [`%${tokenId}%`])).rows) left.push(`${name} ${row}`)
  }
  t.same(
    left.filter((row) => /alone-(?!1[",])/.test(row)),
    [],
    'but the alias, which is the one of its heir',
  )
  t.same(
    left.filter((row) => row.startsWith('apk_download')),
    [],
    'nor the address of the phone',
  )
  const { rows: entries } = await db.query(
    "select detail from audit_log where request_id = 'nightly' and what = 'devices.label' order by audit_id",
  )
  const own = { where: `device:${deviceId}`, devices: 1, labels: undefined }
  t.match(
    entries.slice(0, 6).map(({ detail }) => detail),
    Array(6).fill(own),
  )
  t.match(
    entries.slice(6).map(({ detail }) => detail),
    [
      { where: 'alias:other-1', labels: { room: 'other-room' } },
      { where: 'alias:alone-1', labels: { room: 'of-the-heir' } },
    ],
  )
  t.match((await get('/admin/jobs/own-job')).body, {
    where: `device:${deviceId}`,
    note: null,
    params: {},
  })
  for (const { deviceId: id } of [other, heir]) {
    await service.call('DELETE', `/admin/devices/${id}`)
  }
})

t.test('a phone that was deleted earlier is erased, its successor is not', async (t) => {
  const first = await service.enroll('heir-1')
  const told = { version_code: 7, app_versions: { 'com.example.app': { version_code: 7 } } }
  await service.call('POST', '/v1/heartbeat', { token: first.token, body: told })
  t.match((await get(`/admin/devices/${first.deviceId}`)).body, {
    last_status: { version_code: 7 },
    app_versions: told.app_versions, // the test before published a build
  })
  await service.call('DELETE', `/admin/devices/${first.deviceId}`)
  t.equal((await get(`/admin/devices/${first.deviceId}`)).status, 404)
  const heir = await service.enroll('heir-1')
  const erased = await service.call('DELETE', `/admin/devices/${first.deviceId}?erase=true`)
  t.equal(erased.status, 204)
  const status = 'select version_code, app_versions from device_status where device_id = $1'
  const { rows } = await db.query(status, [first.deviceId])
  t.same(rows, [{ version_code: null, app_versions: null }])
  t.match((await get('/admin/devices?alias=heir-1')).body.devices, [{ device_id: heir.deviceId }])
  const beat = await service.call('POST', '/v1/heartbeat', { token: heir.token, body: {} })
  t.equal(beat.status, 200)
  const { body } = await get('/v1/enroll-tokens?alias=heir-1')
  t.equal(body.tokens.length, 1, 'the one of its successor')
})

t.test('devices are listed newest first, by alias, by silence and in pages', async (t) => {
  const ids: string[] = []
  for (const alias of ['page-1', 'page-2', 'page-3', 'page-4', 'page-5']) {
    const { deviceId, token } = await service.enroll(alias)
    ids.unshift(deviceId)
    if (alias !== 'page-5') await service.call('POST', '/v1/heartbeat', { token, body: {} })
  }
  const silence =
    'update device_status set last_seen_at = now() - make_interval(secs => $2) where device_id = $1'
  await db.query(silence, [ids[3], 3_000])
  await db.query(silence, [ids[2], 1_000])
  const idsOf = (rows: readonly { device_id: string }[]) =>
    rows.map((row) => row.device_id).filter((id) => ids.includes(id))

  t.same(idsOf(await readAll(t, '/admin/devices', 'devices', 2)), ids)
  t.same(idsOf(await readAll(t, '/admin/devices', 'devices', 500)), ids)
  const offline = await readAll<{ device_id: string }>(
    t,
    '/admin/devices?offline_for_s=1500',
    'devices',
    1,
  )
  t.same(idsOf(offline), [ids[0], ids[3]], 'never seen, and silent for longer')
  t.match((await get('/admin/devices?alias=page-2')).body.devices, [{ device_id: ids[3] }])
  t.same((await get('/admin/devices?alias=nobody')).body, { devices: [], next_cursor: null })

  const selected = async (where: string, more = '') => {
    const path = `/admin/devices?where=${encodeURIComponent(`alias:page-* ${where}`)}${more}`
    const rows = await readAll<{ alias: string }>(t, path, 'devices', 2)
    return rows.map(({ alias }) => alias.replace('page-', '')).join(' ')
  }
  t.equal(await selected(''), '5 4 3 2 1')
  t.equal(await selected('', '&order=alias'), '1 2 3 4 5')
  t.equal(await selected('', '&order=seen'), '4 1 3 2 5', 'never heard of comes last')
  t.equal(await selected('-alias:*1,*5 seen>10m'), '3 2')
  t.equal(await selected('-alias:*1', '&offline_for_s=1500'), '5 2')
  t.equal(await selected('', '&alias=page-2&order=seen'), '2')
  t.equal(await selected('', '&alias=page-2&offline_for_s=86400'), '')
  const byAlias = await get('/admin/devices?order=alias&limit=1')
  const other = await get(`/admin/devices?limit=1&cursor=${byAlias.body.next_cursor}`)
  t.match(other, { status: 422 }, 'the cursor of another order')

  await service.call('DELETE', `/admin/devices/${ids[3]}`)
  for (const query of ['?offline_for_s=0', '?offline_for_s=1500', '?alias=page-2', '']) {
    const left = idsOf(await readAll(t, `/admin/devices${query}`, 'devices', 2))
    t.notOk(left.includes(ids[3] ?? ''), `a deleted one is not listed: ${query}`)
  }
  const gone = await get(`/admin/devices/${ids[3]}`)
  t.match(gone, { status: 404, body: { code: 'device_unknown' } })
})

t.test('the audit log tells who did what, since when, newest first', async (t) => {
  const { rows: clock } = await db.query('select now() as now')
  const query = `/admin/audit?since=${encodeURIComponent(clock[0].now.toISOString())}`
  const issued = await service.call('POST', '/v1/enroll-tokens', {
    token: SECOND_ADMIN,
    body: { aliases: ['audit-1', 'audit-2', 'audit-3'] },
    headers: { 'x-request-id': 'audit-1' },
  })
  const { tokens } = issued.body
  const headers = { 'x-request-id': 'audit-2' }
  await service.call('POST', '/v1/register', { token: tokens[0].token, body: {}, headers })
  const mine = async (path: string, limit: number) =>
    (await readAll<Record<string, string>>(t, path, 'audit', limit)).filter((row) =>
      /^audit-\d$/.test(row['request_id'] ?? ''),
    )
  const rows = await mine(query, 1)
  t.same(
    rows.map((row) => [row['admin'], row['what']]),
    [
      [null, 'device.created'],
      ['tester-next', 'enrollment_token.create'],
      ['tester-next', 'enrollment_token.create'],
      ['tester-next', 'enrollment_token.create'],
    ],
  )
  t.match(rows[3], { request_id: 'audit-1', ip: '127.0.0.1', at: TIME })
  const subjects = rows.slice(1).map((row) => row['subject'])
  t.same(subjects.sort(), tokens.map((row: { token_id: string }) => row.token_id).sort())
  t.same(await mine(`${query}&admin=tester-next`, 500), rows.slice(1))
  t.same((await get(`${query}&admin=nobody`)).body, { audit: [], next_cursor: null })
  const ofAlias = [rows[0], rows.find((row) => row['subject'] === tokens[0].token_id)]
  t.same((await get(`${query}&alias=audit-1`)).body.audit, ofAlias)
  t.same(await mine(`${query}&alias=audit-1`, 1), ofAlias, 'page by page')
  t.same((await get('/admin/audit?alias=audit-1&admin=tester-next')).body.audit, ofAlias.slice(1))
  const ofSubject = `/admin/audit?subject=${tokens[0].token_id}`
  t.same((await get(ofSubject)).body.audit, ofAlias.slice(1))
  t.same((await get(`${ofSubject}&alias=audit-1&admin=tester-next`)).body.audit, ofAlias.slice(1))
  t.same((await get(`${ofSubject}&alias=audit-2`)).body.audit, [])
  t.same((await get(`${ofSubject}&admin=tester`)).body.audit, [])
  const later = encodeURIComponent('2900-01-01T00:00:00+02:00')
  t.same((await get(`/admin/audit?since=${later}`)).body.audit, [])
})

t.test('what is not there is 404 with its own code', async (t) => {
  for (const [method, path, code] of [
    ['GET', `/admin/devices/${UNKNOWN_ID}`, 'device_unknown'],
    ['GET', '/admin/devices/no-uuid', 'device_unknown'],
    ['GET', '/admin/devices/%00', 'device_unknown'],
    ['DELETE', `/admin/devices/${UNKNOWN_ID}`, 'device_unknown'],
    ['GET', '/admin/commands/none', 'command_unknown'],
    ['DELETE', '/v1/enroll-tokens/no-uuid', 'token_not_found'],
    ['DELETE', '/admin/apk/builds/none', 'build_unknown'],
    ['GET', '/admin/apk/builds/none/download', 'build_unknown'],
    ['GET', '/admin/nothing', 'not_found'],
    ['GET', '/', 'not_found'],
  ] as const) {
    const response = await service.call(method, path)
    t.match(response, { status: 404, body: { code } }, `${method} ${path}`)
    t.match(await service.lines.terminalOf(response.requestId), { status_code: 404, level: 'WARN' })
  }
  const wrong = await service.call('PUT', '/admin/devices')
  t.match(wrong, { status: 405, body: { code: 'method_not_allowed' } })
  t.equal(wrong.headers.get('allow'), 'GET, HEAD')
})

const LISTS = [
  '/admin/devices',
  '/admin/audit',
  '/v1/enroll-tokens',
  '/admin/commands',
  '/admin/apk/builds',
]
const AT = '2026-01-31T09:15:27.042000Z'
/** An id of each form. */
const IDS = [UNKNOWN_ID, '7', 'b-1']
const forged = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
const isRefused = ({ status, body }: TestResponse, field: string) =>
  status === 422 && body.code === 'invalid_field' && body.errors[0].field === field

t.test('a bad limit or filter is 422 and names the field', async (t) => {
  for (const path of LISTS) {
    for (const limit of ['0', '501', '-1', '1.5', 'x', '', '1e2', '9'.repeat(400)]) {
      t.ok(isRefused(await get(`${path}?limit=${limit}`), 'limit'), `${path}?limit=${limit}`)
    }
  }
  for (const [path, field, values] of [
    ['/admin/devices', 'offline_for_s', ['-1', 'x', '1e400', 'NaN', '31536001', '9'.repeat(15)]],
    ['/admin/devices', 'alias', ['a'.repeat(65), '\0', 'a\0b']],
    ['/admin/devices', 'where', ['vesion_code<42', 'version_code<x', 'alias:"x', 'alias:\0']],
    ['/admin/devices', 'where', ['x'.repeat(1_025), 'sdk>1 '.repeat(17), 'seen<1e400d']],
    ['/admin/devices', 'order', ['', 'Alias', '-alias', 'created_at']],
    [
      '/admin/audit',
      'since',
      ['yesterday', '2026-02-30T00:00:00Z', 'infinity', '-infinity', 'NaN', '\0'],
    ],
    ['/admin/audit', 'since', ['294277-01-01T00:00:00Z', '0001-01-01T00:00:00Z', '1e400', '']],
    ['/admin/audit', 'admin', ['\0', 'a'.repeat(65)]],
    ['/admin/audit', 'subject', ['\0', '', 'a b', 'a'.repeat(129)]],
    ['/admin/audit', 'alias', ['\0', '', '-a', 'a'.repeat(65)]],
    ['/v1/enroll-tokens', 'alias', ['\0', '', '-a', 'a'.repeat(65)]],
    ['/admin/commands', 'device_id', ['x', '\0', `{${UNKNOWN_ID}}`, `${UNKNOWN_ID}0`, '-1', '']],
    ['/admin/commands', 'status', ['open', '\0', '']],
    ['/admin/commands', 'action', ['a'.repeat(65), '\0']],
    ['/admin/apk/builds', 'build_type', ['\0', '', 'a b', 'a'.repeat(33)]],
    ['/v1/enroll-tokens', 'status', ['dead', '\0', '']],
  ] as const) {
    for (const value of values) {
      const asked = `${path}?${field}=${encodeURIComponent(value)}`
      t.ok(isRefused(await get(asked), field), asked)
    }
  }
  for (const since of ['2026-01-31T09:15:27+23:59', '2999-12-31T23:59:59.999999999-23:59']) {
    t.equal((await get(`/admin/audit?since=${encodeURIComponent(since)}`)).status, 200, since)
  }
})

t.test('a made-up cursor is 422, never a fault of ours, on every list', async (t) => {
  const times = [
    ...['2026-01-31T09:15:27.042000+23:59', '2026-01-31T09:15:27.042000-16:00', '2026-01-31'],
    ...[
      '2026-02-30T00:00:00.000000Z',
      '2026-01-31T24:00:00.000000Z',
      '2026-01-31T23:59:60.000000Z',
    ],
    ...[
      '294277-01-01T00:00:00.000000Z',
      '0001-01-01T00:00:00.000000Z',
      '9999-12-31T23:59:59.999999Z',
    ],
    ...['infinity', '-infinity', 'NaN', 'now', 'epoch', '', '\0', '\ud800', `${AT} BC`, `${AT}\n`],
    ...[AT.slice(0, -1), AT.toLowerCase(), `1${AT}`, `${AT.slice(0, -1)}0Z`, 'x'.repeat(5_000)],
    ...[0, -1, 1e300, null, true, [AT], { at: AT }],
  ]
  const nasty = [
    ...times.map((at) => [at, UNKNOWN_ID]),
    ...[
      '',
      '\0',
      'a\0',
      'a\ud800',
      ' ',
      "'; --",
      'é',
      'x'.repeat(129),
      -1,
      7,
      null,
      [UNKNOWN_ID],
    ].map((id) => [AT, id]),
    ...[[], [AT], {}, null, 7, 'x', AT, [[AT, UNKNOWN_ID]], { at: AT, id: UNKNOWN_ID }],
  ].map(forged)
  const texts = [
    '',
    'x',
    '%',
    '\0',
    '\ud83d\ude00',
    'x'.repeat(5_000),
    Buffer.from('[1e999,').toString('base64url'),
  ]
  for (const path of LISTS) {
    for (const cursor of [...nasty, ...texts]) {
      const response = await get(`${path}?cursor=${encodeURIComponent(cursor)}`)
      if (!isRefused(response, 'cursor'))
        t.fail(`${path}: ${cursor.slice(0, 80)}: ${response.status}`)
    }
    const takenIds = []
    for (const id of [...IDS, '-1', '9223372036854775808', '1e400', `{${UNKNOWN_ID}}`]) {
      const response = await get(`${path}?cursor=${forged([AT, id])}`)
      if (response.status === 200) takenIds.push(id)
      else t.ok(isRefused(response, 'cursor'), `${path}: ${id}: ${response.status}`)
    }
    t.ok(takenIds.length > 0, `${path} takes a key of its own form`)
  }
  const errors = service.lines.of('http.error').filter(({ error }) => error !== 'overloaded')
  t.same(errors, [])
})

t.test('a cursor is of one list', async (t) => {
  for (const name of ['c', 'd']) await service.enroll(`of-list-${name}`)
  const { body } = await get('/admin/devices?limit=1')
  const cursor = encodeURIComponent(body.next_cursor)
  for (const path of LISTS) {
    const response = await get(`${path}?cursor=${cursor}`)
    if (path === '/admin/devices') t.equal(response.status, 200)
    else t.ok(isRefused(response, 'cursor'), `${path}: ${response.status}`)
  }
})

t.test('HEAD answers like GET, without the body', async (t) => {
  const { deviceId } = await service.enroll('head-1')
  for (const path of [
    '/admin/devices?limit=1',
    `/admin/devices/${deviceId}`,
    '/admin/audit?limit=1',
    '/v1/enroll-tokens?limit=1',
    '/admin/devices/no-uuid',
    '/healthz',
  ]) {
    const full = await get(path)
    const head = await service.call('HEAD', path, { headers: { 'x-request-id': full.requestId } })
    t.equal(head.status, full.status, path)
    t.equal(head.bytes.length, 0)
    for (const name of ['content-type', 'content-length']) {
      t.equal(head.headers.get(name), full.headers.get(name), `${path} ${name}`)
    }
  }
})

t.test('every refusal is a problem with our request id', async (t) => {
  for (const [response, title] of [
    [await service.call('GET', '/admin/devices', { token: null }), 'Unauthorized'],
    [await service.call('GET', '/admin/devices', { token: scoped('apk') }), 'Forbidden'],
    [await get('/admin/devices/no-uuid'), 'Not Found'],
    [await get('/admin/devices?limit=0'), 'Unprocessable Entity'],
    [
      await service.call('POST', '/v1/enroll-tokens', { raw: '{', headers: JSON_TYPE }),
      'Bad Request',
    ],
    [
      await service.call('POST', '/v1/enroll-tokens', { raw: 'x'.repeat(17_000) }),
      'Payload Too Large',
    ],
  ] as const) {
    t.equal(response.headers.get('content-type'), 'application/problem+json')
    const { body, status, requestId } = response
    t.match(body, { type: 'about:blank', title, status, code: String, request_id: requestId })
    t.match(body.detail, /.{5}/)
    t.equal(Array.isArray(body.errors), status === 422)
    t.match(requestId, /^[0-9a-f-]{36}$/)
  }
})
