/** Phones whose clocks are wrong, or change, and heartbeats that are sent late. */
import t from 'tap'
import type { Enrolled } from '../helpers/service.ts'
import { beat, EVERY_S, give, hours, inMinutes, passes, replica, row, service } from './beats.ts'

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

t.test(
  'two heartbeats that agree prove a clock from the first one, but not in a queue',
  async (t) => {
    const offsetOf = async (device: Enrolled) => (await row('device_status', device)).clock_offset_s
    const late = () => ({ ts: inMinutes(hours(-8)) })
    const device = await service.enroll('first-agrees')
    await beat(device, late())
    t.equal(await offsetOf(device), null)
    await passes(device, EVERY_S)
    await beat(device, late())
    t.ok(Math.abs((await offsetOf(device)) - 8 * 3_600) < 60)

    const queue = await service.enroll('queue-agrees')
    for (let n = 0; n < 3; n += 1) await beat(queue, { ts: inMinutes(-10) })
    t.equal(await offsetOf(queue), null)
  },
)
