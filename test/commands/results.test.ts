/** What a device reports about a command: by which way, how often, how late, and who may. */
import { readFileSync } from 'node:fs'
import t from 'tap'
import { pushSettings, startFakeFcm } from '../../sim/fcm/fake-fcm.ts'
import { commandResultStore } from '../../src/db/commands/results.ts'
import { Pool } from '../../src/db/postgres/pool.ts'
import { until } from '../../testkit/until.ts'
import { connect } from '../helpers/database.ts'
import { type Enrolled, startService } from '../helpers/service.ts'

const FIXTURES = new URL('../../../test/fixtures/agent/', import.meta.url)
const LONG = 'x'.repeat(2_000)

const fcm = await startFakeFcm()
t.teardown(() => fcm.close())
const service = await startService(t, {
  env: {
    ...pushSettings(fcm),
    FCM_TIMEOUT_MS: '5000',
  },
})
const db = await connect(t, service.databaseUrl)
const device = await service.enroll('R01')
const stranger = await service.enroll('R02')
let commands = 0

/** An open command of `device`; push fails at once for want of a token. */
async function command(to: Enrolled = device): Promise<string> {
  commands += 1
  const body = { device_id: to.deviceId, action: 'ring', request_id: `cmd-${commands}` }
  t.equal((await service.call('POST', '/admin/command', { body })).status, 202)
  return body.request_id
}

function report(body: object, path = '/v1/action-result', from: Enrolled = device, id = '') {
  const headers = id === '' ? {} : { 'x-request-id': id }
  return service.call('POST', path, { token: from.token, body, headers })
}

const read = async (id: string) => (await service.call('GET', `/admin/commands/${id}`)).body

const row = async (id: string) =>
  (await db.query('select * from commands where request_id = $1', [id])).rows[0]

t.test('the first result wins and ends the command', async (t) => {
  const id = await command()
  const finished_at = '2026-01-02T03:04:05.678Z'
  const first = { outcome: 'failure', message: 'no', output: 'log', exit_code: -7, finished_at }
  const response = await report(
    { request_id: id, action: 'ring', ...first },
    undefined,
    device,
    'r1',
  )
  t.same([response.status, response.body], [200, { ok: true, duplicate: false, request_id: id }])
  t.equal(response.requestId, 'r1')

  for (const outcome of ['failure', 'success']) {
    const again = await report({ request_id: id, outcome, message: 'other' })
    t.same([again.status, again.body], [200, { ok: true, duplicate: true, request_id: id }])
  }
  const story = await read(id)
  const { received_at, ...result } = story.result
  t.same(result, { ...first, finished_at: finished_at.replace('Z', '000Z'), late: false })
  t.match(story, { status: 'completed', verdict: { code: 'failed_on_device' } })
  t.equal(story.ended_at, received_at)
  t.equal(story.timeline.filter(({ stage }: { stage: string }) => stage === 'result').length, 1)
  t.match(await row(id), { result_request_id: 'r1', late_result: false })
})

t.test('one of many results at once wins', async (t) => {
  const id = await command()
  const sent = Array.from({ length: 20 }, (_, i) =>
    report({ request_id: id, outcome: i % 2 ? 'success' : 'failure', message: String(i) }),
  )
  const responses = await Promise.all(sent)
  const firsts = responses.flatMap(({ body }, i) => (body.duplicate ? [] : [String(i)]))
  t.same([(await read(id)).result.message], firsts)
})

t.test('of two results that wait for the command’s row the first one is kept', async (t) => {
  const id = await command()
  // Its waits are as long as this test holds the row, however slow the machine.
  const waits = { lockTimeoutMs: 30_000, queryTimeoutMs: 40_000 }
  const pool = new Pool({ url: service.databaseUrl, maxConnections: 2, isPrepared: true, ...waits })
  t.teardown(() => pool.close(1_000))
  const results = commandResultStore(pool, 'tester')
  const watcher = await connect(t, service.databaseUrl)
  const waiting = `select count(*)::int as n from pg_stat_activity
    where datname = current_database() and wait_event_type = 'Lock'`
  const nothing = { output: null, exitCode: null, finishedAt: null, push: null }
  await db.query('begin')
  await db.query('select from commands where request_id = $1 for update', [id])
  const sent: ReturnType<typeof results.record>[] = []
  for (const message of ['first', 'second']) {
    const { deviceId } = device
    const outcome = 'success'
    const httpRequestId = message
    sent.push(
      results.record({ requestId: id, deviceId, outcome, message, httpRequestId, ...nothing }),
    )
    await until(async () => (await watcher.query(waiting)).rows[0].n === sent.length)
  }
  await db.query('commit')
  t.match(await Promise.all(sent), [{ kind: 'recorded' }, { kind: 'duplicate' }])
  t.equal((await read(id)).result.message, 'first')
})

t.test('the line is the command’s, and names the request that brought it', async (t) => {
  const id = await command()
  await report({ request_id: id, outcome: 'OK' }, undefined, device, 'line-1')
  const line = await service.lines.terminalOf('line-1')
  const own = ['action', 'outcome', 'duplicate', 'late', 'http_request_id']
  t.same(Object.keys(line).slice(11), own)
  t.match(line, {
    level: 'INFO',
    event: 'action_result.ingest',
    request_id: id,
    route: '/v1/action-result',
    device_id: device.deviceId,
    alias: 'R01',
    status_code: 200,
    action: 'ring',
    outcome: 'success',
    duplicate: false,
    late: false,
    http_request_id: 'line-1',
  })
})

t.test('another device’s command is unknown, and its story stays its own', async (t) => {
  const id = await command()
  const before = await row(id)
  for (const [i, path] of ['/v1/action-result', '/v1/devices/ack'].entries()) {
    const http = `foreign-${i}`
    const response = await report({ request_id: id, outcome: 'success' }, path, stranger, http)
    t.match(response, { status: 404, body: { code: 'command_unknown' } })
    const line = await service.lines.terminalOf(http)
    t.match(line, { event: 'http.request', request_id: http, reason: 'command_unknown' })
    t.notMatch(service.lines.raw.find((raw) => raw.includes(http)) ?? '', id)
  }
  t.match(await report({ request_id: 'nobody', outcome: 'success' }), { status: 404 })
  t.same(await row(id), before)
  t.equal((await read(id)).timeline.length, 1)
})

t.test('outcomes are read in the words of the field, in any case', async (t) => {
  const words: Readonly<Record<string, readonly string[]>> = {
    success: ['success', 'SUCCESS', 'ok', 'OK', 'Ok'],
    failure: ['failure', 'Failure', 'error', 'ERROR', 'failed', 'FAILED'],
    timeout: ['timeout', 'TIMEOUT'],
    rejected: ['rejected', 'Rejected'],
  }
  for (const [outcome, given] of Object.entries(words)) {
    for (const word of given) {
      const id = await command()
      t.equal((await report({ request_id: id, outcome: word })).status, 200)
      t.equal((await row(id)).outcome, outcome, word)
    }
  }
  const id = await command()
  const others = ['done', '', ' ok', 'OK ', 'o\u212a', 'oK!', 1, true, [], ['ok'], null, {}]
  for (const word of [...others, 'constructor', '__proto__', undefined]) {
    for (const name of ['outcome', 'status']) {
      const response = await report({ request_id: id, [name]: word })
      const title = `${name}: ${JSON.stringify(word)}`
      t.match(response, { status: 422, body: { errors: [{ field: 'outcome' }] } }, title)
    }
  }
  const mixed = await report({ request_id: id, outcome: 'done', status: 'OK' })
  t.match(mixed, { status: 422 }, 'one that is readable beside does not count')
  t.equal((await read(id)).result, null)
})

t.test('the command is named by request_id, else by correlation_id', async (t) => {
  const id = await command()
  t.match(await report({ outcome: 'success' }), { status: 422, body: { code: 'invalid_field' } })
  t.match(await report({ request_id: 7, outcome: 'success' }), { status: 422 })
  t.match(await report({ request_id: 'nobody', correlation_id: id, outcome: 'OK' }), {
    status: 404,
  })
  t.match(await report({ correlation_id: id, outcome: 'OK' }), { body: { request_id: id } })
  const empty = await command()
  const sent = { request_id: '', correlation_id: empty, outcome: '', status: 'FAILED' }
  t.match(await report(sent), { status: 200, body: { request_id: empty } }, 'an empty text is none')
  t.equal((await row(empty)).outcome, 'failure')
})

t.test('texts are cut, and what no column holds never refuses a result', async (t) => {
  const id = await command()
  const response = await report({
    request_id: id,
    outcome: 'success',
    message: `${LONG}more`,
    output: `${LONG.slice(1)}\u{1f600}`,
    exit_code: 1e300,
    finished_at: 'today',
  })
  t.equal(response.status, 200)
  const { result } = await read(id)
  t.equal(result.message, LONG)
  t.equal(result.output, `${LONG.slice(1)}\ufffd`)
  t.match(result, { exit_code: null, finished_at: null })

  const other = await command()
  await report({ request_id: other, outcome: 'success', message: 'a\0b\ud800c', output: { a: 1 } })
  t.match((await read(other)).result, { message: 'a\ufffdb\ufffdc', output: null })
})

t.test('the line names what the result holds and the service does not keep', async (t) => {
  const ids = await Promise.all([command(), command(), command()])
  const unusable = {
    message: { a: 1 },
    output: 7,
    exit_code: '1',
    finished_at: 1767225600,
    push: 'x',
  }
  const empty = { message: '', output: null, exit_code: '', finished_at: '' }
  for (const [n, [fields, ignored]] of (
    [
      [unusable, ['message', 'output', 'exit_code', 'finished_at', 'push']],
      [empty, undefined],
      [{ message: 'no', exit_code: 1.5 }, ['exit_code']],
    ] as const
  ).entries()) {
    const body = { request_id: ids[n], outcome: 'failure', ...fields }
    const response = await report(body, undefined, device, `unusable-${n}`)
    t.same(response.body, { ok: true, duplicate: false, request_id: ids[n] })
    const line = await service.lines.terminalOf(`unusable-${n}`)
    t.same([line.event, line['ignored']], ['action_result.ingest', ignored])
    t.equal(Object.keys(line).at(-1), 'http_request_id')
  }
  t.match(await read(ids[2] ?? ''), { result: { message: 'no', exit_code: null } })
})

t.test('an exit code is kept as far as its column holds it', async (t) => {
  const most = 2_147_483_647
  for (const [exit_code, kept] of [
    [most, most],
    [-most, -most],
    [most + 1, null],
    [-most - 1, null],
    [0.5, null],
    ['1', null],
  ]) {
    const id = await command()
    t.equal((await report({ request_id: id, outcome: 'success', exit_code })).status, 200)
    t.equal((await read(id)).result.exit_code, kept, `${exit_code}`)
  }
})

t.test('agents in the field acknowledge by three paths', async (t) => {
  const raw = readFileSync(new URL('ack-launch.json', FIXTURES), 'utf8')
  const paths = [
    `/v1/devices/${device.deviceId}/ack`,
    `/v1/devices/${device.deviceId.toUpperCase()}/ack`,
    '/v1/devices/ack',
    '//v1/devices//ack',
  ]
  for (const path of paths) {
    const id = await command()
    const response = await service.call('POST', path, {
      token: device.token,
      raw: raw.replace('REPLACE-WITH-REQUEST-ID', id),
      headers: { 'content-type': 'application/json; charset=utf-8' },
    })
    t.same([response.status, response.body], [200, { ok: true, duplicate: false, request_id: id }])
    t.match((await read(id)).result, { outcome: 'success', message: 'launched' }, path)
  }
  const id = await command()
  for (const other of [stranger.deviceId, 'R01', '6377acb3-0000-4000-8000-000000000025']) {
    const response = await report({ correlation_id: id, status: 'OK' }, `/v1/devices/${other}/ack`)
    t.equal(response.status, 404, other)
  }
  t.equal((await read(id)).result, null)
})

t.test('a result after the end is kept, marked late, and changes no state', async (t) => {
  const expired = await command()
  await db.query(`update commands set expires_at = now() where request_id = $1`, [expired])
  t.match(await read(expired), { status: 'expired', verdict: { code: 'expired' } })
  const cancelled = await command()
  await service.call('DELETE', `/admin/commands/${cancelled}`)
  for (const [state, id] of Object.entries({ expired, cancelled })) {
    const response = await report(
      { request_id: id, outcome: 'OK' },
      undefined,
      device,
      `late-${id}`,
    )
    t.match(response, { status: 200, body: { ok: true, duplicate: false } })
    t.match(await service.lines.terminalOf(`late-${id}`), { late: true, duplicate: false })
    const story = await read(id)
    t.match(story, {
      status: state,
      result: { outcome: 'success', late: true },
      verdict: { code: 'ran_after_end' },
    })
    const stages = story.timeline.map(({ stage }: { stage: string }) => stage)
    t.same(stages, ['accepted', state, 'result'])
    t.match(await report({ request_id: id, outcome: 'OK' }), { body: { duplicate: true } })
  }
  const line = service.lines.of('command.expired').filter((l) => l['request_id'] === expired)
  t.equal(line.length, 1, 'the expiry is told once, whoever noticed it')
})

t.test('a command whose time is over is not cancelled, before the sweep either', async (t) => {
  const id = await command()
  await db.query(`update commands set expires_at = now() where request_id = $1`, [id])
  const response = await service.call('DELETE', `/admin/commands/${id}`)
  t.match(response, { status: 409, body: { code: 'command_ended', detail: /is expired already/ } })
  t.match(await read(id), { status: 'expired' })
})

t.test('a result that comes before FCM’s answer wins over it', async (t) => {
  fcm.setMode({ fcm: 'hang' })
  t.teardown(() => fcm.setMode({ fcm: 'ok' }))
  const pushed = await service.enroll('R03', { fcm_token: 'push-3' })
  const body = { device_id: pushed.deviceId, action: 'ring', request_id: 'race' }
  const asked = service.call('POST', '/admin/command', { body })
  await fcm.waitForSend(({ data }) => data['request_id'] === 'race')
  const result = await report({ request_id: 'race', outcome: 'success' }, undefined, pushed)
  t.match(result, { status: 200, body: { duplicate: false } })
  t.match(await asked, { status: 202, body: { status: 'completed' } })
  await service.lines.waitFor(
    (line) => line.event === 'dispatch.fail' && line['request_id'] === 'race',
  )
  const list = '/admin/commands?status=completed&limit=1'
  t.match((await service.call('GET', list)).body.commands, [{ request_id: 'race' }])
  t.match(await row('race'), { state: 'completed', outcome: 'success' })
})

t.test('a heartbeat that answers a ping is its result', async (t) => {
  const raw = readFileSync(new URL('heartbeat-ping-answer.json', FIXTURES), 'utf8')
  const answerPing = (id: string, http: string, from = device) =>
    service.call('POST', '/v1/heartbeat', {
      token: from.token,
      raw: raw.replace('REPLACE-WITH-REQUEST-ID', id),
      headers: { 'content-type': 'application/json', 'x-request-id': http },
    })
  const id = await command()
  const foreign = await answerPing(id, 'ping-0', stranger)
  t.match(foreign, { status: 200, body: { ignored: ['ping_request_id'] } })
  t.equal((await read(id)).status, 'push_failed', 'another device’s ping answer changes nothing')

  const response = await answerPing(id, 'ping-1')
  t.match(response, { status: 200, body: { ok: true, ignored: [] } })
  const handed = response.body.commands.map((one: { request_id: string }) => one.request_id)
  t.notOk(handed.includes(id), 'what is answered is not handed over')
  t.match(await read(id), { status: 'completed', result: { outcome: 'success', late: false } })
  const isResult = (line: { event: string }) => line.event === 'action_result.ingest'
  const line = await service.lines.waitFor((l) => isResult(l) && l['http_request_id'] === 'ping-1')
  t.match(line, { request_id: id, duplicate: false, status_code: null, latency_ms: null })
  await answerPing(id, 'ping-2')
  const again = await service.lines.waitFor((l) => isResult(l) && l['http_request_id'] === 'ping-2')
  t.match(again, { request_id: id, duplicate: true })

  const expired = await command()
  await db.query(`update commands set expires_at = now() where request_id = $1`, [expired])
  await answerPing(expired, 'ping-3')
  t.match(await read(expired), { status: 'expired', result: { late: true } })
  await service.lines.waitFor((l) => l.event === 'command.expired' && l['request_id'] === expired)
})
