/** Phones are asked to come back later while heartbeats are slow, each by its own share. */
import t from 'tap'
import { HeartbeatPace } from '../../src/domain/heartbeat-pace.ts'
import { createUuidV7 } from '../../src/domain/ids.ts'

const INTERVAL_S = 300
const ids = Array.from(
  { length: 2_000 },
  createUuidV7(() => 1_800_000_000_000),
)
const FIRST = '01a209ce-2135-7d8a-be30-04de80000000'
const LAST = '01a209ce-2135-7d8a-be30-04de80ffffff'

function after(latenciesMs: readonly number[], offlineAfterS = 1_500) {
  const pace = new HeartbeatPace(INTERVAL_S, offlineAfterS)
  for (const latencyMs of latenciesMs) pace.stored(latencyMs, 0)
  return (deviceId: string, nowMs = 0) => pace.nextS(deviceId, nowMs)
}

t.test('while heartbeats are quick it is the interval, for all', async (t) => {
  for (const latencies of [[], [5], [499, 500], [...Array(96).fill(5), 600, 600, 600, 600]]) {
    t.same(new Set(ids.map((id) => after(latencies)(id))), new Set([INTERVAL_S]))
  }
})

t.test('the more of them are slow, the later, up to thrice and a quarter', async (t) => {
  const cases: [slow: number, quick: number, first: number, last: number][] = [
    [1, 19, 330, 412],
    [1, 1, 600, 750],
    [7, 0, 900, 1_125],
  ]
  for (const [slow, quick, first, last] of cases) {
    const next = after([...Array(slow).fill(501), ...Array(quick).fill(1)])
    t.same([next(FIRST), next(LAST)], [first, last], `${slow} slow, ${quick} quick`)
  }
})

t.test('no phone seems offline by it, wherever DEVICE_OFFLINE_S stands', async (t) => {
  const cases: [offlineAfterS: number, first: number, last: number][] = [
    [10_000, 900, 1_125],
    [1_125, 900, 1_125],
    [600, 518, 600],
    [300, 300, 300],
  ]
  for (const [offlineAfterS, first, last] of cases) {
    const next = after([1_800], offlineAfterS)
    t.same([next(FIRST), next(LAST)], [first, last], `${offlineAfterS} s`)
  }
})

t.test('each device has its own share of lateness, always the same, evenly spread', async (t) => {
  const next = after([900])
  const seconds = ids.map((id) => next(id))
  t.same(
    ids.map((id) => next(id)),
    seconds,
  )
  const tenths = Array<number>(10).fill(0)
  for (const s of seconds) {
    const tenth = Math.min(9, Math.floor((s - 900) / 22.5))
    tenths[tenth] = (tenths[tenth] ?? 0) + 1
  }
  for (const count of tenths) t.ok(count > 100 && count < 300, `${tenths}`)
})

t.test('half a minute after the last slow one all is as before', async (t) => {
  const next = after([900])
  t.equal(next(FIRST, 29_999), 900)
  t.equal(next(FIRST, 30_000), INTERVAL_S)
})
