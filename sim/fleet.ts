/** Many simulated phones against one origin: enroll, live, and count the responses. */
import { setTimeout as wait } from 'node:timers/promises'
import { type DeviceCounts, sumCounts } from './device/counts.ts'
import { Device, type DeviceOptions } from './device/device.ts'
import type { Habits } from './device/habits.ts'
import type { FakeFcm } from './fcm/fake-fcm.ts'

export interface FleetOptions
  extends Pick<DeviceOptions, 'send' | 'nowMs' | 'random' | 'run' | 'listener'> {
  readonly aliases: readonly string[]
  /** Individual habits of the phone with this index. */
  readonly habitsOf?: (index: number) => Partial<Habits>
  /** Where their push tokens are registered; absent: they have none. */
  readonly push?: Pick<FakeFcm, 'register'>
}

export interface FleetReport {
  readonly counts: DeviceCounts
  readonly enrolled: number
  /** Items in the phones' queues, and those dropped from a full queue or for their age. */
  readonly queued: number
  readonly lost: number
}

export interface Fleet {
  readonly devices: readonly Device[]
  /**
   * Enrolls each phone that is not enrolled with its alias's token; at most `atOnce` (20) at a time, no more once
   * `signal` aborts. Refusals only show in the responses.
   */
  enroll(
    tokens: ReadonlyMap<string, string>,
    options?: { readonly atOnce?: number; readonly signal?: AbortSignal },
  ): Promise<void>
  /** Sends one heartbeat per phone, all at once. */
  beat(): Promise<void>
  /**
   * Runs alarms and retries in real time until `signal` aborts; a second later no push is received, and requests under way end.
   */
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
      options.push?.register(habits.pushToken, (data, delivery) => {
        if (!isOver) track(device.receive(data, delivery))
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
          await device.register(token).catch(() => {}) // without a response it stays unenrolled
        }
      }
      await Promise.all(Array.from({ length: atOnce }, enrollNext))
    },

    async beat() {
      await Promise.all(devices.map((device) => device.beat()))
    },

    async live(signal) {
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
    // Bounded, because a push may cause an earlier retry. Without the signal: adding a listener searches all that are there.
    await wait(Math.min(Math.max(1, untilWakeMs), POLL_MS))
    // Not awaited: as in the field, the alarm fires even while a drain hangs.
    if (!signal.aborted && nowMs() >= device.nextWakeAtMs) track(device.wake())
  }
}

function sum<T>(items: readonly T[], of: (item: T) => number): number {
  return items.reduce((total, item) => total + of(item), 0)
}
