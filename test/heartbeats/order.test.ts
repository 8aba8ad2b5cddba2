/** Which of several heartbeats counts: the window of dedup, the device's clock, its push token, two replicas. */
import t from 'tap'
import { pushSettings, startFakeFcm } from '../../sim/fcm/fake-fcm.ts'
import { connect } from '../helpers/database.ts'
import { type Enrolled, type Running, startService } from '../helpers/service.ts'

const fcm = await startFakeFcm()
t.teardown(() => fcm.close())
const env = {
  HEARTBEAT_DEDUP_WINDOW_S: '86400', // a day: no test sees its end
  ...pushSettings(fcm),
}
const service = await startService(t, { env })
/** One whose phones send a heartbeat every 10 s. */
const replica = await startService(t, {
  env: { ...env, HEARTBEAT_INTERVAL_S: '10' },
  databaseUrl: service.databaseUrl,
})
const db = await connect(t, service.databaseUrl)

const beat = (device: Enrolled, body: object, requestId?: string, on: Running = service) =>
  on.call('POST', '/v1/heartbeat', {
    token: device.token,
    body,
    headers: requestId === undefined ? {} : { 'x-request-id': requestId },
  })

async function row(table: 'devices' | 'device_status', { deviceId }: Enrolled) {
  return (await db.query(`select * from ${table} where device_id = $1`, [deviceId])).rows[0]
}

const history = async ({ deviceId }: Enrolled) =>
  (await db.query('select * from heartbeats where device_id = $1', [deviceId])).rows

async function count(name: string): Promise<number> {
  const { text } = await service.call('GET', '/metrics')
  const line = text.split('\n').find((one) => one.startsWith(`${name} `))
  return Number(line?.slice(name.length + 1) ?? 0)
}

/** Minutes from now, as a phone writes it. */
const inMinutes = (minutes: number) => new Date(Date.now() + minutes * 60_000).toISOString()

/** Opens a command that FCM is asked to push once; gives its id. */
async function command(device: Enrolled, requestId: string): Promise<string> {
  const body = { device_id: device.deviceId, action: 'ping', request_id: requestId }
  t.equal((await service.call('POST', '/admin/command?wait_ms=10000', { body })).status, 202)
  return requestId
}

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

t.test('a heartbeat brings a push token unless it is older', async (t) => {
  const device = await service.enroll('push-age')
  const cases: [minutes: number, fcmToken: string | undefined, kept: string][] = [
    [-5, 'age-1', 'age-1'],
    [-10, 'age-0', 'age-1'],
    [-1, undefined, 'age-1'],
    [-3, 'age-2', 'age-1'], // newer than the token, older than the last status
    [-1, 'age-3', 'age-3'],
    [5, 'age-4', 'age-4'], // no usable time: received last
  ]
  for (const [minutes, fcm_token, kept] of cases) {
    await beat(device, { ts: inMinutes(minutes), fcm_token })
    t.match(await row('devices', device), { fcm_token: kept }, `${minutes} ${fcm_token}`)
  }
})

t.test('a push token that was not taken is named, and one that stays is not', async (t) => {
  const device = await service.enroll('push-named', { fcm_token: 'named-0' })
  const cases: [minutes: number, fcmToken: string | undefined, ignored: string[]][] = [
    [-5, 'named-1', []],
    [-10, 'named-0', ['fcm_token']],
    [-10, 'named-1', []],
    [-10, undefined, []],
    [-4, 'named-2', []],
  ]
  for (const [minutes, fcm_token, ignored] of cases) {
    const response = await beat(device, { ts: inMinutes(minutes), fcm_token }, `named${minutes}`)
    t.same(response.body.ignored, ignored, `${minutes} ${fcm_token}`)
  }
  t.match(await service.lines.terminalOf('named-4'), { ignored: null })
})

t.test('a clock that is at most 5 s ahead is the same clock', async (t) => {
  for (const [seconds, ignored] of [
    [3, []],
    [60, ['ts']],
  ] as const) {
    const device = await service.enroll(`ahead-${seconds}`, { fcm_token: 'ahead-0' })
    const ts = inMinutes(seconds / 60)
    const response = await beat(device, { ts, fcm_token: 'ahead-1' })
    t.same(response.body.ignored, ignored, `${seconds} s`)
    const { effective_at, last_seen_at } = await row('device_status', device)
    t.same(effective_at, seconds === 3 ? new Date(ts) : last_seen_at)
    t.match(await row('devices', device), { fcm_token: 'ahead-1' })
  }
})

/** As if all that is known of the device had come so many seconds earlier, by either clock. */
async function passes({ deviceId }: Enrolled, seconds: number): Promise<void> {
  const shifted = (column: string) => `${column} = ${column} - make_interval(secs => $2)`
  for (const [table, ...columns] of [
    ['device_status', 'last_seen_at', 'effective_at', 'clock_ahead_at', 'clock_at', 'doubted_at'],
    ['devices', 'fcm_token_at', 'fcm_token_due_at'],
  ] as const) {
    const text = `update ${table} set ${columns.map(shifted).join(', ')} where device_id = $1`
    await db.query(text, [deviceId, seconds])
  }
}

const EVERY_S = 300

interface Clock {
  /** Minutes by which the phone's clock is ahead of ours, at each heartbeat; NaN: it sends no time. */
  readonly ahead: readonly number[]
  readonly hasUptime?: boolean
  /** Heartbeats before which the push token changes by its own route. */
  readonly given?: readonly number[]
  /** Heartbeats that look older than what is known: the token is named, the next one heals it. */
  readonly doubted?: readonly number[]
  /** Those of which the push token alone is doubted. */
  readonly doubtedToken?: readonly number[]
}

const hours = (count: number) => count * 60
/** In the time that the test shifts, a clock that stands falls behind. */
const standing = (from: number) => [0, 5, 10, 15, 20, 25].map((passed) => from - passed)
const CLOCKS: Readonly<Record<string, Clock>> = {
  right: { ahead: [0, 0, 0, 0, 0], given: [2] },
  'without a time': { ahead: [Number.NaN, Number.NaN, Number.NaN], given: [1] },
  '8 h behind': { ahead: Array(6).fill(hours(-8)), given: [3] },
  '25 h behind': { ahead: Array(4).fill(hours(-25)), given: [2] },
  '8 h behind, told now and then': {
    ahead: [hours(-8), Number.NaN, hours(-8), Number.NaN, Number.NaN, hours(-8)],
    given: [3, 5],
  },
  '8 h behind, first told later': {
    ahead: [Number.NaN, hours(-8), Number.NaN, hours(-8), Number.NaN, hours(-8)],
    doubted: [1],
  },
  'a day behind, more or less': {
    ahead: [-1440.1, -1439.9, -1440.1, -1439.9, -1440.1, -1439.9],
    doubted: [1],
  },
  'since 1970': { ahead: Array(4).fill(hours(-24 * 365 * 56)), given: [2] },
  '20 min ahead': { ahead: Array(6).fill(20), given: [3] },
  'a year ahead': { ahead: Array(4).fill(hours(24 * 365)), given: [2] },
  'standing still': { ahead: standing(-180) },
  'standing still ahead': { ahead: standing(12) },
  'standing still, token by its route': {
    ahead: standing(-180),
    given: [2],
    doubtedToken: [2],
  },
  'standing still, token by its route, with uptime': {
    ahead: standing(-180),
    given: [2],
    hasUptime: true,
  },
  'at half speed': { ahead: [0, -2.5, -5, -7.5, -10], given: [3], doubtedToken: [3] },
  'at double speed': { ahead: [0, 5, 10, 15, 20], given: [3] },
  'set forward by 8 h': { ahead: [hours(-8), hours(-8), 0, 0], given: [1, 3] },
  'set right from 20 min ahead': { ahead: [20, 20, 0, 0, 0], given: [1, 4] },
  'set back by 8 h': { ahead: [0, 0, hours(-8), hours(-8), hours(-8)], doubted: [2] },
  'set back by 10 min, still ahead': { ahead: [20, 10, 10, 10], doubted: [1] },
  'set back by 8 h from ahead': { ahead: [20, 20, hours(-8), hours(-8)], doubted: [2] },
  'set back by 8 h, token by its route': {
    ahead: [0, 0, hours(-8), hours(-8), hours(-8), hours(-8)],
    given: [2, 4],
    doubted: [2],
  },
  jumping: {
    ahead: [0, hours(-8), 0, hours(-8), hours(-3), 20, hours(-8), hours(-8)],
    doubted: [1, 3, 6],
  },
  'jumping, with uptime': {
    ahead: [0, hours(-8), 0, hours(-8), hours(-3), 20, hours(-8), 10, hours(-23)],
    given: [3, 6],
    hasUptime: true,
  },
}

t.test('whatever its clock does, a phone has its push token and its last status', async (t) => {
  for (const [name, clock] of Object.entries(CLOCKS)) {
    const alias = name.replaceAll(/\W+/g, '-')
    const device = await service.enroll(alias, { fcm_token: `${alias}-registered` })
    for (const [nth, ahead] of clock.ahead.entries()) {
      await passes(device, EVERY_S)
      if (clock.given?.includes(nth)) await give(service, device, `${alias}-${nth}-given`)
      const fcm_token = `${alias}-${nth}`
      const response = await beat(device, {
        ts: Number.isNaN(ahead) ? undefined : inMinutes(ahead),
        battery_pct: nth,
        uptime_s: clock.hasUptime ? 70_000 + nth * EVERY_S : undefined,
        fcm_token,
      })
      const isDoubted = clock.doubted?.includes(nth) ?? false
      const isTokenDoubted = isDoubted || (clock.doubtedToken?.includes(nth) ?? false)
      const title = `${name}, heartbeat ${nth}`
      t.equal(response.body.ignored.includes('fcm_token'), isTokenDoubted, `${title}: named`)
      const { fcm_token: kept } = await row('devices', device)
      t.equal(kept === fcm_token, !isTokenDoubted, `${title}: ${kept}`)
      const { battery_pct } = await row('device_status', device)
      t.equal(battery_pct === nth, !isDoubted, `${title}: status of heartbeat ${battery_pct}`)
    }
  }
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
    const device = await service.enroll(`apart-${seconds}`)
    for (const [nth, ahead] of [0, hours(-8), hours(-8)].entries()) {
      await passes(device, seconds)
      await beat(device, { ts: inMinutes(ahead), battery_pct: nth }, undefined, on)
    }
    t.match(await row('device_status', device), { battery_pct: isHealed ? 2 : 0 }, `${seconds} s`)
  }
})

t.test('a queue that is sent late overwrites nothing, whatever the clock', async (t) => {
  for (const [name, ahead, hasUptime] of [
    ['right', 0, false],
    ['right-uptime', 0, true],
    ['behind', hours(-8), false],
    ['behind-uptime', hours(-8), true],
    ['ahead', 20, false],
    ['ahead-uptime', 20, true],
  ] as const) {
    const device = await service.enroll(`late-${name}`, { fcm_token: 'late-first' })
    const at = (minutes: number, fcm_token: string) => ({
      ts: inMinutes(ahead + minutes),
      battery_pct: -minutes,
      uptime_s: hasUptime ? 70_000 + minutes * 60 : undefined,
      fcm_token,
    })
    t.match(
      await beat(device, at(-30, 'late-old')),
      { status: 200 },
      'the first may be late itself',
    )
    await passes(device, EVERY_S)
    t.match(await beat(device, at(0, 'late-now')), { status: 200 })
    for (const on of [service, replica, service]) {
      for (const minutes of [-15, -10, -5]) {
        const response = await beat(device, at(minutes, 'late-old'), undefined, on)
        t.ok(response.body.ignored.includes('fcm_token'), `${name} ${minutes}`)
      }
    }
    t.match(await row('devices', device), { fcm_token: 'late-now' }, name)
    t.match(await row('device_status', device), { battery_pct: 0 }, name)

    t.match(await give(service, device, 'late-given'), { status: 200 })
    const after = await Promise.all([-4, -3, -2].map((minutes) => beat(device, at(minutes, 'x'))))
    for (const { body } of after) t.ok(body.ignored.includes('fcm_token'), `${name}, given`)
    t.match(await row('devices', device), { fcm_token: 'late-given' }, name)
    await passes(device, EVERY_S)
    t.match(await beat(device, at(0, 'late-next')), { status: 200 })
    t.match(await row('devices', device), { fcm_token: 'late-next' }, name)
  }
})

t.test('what a phone sends late at its next occasion overwrites nothing', async (t) => {
  for (const [name, ahead] of [
    ['right', 0],
    ['behind', hours(-8)],
    ['ahead', 40],
  ] as const) {
    const device = await service.enroll(`again-${name}`)
    let passedS = 0
    const at = (minutes: number) => ({
      ts: inMinutes(ahead + minutes),
      battery_pct: -minutes,
      uptime_s: 70_000 + passedS + minutes * 60,
      fcm_token: `again${minutes}`,
    })
    t.match(await beat(device, at(0)), { status: 200 })
    t.ok((await beat(device, at(-20))).body.ignored.includes('fcm_token'), name)
    await passes(device, EVERY_S)
    passedS += EVERY_S
    const late = await beat(device, at(-15))
    t.ok(
      late.body.ignored.includes('fcm_token'),
      `${name}: its uptime says that the clock is the same`,
    )
    t.match(await row('devices', device), { fcm_token: 'again0' }, name)
    t.match(await row('device_status', device), { battery_pct: 0 }, name)
    t.notOk((await beat(device, at(-1))).body.ignored.includes('fcm_token'), name)
    t.match(await row('device_status', device), { battery_pct: 1 }, name)
  }
})

t.test('an older heartbeat may bring another push token for a dead one', async (t) => {
  const device = await service.enroll('dead-older')
  await beat(device, { ts: inMinutes(-1), fcm_token: 'dead-older-1' })
  const id = await command(device, 'dead-older-cmd')
  t.ok((await row('devices', device)).fcm_token_died_at)
  fcm.register('dead-older-2', () => {})
  const response = await beat(device, {
    ts: inMinutes(-60),
    battery_pct: 7,
    fcm_token: 'dead-older-2',
  })
  t.same(response.body.ignored, [])
  const sent = await fcm.waitForSend(({ pushToken }) => pushToken === 'dead-older-2')
  t.match(sent.data, { request_id: id })
  t.match(await row('device_status', device), { battery_pct: null }, 'it is older all the same')
  await beat(device, { ts: inMinutes(-30), fcm_token: 'dead-older-3' })
  t.match(await row('devices', device), { fcm_token: 'dead-older-2' })
})

t.test('a phone that enrolls again may have another clock', async (t) => {
  const device = await service.enroll('new-clock', { fcm_token: 'new-clock-0' })
  await beat(device, { ts: inMinutes(0), battery_pct: 50 })
  await give(service, device, 'new-clock-1')
  const again = await service.enroll('new-clock', { fcm_token: 'new-clock-1' })
  const body = { ts: inMinutes(hours(-8)), battery_pct: 51, fcm_token: 'new-clock-2' }
  t.same((await beat(again, body)).body.ignored, [])
  t.match(await row('devices', again), { fcm_token: 'new-clock-2' })
  t.match(await row('device_status', again), { battery_pct: 51 })
})

t.test('in one group too the newest heartbeat decides the push token', async (t) => {
  const devices: Enrolled[] = []
  while (devices.length < 10) devices.push(await service.enroll(`pair${devices.length}`))
  await Promise.all(devices.map((device) => beat(device, { ts: inMinutes(-9), fcm_token: 'old' })))
  const sent = devices.flatMap((device) => [
    beat(device, { ts: inMinutes(-1), fcm_token: 'now' }),
    beat(device, { ts: inMinutes(-3), fcm_token: 'before' }),
  ])
  await Promise.all(sent)
  for (const device of devices) t.match(await row('devices', device), { fcm_token: 'now' })
})

t.test('a dead push token is remembered, and another one takes over', async (t) => {
  const device = await service.enroll('dead-token', { fcm_token: 'dead-1' })
  const id = await command(device, 'dead-token-cmd')
  const read = async () => (await service.call('GET', `/admin/commands/${id}`)).body
  t.match(await read(), { status: 'push_failed', push: { state: 'gave_up', attempts: 1 } })
  t.ok((await row('devices', device)).fcm_token_died_at)

  const same = await beat(device, { fcm_token: 'dead-1' })
  t.match(same.body.commands, [{ request_id: id, attempt: '2' }])
  t.match(await row('devices', device), { fcm_token: 'dead-1', fcm_token_died_at: Date })
  t.equal((await read()).push.state, 'gave_up', 'nothing is pushed to it')

  fcm.register('dead-2', () => {})
  t.match(await beat(device, { fcm_token: 'dead-2' }), { status: 200 })
  t.match(await row('devices', device), { fcm_token: 'dead-2', fcm_token_died_at: null })
  const send = await fcm.waitForSend(({ pushToken }) => pushToken === 'dead-2')
  t.match(send.data, { request_id: id, attempt: '3' })
})

t.test('a registration that is asked for again brings its push token too', async (t) => {
  const device = await service.enroll('again-push', {
    hardware_id: 'H1',
    model: 'R4S',
    app_version: '1',
  })
  const id = await command(device, 'again-push-cmd')
  fcm.register('again-push-1', () => {})
  const body = { hardware_id: 'H1', fcm_token: 'again-push-1', app_version: '2', sdk_int: 33 }
  const { enrollmentToken: token } = device
  t.match(await service.call('POST', '/v1/register', { token, body }), { status: 200 })
  const send = await fcm.waitForSend(({ pushToken }) => pushToken === 'again-push-1')
  t.match(send.data, { request_id: id })
  t.match(await row('devices', device), {
    fcm_token: 'again-push-1',
    fcm_token_at: null,
    model: 'R4S',
    app_version: '2',
    sdk_int: 33,
    enrollment_no: 1,
  })
})

t.test('a new push token and the hand-over of a command meet in one heartbeat', async (t) => {
  const device = await service.enroll('both-ways')
  const id = await command(device, 'both-ways-cmd')
  fcm.register('both-ways-1', () => {})
  const response = await beat(device, { fcm_token: 'both-ways-1' })
  t.match(response.body.commands, [{ request_id: id, attempt: '1' }])
  const send = await fcm.waitForSend(({ pushToken }) => pushToken === 'both-ways-1')
  t.match(send.data, { request_id: id, attempt: '2' })
})

t.test('the push token route replaces always, also the dead one by itself', async (t) => {
  const device = await service.enroll('route', { fcm_token: 'route-1' })
  const id = await command(device, 'route-cmd')
  t.ok((await row('devices', device)).fcm_token_died_at)
  fcm.register('route-1', () => {})
  const give = (body: object) =>
    service.call('POST', '/v1/devices/fcm-token', { token: device.token, body })
  t.match(await give({ fcm_token: 'route-1' }), { status: 200, body: { ok: true } })
  const send = await fcm.waitForSend(
    ({ pushToken, data }) => pushToken === 'route-1' && data['attempt'] === '2',
  )
  t.match(send.data, { request_id: id })
  t.match(await row('devices', device), { fcm_token: 'route-1', fcm_token_died_at: null })
  t.match(await give({ fcm_token: 'x'.repeat(4_096) }), { status: 200 })
  for (const body of [{}, { fcm_token: '' }, { fcm_token: 7 }, { fcm_token: 'x'.repeat(4_097) }]) {
    t.match(await give(body), { status: 422, body: { code: 'invalid_field' } })
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

const give = (on: Running, { token }: Enrolled, fcm_token: string) =>
  on.call('POST', '/v1/devices/fcm-token', { token, body: { fcm_token } })

const commandRow = async (id: string) =>
  (await db.query('select *, xmin::text from commands where request_id = $1', [id])).rows[0]

/** As if nobody had changed the device's push token within the hour. */
async function limitFrees({ deviceId }: Enrolled): Promise<void> {
  await db.query('update devices set fcm_token_due_at = null where device_id = $1', [deviceId])
  const text = `update commands set next_attempt_at = now()
    where device_id = $1 and next_attempt_at > now() and lease_id is null`
  await db.query(text, [deviceId])
}

t.test('the same push token again is no reason to push, whichever way it comes', async (t) => {
  const fcm_token = 'same-1'
  fcm.register(fcm_token, () => {})
  const device = await service.enroll('same', { fcm_token })
  const id = await command(device, 'same-cmd')
  const pushed = { push_state: 'sent', push_attempts: 1, next_attempt_at: null }
  t.match(await commandRow(id), pushed)
  const about = async () => {
    const text = 'select xmin::text, * from devices where device_id = $1'
    return [(await db.query(text, [device.deviceId])).rows, await commandRow(id)]
  }

  const before = await about()
  for (const on of [service, replica, service, replica]) {
    t.match(await give(on, device, fcm_token), { status: 200, body: { ok: true } })
  }
  t.same(await about(), before, 'nothing is written')
  const { fcm_token_at } = await row('devices', device)
  for (const on of [service, replica]) await beat(device, { fcm_token }, undefined, on)
  t.same((await about())[0], before[0], 'nor by a heartbeat')
  const body = { fcm_token, hardware_id: 'H1' }
  const { enrollmentToken: token } = await service.enroll('same', body)
  t.match(await service.call('POST', '/v1/register', { token, body }), { status: 200 })
  t.match(await row('devices', device), { fcm_token, fcm_token_at, fcm_token_due_at: null })
  t.match(await commandRow(id), pushed, 'nor do registrations have it pushed')
})

t.test(
  'ten changes of the push token an hour are pushed to, then the last of the hour',
  async (t) => {
    const tokens = Array.from({ length: 16 }, (_, i) => `flood-${i}`)
    for (const one of tokens) fcm.register(one, () => {})
    const device = await service.enroll('flood', { fcm_token: 'flood-0' })
    const id = await command(device, 'flood-cmd')
    const sentTo = (pushToken: string, requestId = id) =>
      fcm.waitForSend(
        (send) => send.pushToken === pushToken && send.data['request_id'] === requestId,
      )
    for (let i = 1; i <= 10; i += 1) {
      if (i % 2)
        t.match(await give(i % 4 === 1 ? service : replica, device, `flood-${i}`), { status: 200 })
      else await beat(device, { fcm_token: `flood-${i}` }, undefined, i % 4 ? service : replica)
      await sentTo(`flood-${i}`)
    }
    const waits = async (fcm_token: string) => {
      let stored = await commandRow(id)
      while (stored.push_state === 'sending') stored = await commandRow(id)
      const { fcm_token_due_at, ...current } = await row('devices', device)
      t.match(current, { fcm_token, fcm_token_died_at: null }, 'it is stored')
      t.match(stored, { push_state: 'waiting', next_attempt_at: fcm_token_due_at })
      const inS = (fcm_token_due_at - Date.now()) / 1_000
      t.ok(inS > 3_000 && inS <= 3_601, `due in ${inS} s`)
      return fcm_token_due_at
    }
    t.match(await give(replica, device, 'flood-11'), { status: 200, body: { ok: true } })
    const dueAt = await waits('flood-11')
    t.match(await beat(device, { fcm_token: 'flood-12' }), { status: 200 })
    t.same(await waits('flood-12'), dueAt, 'another one puts nothing off')
    const again = await replica.enroll('flood', { fcm_token: 'flood-13' })
    t.same(await waits('flood-13'), dueAt)
    await command(again, 'flood-other')
    await sentTo('flood-13', 'flood-other')

    for (const [table, column] of [
      ['devices', 'fcm_token_due_at'],
      ['commands', 'next_attempt_at'],
    ]) {
      const text = `update ${table} set ${column} = ${column} - interval '1 hour' where device_id = $1`
      await db.query(text, [device.deviceId])
    }
    await sentTo('flood-13')
    t.match(await give(service, again, 'flood-14'), { status: 200 })
    t.same(await waits('flood-14'), dueAt, 'once an hour')
    const pushed = fcm.journal.flatMap(({ data, pushToken }) =>
      data['request_id'] === id ? [pushToken] : [],
    )
    t.same(pushed, [...tokens.slice(0, 11), 'flood-13'])
  },
)

t.test('push tokens that come by every way at once never stand in each other’s way', async (t) => {
  const device = await service.enroll('every-way')
  for (let i = 0; i < 8; i += 1) await command(device, `every-way-${i}`)
  for (let i = 0; i < 40; i += 1) fcm.register(`way-${i}`, () => {})
  const give = async (i: number): Promise<number> => {
    const on = i % 2 ? service : replica
    const body = { fcm_token: `way-${i}` }
    const path = i % 4 < 2 ? '/v1/heartbeat' : '/v1/devices/fcm-token'
    const { status } = await on.call('POST', path, { token: device.token, body })
    return status === 503 ? give(i) : status // a slow machine keeps it waiting for too long
  }
  const given = await Promise.all(Array.from({ length: 40 }, (_, i) => give(i)))
  t.same(new Set(given), new Set([200]))
  const { rows } = await db.query(
    'select deadlocks::int from pg_stat_database where datname = current_database()',
  )
  t.same(rows, [{ deadlocks: 0 }])
  await limitFrees(device)
  const { fcm_token } = await row('devices', device)
  for (let i = 0; i < 8; i += 1) {
    const isIt = (send: { pushToken: string; data: Readonly<Record<string, string>> }) =>
      send.pushToken === fcm_token && send.data['request_id'] === `every-way-${i}`
    t.ok(await fcm.waitForSend(isIt), 'the token that stayed got every command')
  }
})
