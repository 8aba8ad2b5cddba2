/** Many simulated phones against one origin: enroll all, let them live, and count what the service answered. */
import { setMaxListeners } from 'node:events'
import { setTimeout as wait } from 'node:timers/promises'
import { type DeviceCounts, sumCounts } from './device/counts.ts'
import { Device, type DeviceOptions } from './device/device.ts'
import type { Habits } from './device/habits.ts'
import type { FakeFcm } from './fcm/fake-fcm.ts'

export interface FleetOptions
  extends Pick<DeviceOptions, 'send' | 'nowMs' | 'random' | 'run' | 'listener'> {
  readonly aliases: readonly string[]
  /** What sets the phone with this index apart. */
  readonly habitsOf?: (index: number) => Partial<Habits>
  /** Where their push tokens are registered; absent: they have none. */
  readonly push?: Pick<FakeFcm, 'register'>
}

export interface FleetReport {
  readonly counts: DeviceCounts
  readonly enrolled: number
  /** Items in the phones' queues, and those lost to a full queue or to age. */
  readonly queued: number
  readonly lost: number
}

export interface Fleet {
  readonly devices: readonly Device[]
  /**
   * Each phone that is not enrolled yet, with the token of its alias; at most `atOnce` (20) at a time, no further one
   * once `signal` aborts. A refusal only shows in what `send` brings.
   */
  enroll(
    tokens: ReadonlyMap<string, string>,
    options?: { readonly atOnce?: number; readonly signal?: AbortSignal },
  ): Promise<void>
  /** One heartbeat of each phone, all at once. */
  beat(): Promise<void>
  /** Alarms and retries in real time, until `signal` aborts: no push is taken any more, what is under way is ended. */
  live(signal: AbortSignal): Promise<void>
  report(): FleetReport
}

const POLL_MS = 1_000

export function createFleet(options: FleetOptions): Fleet {
  const underWay = new Set<Promise<void>>()
  let isOver = false
  const track = (work: Promise<void>) => {
    const tracked = work.finally(() => underWay.delete(tracked))
    underWay.add(tracked)
  }
  const devices = options.aliases.map((alias, index) => {
    const pushToken = options.push === undefined ? null : `sim-push-token-${alias}`
    const habits = { pushToken, ...options.habitsOf?.(index) }
    const device = new Device({ ...options, alias, habits })
    if (habits.pushToken !== null) {
      options.push?.register(habits.pushToken, (data) => {
        if (!isOver) track(device.receive(data))
      })
    }
    return device
  })

  return {
    devices,

    async enroll(tokens, { atOnce = 20, signal } = {}) {
      const waiting = devices.filter((device) => device.deviceId === null)
      const enrollNext = async (): Promise<void> => {
        while (signal?.aborted !== true) {
          const device = waiting.shift()
          if (device === undefined) return
          const token = tokens.get(device.alias)
          if (token === undefined) throw new Error(`no enrollment token for ${device.alias}`)
          await device.register(token).catch(() => {}) // no answer: it stays unenrolled
        }
      }
      await Promise.all(Array.from({ length: atOnce }, enrollNext))
    },

    async beat() {
      await Promise.all(devices.map((device) => device.beat()))
    },

    async live(signal) {
      setMaxListeners(0, signal) // each phone waits on it
      await Promise.all(devices.map((device) => liveOf(device, options.nowMs, signal, track)))
      isOver = true
      while (underWay.size > 0) await Promise.all(underWay)
    },

    report() {
      return {
        counts: sumCounts(devices.map((device) => device.counts)),
        enrolled: devices.filter((device) => device.deviceId !== null).length,
        queued: sum(devices, ({ queue }) => queue.length),
        lost: sum(devices, ({ queue }) => queue.dropped + queue.expired),
      }
    },
  }
}

async function liveOf(
  device: Device,
  nowMs: () => number,
  signal: AbortSignal,
  track: (work: Promise<void>) => void,
): Promise<void> {
  while (!signal.aborted) {
    const untilWakeMs = device.nextWakeAtMs - nowMs()
    // A push in between may bring an earlier retry, hence the bound.
    await wait(Math.min(Math.max(1, untilWakeMs), POLL_MS), undefined, { signal }).catch(() => {})
    // The alarm rings also while a drain hangs, as in the field: it is not awaited here.
    if (!signal.aborted && nowMs() >= device.nextWakeAtMs) track(device.wake())
  }
}

function sum<T>(items: readonly T[], of: (item: T) => number): number {
  return items.reduce((total, item) => total + of(item), 0)
}
