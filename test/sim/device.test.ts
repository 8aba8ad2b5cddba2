/** The habits of a simulated phone (docs/device-protocol.md), under a made-up clock and against scripted answers. */
import t from 'tap'
import { gson } from '../../sim/device/body.ts'
import { DeviceQueue, MAX_ITEMS, type QueueItem, retryDelayMs } from '../../sim/device/queue.ts'
import { until } from '../../testkit/until.ts'
import { DEVICE_ID, enrolled, HOUR_MS, message, phone, START_MS } from './phone.ts'

function item(name: string, queuedAtMs = START_MS): QueueItem {
  return { kind: 'heartbeat', path: '/v1/heartbeat', body: name, queuedAtMs, requestId: null }
}

t.test(
  'a retry waits 2 s, then twice as long each time up to 300 s, and up to a quarter more',
  (t) => {
    const delays = [1, 2, 3, 4, 5, 6, 7, 8, 9, 100].map((failures) => retryDelayMs(failures, 0))
    t.same(
      delays,
      [2, 4, 8, 16, 32, 64, 128, 256, 300, 300].map((s) => 1_000 * s),
    )
    t.equal(retryDelayMs(1, 1), 2_500)
    t.equal(retryDelayMs(100, 1), 375_000)
    t.end()
  },
)

t.test('the 501st item pushes the oldest out, and that is counted', (t) => {
  const queue = new DeviceQueue()
  for (let n = 1; n <= MAX_ITEMS + 1; n += 1) queue.add(item(`${n}`))
  t.equal(MAX_ITEMS, 500)
  t.equal(queue.length, 500)
  t.equal(queue.dropped, 1)
  t.equal(queue.next(START_MS, new Set())?.body, '2', 'the oldest left comes first')
  t.end()
})

t.test('an item is kept for 24 h and given up after them', (t) => {
  const queue = new DeviceQueue()
  const old = item('old')
  queue.add(old)
  queue.add(item('young', START_MS + 1))
  t.equal(queue.next(START_MS + 24 * HOUR_MS, new Set()), old)
  queue.failed(old, START_MS + 24 * HOUR_MS, 0)
  t.equal(queue.next(START_MS + 24 * HOUR_MS + 1, new Set())?.body, 'young')
  t.equal(queue.expired, 1)
  t.end()
})

t.test('it is up to date while nothing waits but heartbeats that no try has failed', (t) => {
  const queue = new DeviceQueue()
  const beat = item('beat')
  const result: QueueItem = { ...item('result'), kind: 'result' }
  t.ok(queue.isUpToDate)
  queue.add(beat)
  t.ok(queue.isUpToDate)
  queue.add(result)
  t.notOk(queue.isUpToDate)
  queue.remove(result)
  t.ok(queue.isUpToDate)
  const pong = { ...item('pong'), requestId: 'ping-1' }
  queue.add(pong)
  t.notOk(queue.isUpToDate, 'a heartbeat that answers a ping is waited for')
  queue.remove(pong)
  queue.failed(beat, START_MS, 0)
  t.notOk(queue.isUpToDate)
  t.end()
})

t.test('a drain tries every due item once, oldest first, and stops at no failure', async (t) => {
  const { device, world, requests, paths } = await enrolled()
  for (const by of [500, 503, 404, 'silent', 500] as const) {
    world.answer = () => (by === 'silent' ? by : { status: by, headers: { 'retry-after': '0' } })
    await device.beat()
    world.nowMs += HOUR_MS
  }
  t.equal(device.queue.length, 5, 'any answer but a 2xx keeps the item')
  requests.length = 0
  world.answer = () => ({ status: 503, headers: { 'retry-after': '1' } })
  await device.drain()
  const times = requests.map(({ body }) => JSON.parse(String(body)).timestamp_utc)
  t.same(times, [...times].sort(), 'oldest first')
  t.equal(paths().length, 5, 'each once, though every one failed')
  t.equal(device.counts.heartbeatsSent, 1 + 2 + 3 + 4 + 5 + 5)

  world.nowMs += 1_999
  await device.drain()
  t.equal(requests.length, 0, 'Retry-After: 1 brings nothing forward')

  world.nowMs += HOUR_MS
  world.answer = () => ({ status: 200 })
  await device.drain()
  t.equal(device.queue.length, 0)
  t.equal(device.counts.heartbeatsAccepted, 5)
})

t.test('two drains at once send things twice; a third leaves them to it', async (t) => {
  const { device, requests, paths } = await enrolled({ habits: { parallelDrains: 1 } })
  const both = device.wake()
  const third = device.beat()
  t.equal(requests.length, 2)
  await third
  await both
  t.equal(paths().length, 4, 'both send both: what the third queued and what the alarm queued')
  t.equal(device.counts.heartbeatsMade, 2)
  t.equal(device.counts.heartbeatsAccepted, 4)
  t.equal(device.queue.length, 0)
})

t.test(
  'a change of its push identity is reported at once, and a heartbeat behind it',
  async (t) => {
    const { device, world, requests } = await enrolled()
    const sent = () =>
      requests.splice(0).map(({ path, body }) => {
        const { fid, fcm_token } = JSON.parse(String(body))
        return [path, fid ?? null, fcm_token ?? null]
      })
    world.answer = () => 'silent'
    await device.moveTo({ kind: 'fid', value: 'fid-1' })
    const [PUSH_ID, HEARTBEAT] = ['/v1/devices/push-id', '/v1/heartbeat']
    const moved = [
      [PUSH_ID, 'fid-1', null],
      [HEARTBEAT, 'fid-1', null],
    ]
    t.same(sent(), moved)
    await device.moveTo({ kind: 'token', value: 'token-2' })
    t.same(sent(), [
      [PUSH_ID, null, 'token-2'],
      [HEARTBEAT, null, 'token-2'],
    ])
    world.answer = () => ({ status: 200 })
    world.nowMs += HOUR_MS
    await device.drain()
    t.same(
      sent(),
      [
        [HEARTBEAT, 'fid-1', null],
        [PUSH_ID, null, 'token-2'],
        [HEARTBEAT, null, 'token-2'],
      ],
      'a queued heartbeat stays as it is, a queued report of the former identity goes',
    )
    world.answer = ({ path }) => ({ status: path === PUSH_ID ? 404 : 200 })
    await device.moveTo({ kind: 'fid', value: 'fid-1' })
    t.same(sent(), moved)
    t.equal(device.queue.length, 0, 'a service that does not know it is not asked again')
  },
)

t.test('reports of push identities go one after the other', async (t) => {
  const { device, world, requests } = await enrolled()
  const held: (() => void)[] = []
  world.answer = ({ path }) =>
    new Promise((resolve) => {
      if (path === '/v1/heartbeat') resolve({ status: 200 })
      else held.push(() => resolve({ status: 200 }))
    })
  const reports = () => requests.filter(({ path }) => path === '/v1/devices/push-id')
  const move = (value: string) => device.moveTo({ kind: 'fid', value })
  const first = move('fid-1')
  await until(() => held.length === 1)
  const rest = [move('fid-2'), move('fid-3')]
  t.equal(reports().length, 1)
  held[0]?.()
  await until(() => held.length === 2)
  held[1]?.()
  await Promise.all([first, ...rest])
  t.same(
    reports().map(({ body }) => JSON.parse(String(body)).fid),
    ['fid-1', 'fid-3'],
    'what was replaced while it waited is not sent',
  )
})

t.test('five 401s in a row, of whatever items, wipe it; the queue stays', async (t) => {
  const { device, world, paths } = await enrolled()
  world.answer = () => ({ status: 401 })
  await device.receive(message()) // a result: one 401
  for (const _ of [2, 3]) await device.beat() // the result waits for its retry
  t.equal(device.counts.wiped, 0, 'three are not enough')
  world.nowMs += HOUR_MS
  await device.drain()
  t.equal(device.counts.wiped, 1)
  t.equal(paths().length, 5, 'the drain ends where the credentials are gone')
  t.equal(device.deviceId, null)
  t.equal(device.queue.length, 3)

  await device.beat()
  t.same(paths(), [], 'a wiped phone asks for nothing')
  await device.register('et_two')
  world.answer = () => ({ status: 200 })
  world.nowMs += HOUR_MS
  await device.drain()
  t.equal(device.queue.length, 0, 'enrolled anew it tells all that it kept')
})

t.test('what is no 401 in between saves it; 503, 429, 500 and 404 never wipe', async (t) => {
  const { device, world } = await enrolled()
  for (const status of [401, 401, 401, 401, 503, 401, 401, 401, 401, 200]) {
    world.answer = () => ({ status })
    await device.beat()
    world.nowMs += 1 // the failed ones are not due yet
  }
  for (const status of [503, 429, 500, 404]) {
    world.answer = () => ({ status })
    for (let times = 0; times < 6; times += 1) await device.beat()
  }
  t.equal(device.counts.wiped, 0)
  t.equal(device.deviceId, DEVICE_ID)
})

t.test('no answer at all neither counts as a 401 nor undoes one', async (t) => {
  const { device, world } = await enrolled()
  for (const status of [401, 401, 'silent', 401, 401, 'silent', 401] as const) {
    world.answer = () => (status === 'silent' ? status : { status })
    await device.beat()
  }
  t.equal(device.counts.wiped, 1)
})

t.test(
  'the alarm rings after a random part of the interval, then at it, with its jitter',
  async (t) => {
    const { device, world, paths } = phone({
      habits: { heartbeatIntervalS: 600, alarmJitter: 0.1 },
    })
    t.equal(device.nextWakeAtMs, Infinity, 'no alarm before it is enrolled')
    world.random = 0.25
    await device.register('et_one')
    t.equal(device.nextWakeAtMs, START_MS + 150_000)

    world.nowMs = device.nextWakeAtMs
    await device.wake()
    t.same(paths(), ['/v1/heartbeat'])
    t.equal(device.nextWakeAtMs, world.nowMs + 600_000 * 0.95, 'a quarter of -10 % to +10 %')

    world.answer = () => ({ status: 503 })
    world.nowMs = device.nextWakeAtMs
    await device.wake()
    t.equal(device.nextWakeAtMs, world.nowMs + retryDelayMs(1, 0.25), 'a retry may come before it')
    world.nowMs = device.nextWakeAtMs
    paths()
    await device.wake()
    t.equal(paths().length, 1, 'which makes no heartbeat')
  },
)

t.test('bodies are as Gson writes them: no nulls, doubles inside inner maps', (t) => {
  const written = gson({ sdk: 33, none: null, battery: { pct: 85, temp: 30.1, up: 12_345_678 } })
  t.equal(written, '{"sdk":33,"battery":{"pct":85.0,"temp":30.1,"up":1.2345678E7}}')
  t.end()
})
