/** The lines of heartbeats, and of devices that are deleted or forgotten. */
import t from 'tap'
import { connect } from '../helpers/database.ts'
import { startService } from '../helpers/service.ts'
import { end, inside, story, theme } from './helpers.ts'

const { compare, compareOnly } = theme(t, {
  'heartbeat.ingest': ['INFO'],
  'heartbeat.dedup': ['INFO'],
  'device.label': ['INFO'],
  'device.delete': ['INFO'],
  'device.erase': ['INFO'],
  'device.unknown_to_database': ['ERROR'],
})
const service = await startService(t, { env: { HEARTBEAT_DEDUP_WINDOW_S: '86400' } }) // no test sees its end
const db = await connect(t, service.databaseUrl)
const HEARTBEAT = '/v1/heartbeat'

const beat = (token: string, body: object, headers = {}) =>
  service.call('POST', HEARTBEAT, { token, body, headers })

t.test('a heartbeat that is stored, and one inside its window', async (t) => {
  const device = { ...(await service.enroll('D01')), alias: 'D01' }
  const body = { status: 'warn', battery_pct: 87, network_type: 'wifi', uptime_s: 12_345 }
  const own = { ...body, ignored: null }
  const stored = await beat(device.token, body)
  const storedAt = end(stored, HEARTBEAT, device)
  await compareOnly(t, service, 'heartbeat.ingest', 'INFO', storedAt, own)
  const again = await beat(device.token, body)
  const againAt = end(again, HEARTBEAT, device)
  await compareOnly(t, service, 'heartbeat.dedup', 'INFO', againAt, own)
  for (const { requestId } of [stored, again]) {
    t.equal((await story(service, requestId)).length, 1, 'its only line')
  }
})

t.test('a heartbeat without usable values', async (t) => {
  const device = { ...(await service.enroll('D02')), alias: 'D02' }
  const unusable = { battery_pct: 'full', network_type: 7, uptime_s: -1, ts: 'yesterday' }
  const stored = await beat(device.token, unusable)
  t.equal(stored.body.ignored.length, 4)
  const nothing = { battery_pct: null, network_type: null, uptime_s: null }
  const own = { status: 'ok', ...nothing, ignored: stored.body.ignored }
  const at = end(stored, HEARTBEAT, device)
  await compareOnly(t, service, 'heartbeat.ingest', 'INFO', at, own)
})

t.test('a fielded agent’s heartbeat says the same', async (t) => {
  const device = { ...(await service.enroll('D03')), alias: 'D03' }
  const response = await beat(device.token, {
    device_id: '',
    battery: { pct: 85.0 },
    system: { uptime_seconds: 1.2345678e7 },
    network: { transport: 'cellular' },
  })
  const own = { status: 'ok', battery_pct: 85, network_type: 'cellular', uptime_s: 12_345_678 }
  const at = end(response, HEARTBEAT, device)
  await compareOnly(t, service, 'heartbeat.ingest', 'INFO', at, { ...own, ignored: null })
})

t.test('labels of a device, and of a selection', async (t) => {
  const device = { ...(await service.enroll('labelled')), alias: 'labelled' }
  const path = `/admin/devices/${device.deviceId}`
  const body = { labels: { site: 'zrh' } }
  const one = await service.call('PATCH', path, { body })
  const at = inside(one.requestId, '/admin/devices/{device_id}', device)
  await compareOnly(t, service, 'device.label', 'INFO', at, { admin: 'tester', devices: 1 })
  const again = await service.call('PATCH', path, { body })
  t.equal((await story(service, again.requestId)).length, 1, 'nothing changed')

  const change = { where: 'alias:D0*', labels: { site: 'zrh' } }
  const many = await service.call('POST', '/admin/devices/labels', { body: change })
  const own = { admin: 'tester', devices: 3 }
  const selected = inside(many.requestId, '/admin/devices/labels')
  await compareOnly(t, service, 'device.label', 'INFO', selected, own)
})

t.test('a device that is deleted has one line beside the request’s own', async (t) => {
  const device = { ...(await service.enroll('gone')), alias: 'gone' }
  const deleted = await service.call('DELETE', `/admin/devices/${device.deviceId}`)
  t.equal(deleted.status, 204)
  const at = inside(deleted.requestId, '/admin/devices/{device_id}', device)
  await compareOnly(t, service, 'device.delete', 'INFO', at, { admin: 'tester' })
  t.same(
    (await story(service, deleted.requestId)).map(({ event }) => event),
    ['device.delete', 'http.request'],
  )
})

t.test('a device that is erased has a line for its deletion and one for that', async (t) => {
  const device = { ...(await service.enroll('erased')), alias: 'erased' }
  const path = `/admin/devices/${device.deviceId}?erase=true`
  const erased = await service.call('DELETE', path)
  const at = inside(erased.requestId, '/admin/devices/{device_id}', device)
  await compareOnly(t, service, 'device.erase', 'INFO', at, { admin: 'tester' })
  t.same(
    (await story(service, erased.requestId)).map(({ event }) => event),
    ['device.delete', 'device.erase', 'http.request'],
  )
  const again = await service.call('DELETE', path)
  t.equal((await story(service, again.requestId)).length, 1, 'nothing was left to erase')
})

t.test('a token that we issued and the database forgot is our fault', async (t) => {
  const { token, deviceId } = await service.enroll('forgotten')
  await db.query('delete from device_tokens where device_id = $1', [deviceId])
  const response = await beat(token, {})
  t.match(response, { status: 503, body: { code: 'not_provisioned' } })
  const [told, ended, ...more] = await story(service, response.requestId)
  t.same(more, [])
  if (told === undefined || ended === undefined) throw new Error('a line is missing')
  const at = inside(response.requestId, HEARTBEAT)
  compare(t, told, 'device.unknown_to_database', 'ERROR', at, {})
  t.match(ended, { event: 'http.error', level: 'ERROR', error: 'not_provisioned', stack: null })
})
