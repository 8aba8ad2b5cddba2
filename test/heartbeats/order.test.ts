/** Which heartbeat of a window is stored, and which of them describes the device. */
import t from 'tap'
import type { Enrolled } from '../helpers/service.ts'
import {
  beat,
  command,
  count,
  db,
  EVERY_S,
  give,
  history,
  hours,
  inMinutes,
  passes,
  replica,
  row,
  service,
} from './beats.ts'

t.test('ten heartbeats within a window store one row and count exactly', async (t) => {
  const device = await service.enroll('window')
  const served = 'http_requests_total{route="/v1/heartbeat",method="POST",status_code="200"}'
  const names = [served, 'heartbeats_ingested_total', 'heartbeats_dedup_hits_total'] as const
  const before = await Promise.all(names.map(count))
  const sent = Array.from({ length: 10 }, (_, i) => beat(device, { battery_pct: i }, `ten-${i}`))
  const responses = await Promise.all(sent)
  t.equal(responses.filter((response) => response.body.deduped === false).length, 1)
  t.equal(responses.filter((response) => response.body.deduped === true).length, 9)
  const rows = await history(device)
  t.equal(rows.length, 1)
  const stored = responses.findIndex((response) => !response.body.deduped)
  t.match(rows, [{ battery_pct: stored, request_id: `ten-${stored}`, seq: 0 }])

  const lines = await Promise.all(responses.map((_, i) => service.lines.terminalOf(`ten-${i}`)))
  t.equal(lines.filter((line) => line.event === 'heartbeat.ingest').length, 1)
  const deduped = lines.filter((line) => line.event === 'heartbeat.dedup')
  t.equal(deduped.length, 9)
  for (const line of deduped) {
    const own = ['status', 'battery_pct', 'network_type', 'uptime_s', 'ignored']
    t.same(Object.keys(line).slice(11), own)
  }
  const after = await Promise.all(names.map(count))
  t.same(
    after.map((value, i) => value - (before[i] ?? 0)),
    [10, 1, 9],
  )
})

t.test('a deduped heartbeat still updates the last status', async (t) => {
  const device = await service.enroll('deduped')
  await beat(device, { battery_pct: 50, app_version: '1' })
  const first = await row('device_status', device)
  const response = await beat(device, { battery_pct: 49, status: 'error' }, 'deduped-2')
  t.match(response.body, { deduped: true })
  const second = await row('device_status', device)
  t.match(second, { battery_pct: 49, status: 'error', app_version: null, request_id: 'deduped-2' })
  t.ok(second.last_seen_at > first.last_seen_at)
  t.match(await history(device), [{ battery_pct: 50, status: 'ok' }])
})

t.test('a time within the last 24 h decides which heartbeat describes the device', async (t) => {
  const device = await service.enroll('clock')
  const recent = inMinutes(-5)
  t.same((await beat(device, { ts: recent, battery_pct: 80 })).body.ignored, [])
  const first = await row('device_status', device)
  t.same(first.effective_at, new Date(recent))

  const older = await beat(device, { timestamp_utc: inMinutes(-23 * 60), battery_pct: 10 })
  t.same(older.body.ignored, [], 'a usable time, though it loses')
  const second = await row('device_status', device)
  t.match(second, { battery_pct: 80, effective_at: first.effective_at })
  t.ok(second.last_seen_at > first.last_seen_at, 'it was seen all the same')

  await beat(device, { ts: recent, battery_pct: 79 })
  t.match(await row('device_status', device), { battery_pct: 79 }, 'one that is not older wins')
})

t.test('a time in the future or past 24 h gives way to the receive time', async (t) => {
  for (const minutes of [5, 365 * 24 * 60, -24 * 60 - 1, -365 * 24 * 60]) {
    const device = await service.enroll(`clock${minutes}`)
    await beat(device, { ts: inMinutes(-1), battery_pct: 1 })
    const reportedAt = inMinutes(minutes)
    const response = await beat(device, { timestamp_utc: reportedAt, battery_pct: 2 })
    t.same([response.status, response.body.ignored], [200, ['timestamp_utc']], reportedAt)
    const status = await row('device_status', device)
    t.equal(status.battery_pct, 2)
    t.same(status.effective_at, status.last_seen_at)
  }
})

t.test('the device’s time is kept as data', async (t) => {
  const device = await service.enroll('reported')
  const reportedAt = inMinutes(-25 * 60)
  await beat(device, { ts: reportedAt })
  t.same((await history(device))[0].reported_at, new Date(reportedAt))
})

t.test('a heartbeat that tells no time makes none of its phone older', async (t) => {
  const minutes = hours(-8)
  const device = await service.enroll('told')
  t.match(await give(service, device, 'told-given'), { status: 200 })
  const bodies = [
    { ts: inMinutes(minutes) },
    { is_ping_response: true, ping_request_id: 'none' },
    { ts: inMinutes(minutes + 0.02) },
    {},
    { ts: inMinutes(minutes + 0.04) },
  ]
  for (const [nth, body] of bodies.entries()) {
    const fcm_token = `told-${nth}`
    const { ignored } = (await beat(device, { ...body, battery_pct: nth, fcm_token })).body
    t.notOk(ignored.includes('fcm_token'), `heartbeat ${nth}`)
    t.match(await row('devices', device), { fcm_token })
    t.match(await row('device_status', device), { battery_pct: nth })
  }

  const right = await service.enroll('told-right')
  await beat(right, { ts: inMinutes(-10), battery_pct: 10 })
  await passes(right, EVERY_S)
  await beat(right, { battery_pct: 11, fcm_token: 'told-right' })
  const late = await beat(right, { ts: inMinutes(-12), battery_pct: 12, fcm_token: 'older' })
  t.same(late.body.ignored, ['fcm_token'], 'by what its clock showed, and our time since then')
  t.match(await row('devices', right), { fcm_token: 'told-right' })
  t.match(await row('device_status', right), { battery_pct: 11 })
})

t.test('heartbeats of the moment are 20 s apart, or half of a shorter interval', async (t) => {
  for (const [on, seconds, isHealed] of [
    [service, 19, false],
    [service, 21, true],
    [replica, 4, false],
    [replica, 6, true],
  ] as const) {
    let device: Enrolled
    let sinceMs: number
    do {
      device = await service.enroll(`apart-${seconds}`)
      sinceMs = performance.now()
      for (const [nth, ahead] of [0, hours(-8), hours(-8)].entries()) {
        await passes(device, seconds)
        await beat(device, { ts: inMinutes(ahead), battery_pct: nth }, undefined, on)
      }
    } while (performance.now() - sinceMs > 900) // nor does the time that it took make them a second more
    t.match(await row('device_status', device), { battery_pct: isHealed ? 2 : 0 }, `${seconds} s`)
  }
})

t.test('two replicas that race for one window store one row', async (t) => {
  for (let i = 0; i < 10; i += 1) {
    const device = await service.enroll(`race${i}`)
    const responses = await Promise.all([
      beat(device, {}, `race${i}-a`, service),
      beat(device, {}, `race${i}-b`, replica),
    ])
    t.same(responses.map(({ body }) => body.deduped).sort(), [false, true])
    t.equal((await history(device)).length, 1)
  }
})

t.test('two replicas that race hand a command over once', async (t) => {
  for (let i = 0; i < 10; i += 1) {
    const device = await service.enroll(`hand${i}`)
    const id = await command(device, `hand${i}-cmd`)
    const responses = await Promise.all([
      beat(device, {}, `hand${i}-a`, service),
      beat(device, {}, `hand${i}-b`, replica),
    ])
    t.match(
      responses.flatMap(({ body }) => body.commands),
      [{ request_id: id, attempt: '1' }],
    )
    const text = 'select attempt, deliveries from commands where request_id = $1'
    t.same((await db.query(text, [id])).rows, [{ attempt: 1, deliveries: 1 }])
  }
})

t.test('of tokens that are first used at once exactly one stays', async (t) => {
  const body = { hardware_id: 'H1' }
  const device = await service.enroll('siblings', body)
  const tokens = [device.token]
  while (tokens.length < 5) {
    const { enrollmentToken: token } = device
    const again = await service.call('POST', '/v1/register', { token, body })
    tokens.push(again.body.device_token)
  }
  await Promise.all(
    tokens.map((token, i) =>
      beat({ ...device, token }, {}, `first-${i}`, i % 2 ? service : replica),
    ),
  )
  const later: number[] = []
  for (const token of tokens) later.push((await beat({ ...device, token }, {})).status)
  t.same(later.sort(), [200, 401, 401, 401, 401])
})
