/** The delay of pushes that the metrics show, against what it was: simulated phones, with clocks of their own. */
import t from 'tap'
import { Device } from '../../sim/device/device.ts'
import type { Deliver } from '../../sim/fcm/apps.ts'
import { pushSettings, startFakeFcm } from '../../sim/fcm/fake-fcm.ts'
import { pushReportStore } from '../../src/db/commands/push-reports.ts'
import { PUSH_DELAY_BUCKETS_MS } from '../../src/telemetry/metrics/histogram.ts'
import { createSend } from '../../testkit/http/client.ts'
import { seededRandom } from '../../testkit/random.ts'
import { until } from '../../testkit/until.ts'
import { connect, databaseOf } from '../helpers/database.ts'
import { patiently, startService } from '../helpers/service.ts'

const HOUR_MS = 3_600_000

const fcm = await startFakeFcm()
t.teardown(() => fcm.close())
/** Half of the interval is the least that makes a heartbeat a witness of the clock. */
const service = await startService(t, {
  env: { ...pushSettings(fcm), HEARTBEAT_INTERVAL_S: '1', HEARTBEAT_DEDUP_WINDOW_S: '0' },
})
const db = await connect(t, service.databaseUrl)
const send = createSend(service.origin)
const random = seededRandom(23)
let phones = 0

type Message = Parameters<Deliver>

interface Phone {
  readonly device: Device
  readonly app: ReturnType<typeof fcm.install>
  /** What FCM has delivered and the phone has not handled yet. */
  readonly inbox: Message[]
}

async function phone(clockAheadMs: number): Promise<Phone> {
  phones += 1
  const alias = `P${phones}`
  const inbox: Message[] = []
  const app = fcm.install(alias, (...message) => void inbox.push(message))
  const habits = { clockAheadMs, reportsBy: phones % 2 === 0 ? 'ack' : 'action-result' } as const
  const device = new Device({ alias, send, nowMs: Date.now, random, habits })
  await device.moveTo(phones % 3 === 0 ? app.registerFid() : app.newToken())
  const aliases = { body: { aliases: [alias] } }
  const { body } = await patiently(() => service.call('POST', '/v1/enroll-tokens', aliases))
  await device.register(body.tokens[0].token)
  return { device, app, inbox }
}

const SILENT = /* sql */ `
  select now() - max(last_seen_at) > interval '0.6 s' as is_silent from device_status
  where device_id = any ($1)`

/** Two heartbeats each, as far apart as witnesses must be. */
async function beatTwice(all: readonly Phone[]): Promise<void> {
  const ids = all.map(({ device }) => device.deviceId)
  await Promise.all(all.map(({ device }) => device.beat()))
  await until(async () => (await db.query(SILENT, [ids])).rows[0].is_silent)
  await Promise.all(all.map(({ device }) => device.beat()))
}

/** Pushes a command to the phone, which gets it `delayMs` after FCM has accepted it, and reports; returns its id. */
async function push({ device, inbox }: Phone, delayMs: number, action = 'ring'): Promise<string> {
  const { body } = await service.call('POST', '/admin/command?wait_ms=10000', {
    body: { alias: device.alias, action, ttl_s: 86_400 },
  })
  await until(() => inbox.length > 0)
  const shift = `update command_events set at = at - make_interval(secs => $2::float8 / 1000)
    where request_id = $1 and stage = 'push_sent'`
  await db.query(shift, [body.request_id, delayMs])
  for (const message of inbox.splice(0)) await device.receive(...message)
  return body.request_id
}

async function scrape() {
  const text: string = (await service.call('GET', '/metrics')).text
  const value = (name: string) =>
    Number(new RegExp(`^fleetloop_push_${name} (\\d+)$`, 'm').exec(text)?.[1])
  return {
    upTo: [
      ...PUSH_DELAY_BUCKETS_MS.map((le) => value(`delay_ms_bucket{le="${le}"}`)),
      value('delay_ms_bucket{le="\\+Inf"}'),
    ],
    unknown: value('delay_unknown_total'),
    deprioritized: value('deprioritized_total'),
  }
}

t.test('the histogram is the truth within a bucket, whatever the clocks show', async (t) => {
  const clocks = [0, -3_000, 4_000, -20 * HOUR_MS, 9 * HOUR_MS, 30 * 24 * HOUR_MS]
  const all = await Promise.all(Array.from({ length: 24 }, (_, n) => phone(clocks[n % 6] ?? 0)))
  await beatTwice(all)
  const delays: { readonly leastMs: number; readonly mostMs: number }[] = []
  for (const one of all) {
    const delayMs = 10 ** (2 + 5 * random())
    const sinceMs = performance.now()
    const id = await push(one, delayMs, one.device.habits.reportsBy === 'ack' ? 'ping' : 'ring')
    delays.push({ leastMs: delayMs, mostMs: delayMs + performance.now() - sinceMs })
    const { body } = await service.call('GET', `/admin/commands/${id}`)
    t.match(body, { status: 'completed', push: { received_at: String, priority: 'high' } })
  }
  const { upTo, unknown } = await scrape()
  const bounds = [...PUSH_DELAY_BUCKETS_MS, Number.POSITIVE_INFINITY]
  const countOf = (which: 'leastMs' | 'mostMs', le = 0) =>
    delays.filter((delay) => delay[which] <= le).length
  for (const [index, count] of upTo.entries()) {
    const least = countOf('mostMs', bounds[index - 1])
    const most = countOf('leastMs', bounds[index + 1] ?? Number.POSITIVE_INFINITY)
    t.ok(count >= least && count <= most, `bucket ${index}: ${least} <= ${count} <= ${most}`)
  }
  t.equal(upTo.at(-1), delays.length)
  t.equal(unknown, 0)
})

t.test('what is not known within 5 s is left out and counted', async (t) => {
  const before = await scrape()
  const once = await phone(0)
  await once.device.beat()
  await push(once, 1_000)
  const jumped = await phone(0)
  await beatTwice([jumped])
  // As if its clock had been set by an hour between the two.
  const jump = 'update device_status set clock_offset_s = null where device_id = $1'
  await db.query(jump, [jumped.device.deviceId])
  await push(jumped, 1_000)
  const early = await phone(0)
  await beatTwice([early])
  await push(early, -60_000)
  const after = await scrape()
  t.equal(after.unknown - before.unknown, 3)
  t.same(after.upTo, before.upTo)
})

t.test('of several pushes the latest by then counts, and none from the future', async (t) => {
  const { deviceId } = await service.enroll('twice')
  await db.query('update device_status set clock_offset_s = 0 where device_id = $1', [deviceId])
  const { body } = await service.call('POST', '/admin/command?wait_ms=0', {
    body: { device_id: deviceId, action: 'ring' },
  })
  const requestId: string = body.request_id
  const nowMs = Date.now()
  const inS = (seconds: number) => new Date(nowMs + seconds * 1_000)
  await db.query(
    `insert into command_events (request_id, stage, instance, at)
     values ($1, 'push_sent', 'r', $2), ($1, 'push_sent', 'r', $3), ($1, 'delivered', 'r', $4)`,
    [requestId, inS(-20), inS(-10), inS(-9.5)],
  )
  const { note } = pushReportStore(databaseOf(db))
  const delayOf = (receivedAt: Date) =>
    note({ requestId, deviceId }, { receivedAt, priority: null, originalPriority: null })
  t.equal(await delayOf(inS(-9)), 1_000)
  t.equal(await delayOf(inS(-13)), 0, 'the second was accepted within 5 s')
  t.equal(await delayOf(inS(-16)), 4_000)
  t.equal(await delayOf(inS(3_600)), null)
})

t.test('a heartbeat that was queued proves no clock, two in a row that agree do', async (t) => {
  const { device } = await phone(0)
  const token = `${Reflect.get(device, 'deviceId')}`
  const offsetOf = async () => {
    const text = 'select clock_offset_s from device_status where device_id = $1'
    return (await db.query(text, [token])).rows[0].clock_offset_s
  }
  await device.beat()
  t.equal(await offsetOf(), null)
  await until(async () => (await db.query(SILENT, [[token]])).rows[0].is_silent)
  await db.query(`update device_status set clock_lag_s = 600 where device_id = $1`, [token])
  await device.beat()
  t.equal(await offsetOf(), null, 'one of the two was late')
  await until(async () => (await db.query(SILENT, [[token]])).rows[0].is_silent)
  await device.beat()
  t.ok(Math.abs(await offsetOf()) < 5)
  await device.beat()
  t.ok(Math.abs(await offsetOf()) < 5, 'one right behind it proves nothing either way')
})

t.test('a queue that is sent at fixed times proves no clock either', async (t) => {
  const { deviceId, token } = await service.enroll('queues')
  const beat = (lateS: number) => {
    const ts = new Date(Date.now() - 1_000 * lateS).toISOString()
    return service.call('POST', '/v1/heartbeat', { token, body: { ts } })
  }
  const text = 'select clock_offset_s from device_status where device_id = $1'
  for (let times = 0; times < 3; times += 1) {
    for (const lateS of [600, 300, 0]) {
      await beat(lateS)
      t.same((await db.query(text, [deviceId])).rows, [{ clock_offset_s: null }], `${lateS}`)
    }
    await until(async () => (await db.query(SILENT, [[deviceId]])).rows[0].is_silent)
  }
})

t.test('the next phone of an alias has a clock and a priority of its own', async (t) => {
  const { device } = await phone(0)
  const read = async () => {
    const text = `
      select clock_lag_s, clock_offset_s, push_lowered_at from device_status where device_id = $1`
    return (await db.query(text, [device.deviceId])).rows[0]
  }
  const text = `
    update device_status set clock_lag_s = 3600, clock_offset_s = 3600, push_lowered_at = now() where device_id = $1`
  await db.query(text, [device.deviceId])
  await service.enroll(device.alias)
  t.same(await read(), { clock_lag_s: null, clock_offset_s: null, push_lowered_at: null })
})

t.test(
  'a lowered priority is counted, and the verdict says so until it is high again',
  async (t) => {
    const one = await phone(0)
    await beatTwice([one])
    const before = await scrape()
    const waiting = async () => {
      const { body } = await service.call('POST', '/admin/command?wait_ms=10000', {
        body: { alias: one.device.alias, action: 'ring' },
      })
      const { verdict } = (await service.call('GET', `/admin/commands/${body.request_id}`)).body
      t.equal(verdict.code, 'pushed_waiting_for_device')
      await until(() => one.inbox.length > 0)
      one.inbox.splice(0)
      return verdict.detail
    }
    one.app.setLowered(true)
    const id = await push(one, 1_000)
    t.equal((await scrape()).deprioritized - before.deprioritized, 1)
    const { body } = await service.call('GET', `/admin/commands/${id}`)
    t.match(body.push, { priority: 'normal', original_priority: 'high' })
    t.match(await waiting(), 'FCM lowered the priority of its messages')
    const loweredAt = async () => {
      const path = `/admin/devices/${one.device.deviceId}`
      return (await service.call('GET', path)).body.push_lowered_at
    }
    t.type(await loweredAt(), 'string')
    one.app.setLowered(false)
    await push(one, 1_000)
    t.equal(await loweredAt(), null)
    t.equal((await scrape()).deprioritized - before.deprioritized, 1)
    t.notMatch(await waiting(), 'FCM lowered')
  },
)

t.test('a report that makes no sense costs no result', async (t) => {
  const { deviceId, token } = await service.enroll('odd-reports')
  for (const push of [null, 5, 'x', [], {}, { received_at: 'soon', priority: 'HIGHEST' }]) {
    const { body } = await service.call('POST', '/admin/command', {
      body: { device_id: deviceId, action: 'ring' },
    })
    const result = { request_id: body.request_id, outcome: 'success', push }
    const response = await service.call('POST', '/v1/action-result', { token, body: result })
    t.match(response, { status: 200, body: { duplicate: false } }, JSON.stringify(push))
  }
  const ping = { is_ping_response: true, ping_request_id: 'none', push: 5 }
  const { body } = await service.call('POST', '/v1/heartbeat', { token, body: ping })
  t.same(body.ignored, ['push', 'ping_request_id'])
})
