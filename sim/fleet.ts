/** Many simulated phones against one origin: enroll all, let them live, and count what the service answered. */
import { setMaxListeners } from 'node:events'
import { setTimeout as wait } from 'node:timers/promises'
import { Device, type DeviceOptions, type Habits } from './device.ts'
import { type DeviceCounts, sumCounts } from './device-counts.ts'
import type { FcmStandIn } from './fcm-stand-in.ts'
import { asJsonObject, bodyOf, type HttpRequest, jsonHeaders, type Send, textOf } from './http.ts'

export interface FleetOptions extends Pick<DeviceOptions, 'send' | 'nowMs' | 'random' | 'run'> {
  readonly aliases: readonly string[]
  /** What sets the phone with this index apart. */
  readonly habitsOf?: (index: number) => Partial<Habits>
  /** Where their push tokens are registered; absent: they have none. */
  readonly push?: Pick<FcmStandIn, 'register'>
}

export interface FleetReport {
  /** Answers by what was asked and what came: `POST /v1/heartbeat 200`, `… 401 token_unknown`, `… no answer`. */
  readonly answers: Readonly<Record<string, number>>
  readonly counts: DeviceCounts
  readonly enrolled: number
  /** Items in the phones' queues, and those lost to a full queue or to age. */
  readonly queued: number
  readonly lost: number
}

export interface Fleet {
  readonly devices: readonly Device[]
  /** Each phone with the token of its alias; at most `atOnce` (20) at a time. A refusal only shows in the report. */
  enroll(tokens: ReadonlyMap<string, string>, atOnce?: number): Promise<void>
  /** One heartbeat of each phone, all at once. */
  beat(): Promise<void>
  /** Alarms and retries in real time, until `signal` aborts and the requests under way have ended. */
  live(signal: AbortSignal): Promise<void>
  report(): FleetReport
}

const MAX_BATCH = 100
const POLL_MS = 1_000

export function createFleet(options: FleetOptions): Fleet {
  const answers = new Map<string, number>()
  const send = countingSend(options.send, answers)
  const devices = options.aliases.map((alias, index) => {
    const pushToken = options.push === undefined ? null : `sim-push-token-${alias}`
    const habits = { pushToken, ...options.habitsOf?.(index) }
    const device = new Device({ ...options, alias, send, habits })
    if (habits.pushToken !== null) {
      options.push?.register(habits.pushToken, (data) => void device.receive(data))
    }
    return device
  })

  return {
    devices,

    async enroll(tokens, atOnce = 20) {
      const waiting = [...devices]
      const enrollNext = async (): Promise<void> => {
        for (let device = waiting.shift(); device !== undefined; device = waiting.shift()) {
          const token = tokens.get(device.alias)
          if (token === undefined) throw new Error(`no enrollment token for ${device.alias}`)
          await device.register(token).catch(() => {}) // counted as `no answer`
        }
      }
      await Promise.all(Array.from({ length: atOnce }, enrollNext))
    },

    async beat() {
      await Promise.all(devices.map((device) => device.beat()))
    },

    async live(signal) {
      setMaxListeners(0, signal) // each phone waits on it
      await Promise.all(devices.map((device) => liveOf(device, options.nowMs, signal)))
    },

    report() {
      return {
        answers: Object.fromEntries([...answers].sort(([a], [b]) => (a < b ? -1 : 1))),
        counts: sumCounts(devices.map((device) => device.counts)),
        enrolled: devices.filter((device) => device.deviceId !== null).length,
        queued: sum(devices, ({ queue }) => queue.length),
        lost: sum(devices, ({ queue }) => queue.dropped + queue.expired),
      }
    },
  }
}

/** Single-use enrollment tokens bound to the aliases, by alias; in batches, as an admin gets them. */
export async function issueEnrollmentTokens(
  send: Send,
  adminToken: string,
  aliases: readonly string[],
): Promise<ReadonlyMap<string, string>> {
  const issued = new Map<string, string>()
  for (let start = 0; start < aliases.length; start += MAX_BATCH) {
    const answer = await send({
      method: 'POST',
      path: '/v1/enroll-tokens',
      headers: jsonHeaders(adminToken),
      body: JSON.stringify({ aliases: aliases.slice(start, start + MAX_BATCH) }),
    })
    const { tokens } = bodyOf(answer)
    if (answer.status !== 201 || !Array.isArray(tokens)) {
      throw new Error(`enrollment tokens were answered with ${answer.status}`)
    }
    for (const made of tokens) {
      const token = asJsonObject(made) ?? {}
      issued.set(textOf(token, 'alias'), textOf(token, 'token'))
    }
  }
  return issued
}

async function liveOf(device: Device, nowMs: () => number, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const untilWakeMs = device.nextWakeAtMs - nowMs()
    // A push in between may bring an earlier retry, hence the bound.
    await wait(Math.min(Math.max(1, untilWakeMs), POLL_MS), undefined, { signal }).catch(() => {})
    if (!signal.aborted && nowMs() >= device.nextWakeAtMs) await device.wake()
  }
}

function countingSend(send: Send, answers: Map<string, number>): Send {
  const count = (request: HttpRequest, what: string) => {
    const key = `${request.method} ${nameOf(request.path)} ${what}`
    answers.set(key, (answers.get(key) ?? 0) + 1)
  }
  return async (request) => {
    try {
      const answer = await send(request)
      const code = answer.status < 400 ? '' : textOf(bodyOf(answer), 'code')
      count(request, `${answer.status} ${code}`.trimEnd())
      return answer
    } catch (error) {
      count(request, 'no answer')
      throw error
    }
  }
}

/** The route, so that the report stays short. */
function nameOf(path: string): string {
  const plain = path.replace(/\?.*/, '').replace(/\/{2,}/g, '/')
  return plain.replace(/^\/v1\/devices\/[^/]+\/ack$/, '/v1/devices/{device_id}/ack')
}

function sum<T>(items: readonly T[], of: (item: T) => number): number {
  return items.reduce((total, item) => total + of(item), 0)
}
