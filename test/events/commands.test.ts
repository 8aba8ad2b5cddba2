/** The lines of commands without push: accepted, answered, expired, cancelled. Each is under the command's id. */
import t from 'tap'
import { connect } from '../helpers/database.ts'
import { startService } from '../helpers/service.ts'
import { about, BACKGROUND, end, inside, story, theme } from './helpers.ts'

const { compare, compareOnly } = theme(t, {
  'dispatch.request': ['INFO'],
  'action_result.ingest': ['INFO'],
  'command.expired': ['WARN ttl'],
  'command.cancelled': ['INFO admin', 'INFO device_deleted', 'INFO job_aborted'],
  'job.create': ['INFO'],
  'job.pause': ['INFO admin', 'WARN threshold'],
  'job.resume': ['INFO'],
  'job.abort': ['INFO admin'],
  'job.done': ['INFO'],
})
const service = await startService(t)
const db = await connect(t, service.databaseUrl)
const device = { ...(await service.enroll('D01')), alias: 'D01' }
const COMMAND = '/admin/command'
const COMMAND_ROUTE = '/admin/commands/{request_id}'
const RESULT = '/v1/action-result'

const command = (request_id: string, alias = 'D01') =>
  service.call('POST', COMMAND, { body: { alias, action: 'ring', request_id } })
const report = (request_id: string, outcome: string, token = device.token) =>
  service.call('POST', RESULT, { token, body: { request_id, outcome } })
/** Ends its time without touching its state: the sweep does, or a result that comes first. */
const expire = (id: string) =>
  db.query(
    `update commands set created_at = now() - interval '2 h', expires_at = now() - interval '1 s'
     where request_id = $1`,
    [id],
  )

t.test('accepted: two lines, both under the command’s id', async (t) => {
  const response = await command('accepted')
  t.equal(response.status, 202)
  t.not(response.requestId, 'accepted', 'the header is the ingress id')
  const at = inside('accepted', COMMAND, device)
  const nothing = { fcm_http_code: null, fcm_status: null, dispatch_latency_ms: null }
  const http_request_id = response.requestId
  const own = { action: 'ring', ...nothing, admin: 'tester', http_request_id }
  await compareOnly(t, service, 'dispatch.request', 'INFO', at, own)
  const ended = { ...end(response, COMMAND, device), request_id: 'accepted' }
  const plain = { method: 'POST', reason: null, admin: 'tester', http_request_id }
  await compareOnly(t, service, 'http.request', 'INFO', ended, plain)
  t.same(
    (await story(service, 'accepted')).map(({ event }) => event),
    ['dispatch.request', 'http.request'],
  )
  t.same(await eventsUnder(response.requestId), [], 'nothing under the ingress id')

  const again = await command('accepted')
  t.equal(again.status, 200)
  const repeated = { ...end(again, COMMAND, device), request_id: 'accepted' }
  const line = await service.lines.terminalOf(again.requestId)
  const asked = { ...plain, http_request_id: again.requestId }
  compare(t, line, 'http.request', 'INFO', repeated, asked)
})

t.test('accepted under the ingress id: no second one', async (t) => {
  const headers = { 'x-request-id': 'ingress' }
  const body = { alias: 'D01', action: 'ring' }
  const response = await service.call('POST', COMMAND, { body, headers })
  t.equal(response.requestId, 'ingress')
  const nothing = { fcm_http_code: null, fcm_status: null, dispatch_latency_ms: null }
  const own = { action: 'ring', ...nothing, admin: 'tester' }
  const at = inside('ingress', COMMAND, device)
  await compareOnly(t, service, 'dispatch.request', 'INFO', at, own)
  const plain = { method: 'POST', reason: null, admin: 'tester' }
  await compareOnly(t, service, 'http.request', 'INFO', end(response, COMMAND, device), plain)
})

t.test('a result, and the same again', async (t) => {
  await command('answered')
  for (const duplicate of [false, true]) {
    const response = await report('answered', 'FAILED')
    const line = await service.lines.terminalOf(response.requestId)
    const at = { ...end(response, RESULT, device), request_id: 'answered' }
    const own = { action: 'ring', outcome: 'failure', duplicate, late: false }
    const http_request_id = response.requestId
    compare(t, line, 'action_result.ingest', 'INFO', at, { ...own, http_request_id })
    t.same(await eventsUnder(response.requestId), [], 'nothing else under the ingress id')
  }
})

t.test('each operation that takes a result writes the same line', async (t) => {
  for (const [path, route] of [
    ['/v1/devices/ack', '/v1/devices/ack'],
    [`/v1/devices/${device.deviceId}/ack`, '/v1/devices/{device_id}/ack'],
  ] as const) {
    const id = `ack:${route}`.replace(/[^\w:]/g, '.')
    await command(id)
    const body = { correlation_id: id, status: 'OK' }
    const response = await service.call('POST', path, { token: device.token, body })
    t.equal(response.status, 200)
    const at = { ...end(response, route, device), request_id: id }
    const own = { action: 'ring', outcome: 'success', duplicate: false, late: false }
    const http_request_id = response.requestId
    await compareOnly(t, service, 'action_result.ingest', 'INFO', at, { ...own, http_request_id })
  }
})

t.test('a ping answered by a heartbeat has its line beside the heartbeat’s', async (t) => {
  await command('pinged')
  const body = { is_ping_response: true, ping_request_id: 'pinged' }
  const response = await service.call('POST', '/v1/heartbeat', { token: device.token, body })
  const at = inside('pinged', '/v1/heartbeat', device)
  const own = { action: 'ring', outcome: 'success', duplicate: false, late: false }
  const http_request_id = response.requestId
  await compareOnly(t, service, 'action_result.ingest', 'INFO', at, { ...own, http_request_id })
  t.match(await service.lines.waitFor((line) => line['request_id'] === http_request_id), {
    event: 'heartbeat.ingest',
    status_code: 200,
  })
})

t.test('a refused result stays under the ingress id', async (t) => {
  const other = { ...(await service.enroll('D02')), alias: 'D02' }
  await command('foreign')
  const before = (await eventsUnder('foreign')).length
  const response = await report('foreign', 'success', other.token)
  t.equal(response.status, 404)
  t.match(await story(service, response.requestId), [
    { event: 'http.request', request_id: response.requestId, reason: 'command_unknown' },
  ])
  t.equal((await eventsUnder('foreign')).length, before, 'no line in another command’s story')
})

t.test('the sweep ends what is over', async (t) => {
  await command('swept')
  await expire('swept')
  const own = { action: 'ring', admin: 'tester', reason: 'ttl' }
  const at = about('swept', 'D01', device)
  await compareOnly(t, service, 'command.expired', 'WARN', at, own)
})

t.test('a late result, which ends what the sweep has not ended yet', async (t) => {
  let isByResult = false
  for (let n = 0; !isByResult && n < 20; n += 1) {
    const id = `late-${n}`
    await command(id)
    await expire(id)
    const response = await report(id, 'success')
    t.equal(response.status, 200)
    const at = { ...end(response, RESULT, device), request_id: id }
    const own = { action: 'ring', outcome: 'success', duplicate: false, late: true }
    const http_request_id = response.requestId
    await compareOnly(t, service, 'action_result.ingest', 'INFO', at, { ...own, http_request_id })
    const line = await service.lines.waitFor(
      (each) => each.event === 'command.expired' && each['request_id'] === id,
    )
    isByResult = line['route'] === RESULT
    const expiredAt = isByResult ? inside(id, RESULT, device) : about(id, 'D01', device)
    const expired = { action: 'ring', admin: 'tester', reason: 'ttl' }
    await compareOnly(t, service, 'command.expired', 'WARN', expiredAt, expired)
  }
  t.ok(isByResult)
})

t.test('cancelled by an admin: under the command’s id, beside the request’s own', async (t) => {
  await command('cancelled')
  const response = await service.call('DELETE', '/admin/commands/cancelled')
  t.equal(response.status, 200)
  const at = inside('cancelled', COMMAND_ROUTE, device)
  const own = { action: 'ring', admin: 'tester', reason: 'admin' }
  await compareOnly(t, service, 'command.cancelled', 'INFO', at, own)
  const ended = await service.lines.terminalOf(response.requestId)
  t.match(ended, { event: 'http.request', device_id: device.deviceId, alias: 'D01' })
})

t.test('cancelled with its device', async (t) => {
  const gone = { ...(await service.enroll('D03')), alias: 'D03' }
  await command('with-device-1', 'D03')
  await command('with-device-2', 'D03')
  await service.call('DELETE', `/admin/devices/${gone.deviceId}`)
  const own = { action: 'ring', admin: 'tester', reason: 'device_deleted' }
  for (const id of ['with-device-1', 'with-device-2']) {
    const at = inside(id, '/admin/devices/{device_id}', gone)
    await compareOnly(t, service, 'command.cancelled', 'INFO', at, own)
  }
})

const JOB = { action: 'ring', devices: 1, completed: 0, failed: 0, expired: 0, cancelled: 0 }
const createJob = (job_id: string, more: object = {}) => {
  const body = { job_id, where: 'alias:D01', action: 'ring', ...more }
  return service.call('POST', '/admin/jobs', { body })
}
const controlJob = (id: string, what: string) => service.call('POST', `/admin/jobs/${id}/${what}`)
const handedOver = (id: string) =>
  service.lines.waitFor((line) => line.event === 'dispatch.request' && line['request_id'] === id)

t.test('a job: each change of it once, under its id, with the counts at that time', async (t) => {
  const not_before = new Date(Date.now() + 3_600_000).toISOString()
  const created = await createJob('job', { not_before })
  t.equal(created.status, 202)
  const own = { ...JOB, reason: null, admin: 'tester' }
  const http_request_id = created.requestId
  const at = inside('job', '/admin/jobs')
  await compareOnly(t, service, 'job.create', 'INFO', at, { ...own, http_request_id })
  const inControl = (what: string) => inside('job', `/admin/jobs/{job_id}/${what}`)
  for (const what of ['pause', 'resume', 'abort'] as const) {
    await controlJob('job', what)
    await controlJob('job', what) // a repeat has no line
    const reason = what === 'resume' ? null : 'admin'
    const cancelled = what === 'abort' ? 1 : 0
    const changed = { ...own, cancelled, reason }
    await compareOnly(t, service, `job.${what}`, 'INFO', inControl(what), changed)
  }
})

t.test('the end of a job, its members, and a threshold', async (t) => {
  await createJob('ends')
  const at = about('ends.1', 'D01', device)
  const nothing = { fcm_http_code: null, fcm_status: null, dispatch_latency_ms: null }
  const handed = { action: 'ring', ...nothing, admin: 'tester' }
  await compareOnly(t, service, 'dispatch.request', 'INFO', at, handed)
  await report('ends.1', 'failure')
  const done = { ...JOB, failed: 1, reason: null, admin: null }
  const ofJob = { ...BACKGROUND, request_id: 'ends' }
  await compareOnly(t, service, 'job.done', 'INFO', ofJob, done)

  const other = { ...(await service.enroll('D04')), alias: 'D04' }
  const where = 'alias:D01,D04'
  await createJob('fails', { where, per_minute: 1, max_failed_pct: 1, min_results: 1 })
  await handedOver('fails.1')
  await report('fails.1', 'failure')
  const paused = { ...JOB, devices: 2, failed: 1, reason: 'threshold', admin: null }
  const ofFails = { ...BACKGROUND, request_id: 'fails' }
  await compareOnly(t, service, 'job.pause', 'WARN', ofFails, paused)

  await createJob('stops', { where: 'alias:D04' })
  await handedOver('stops.1')
  await controlJob('stops', 'abort')
  const ended = { action: 'ring', admin: 'tester', reason: 'job_aborted' }
  const ofMember = about('stops.1', 'D04', other)
  await compareOnly(t, service, 'command.cancelled', 'INFO', ofMember, ended)
})

/** The events under an id, once all requests so far have ended. */
async function eventsUnder(requestId: string): Promise<readonly string[]> {
  const fence = await service.call('GET', '/v1/nowhere')
  await service.lines.terminalOf(fence.requestId)
  return service.lines.all
    .filter((line) => line['request_id'] === requestId)
    .map(({ event }) => event)
}
