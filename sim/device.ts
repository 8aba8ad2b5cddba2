/**
 * One simulated phone. It speaks the public HTTP API only and has the habits of the fielded agent
 * (fixtures/agent/README.md). Time and randomness are arguments: drive it by hand, by `wake` at `nextWakeAtMs`
 * under a made-up clock, or in real time (fleet.ts).
 *
 * Unenrolled → register → enrolled → five 401s in a row → wiped (unenrolled again; the queue is kept).
 */
import { type FetchedApk, fetchApk } from './device-apk.ts'
import { ackBody, heartbeatBody, registrationBody, resultBody } from './device-body.ts'
import { type CommandData, DeviceCommands, type Run, type RunResult } from './device-commands.ts'
import { type DeviceCounts, zeroCounts } from './device-counts.ts'
import { DeviceQueue, type QueueItem } from './device-queue.ts'
import { asJsonObject, bodyOf, type HttpAnswer, jsonHeaders, type Send, textOf } from './http.ts'

export interface Habits {
  readonly shape: 'flat' | 'nested'
  /** Asks for `//v1/heartbeat`. */
  readonly hasDoubleSlash: boolean
  /** `ack`: as the fielded agent, a ping by the next heartbeat and all else by /v1/devices/{device_id}/ack. */
  readonly reportsBy: 'action-result' | 'ack'
  /** Of the alarm; the first one rings after a random part of it. */
  readonly heartbeatIntervalS: number
  readonly pushToken: string | null
}

export interface DeviceOptions {
  readonly alias: string
  readonly send: Send
  /** Epoch milliseconds. */
  readonly nowMs: () => number
  /** 0 inclusive to 1 exclusive. */
  readonly random: () => number
  readonly habits?: Partial<Habits>
  /** Default: everything succeeds. */
  readonly run?: Run
}

const HABITS: Habits = {
  shape: 'nested',
  hasDoubleSlash: false,
  reportsBy: 'action-result',
  heartbeatIntervalS: 600,
  pushToken: null,
}
const MAX_UNAUTHORIZED = 5
const COUNT_OF = {
  ran: 'commandsRun',
  repeated: 'commandsRepeated',
  running: 'commandsRepeated',
  expired: 'commandsExpired',
  refused: 'commandsRefused',
} as const
const USER_AGENT = 'okhttp/4.12.0'

export class Device {
  readonly alias: string
  readonly habits: Habits
  readonly counts: DeviceCounts = zeroCounts()
  readonly queue = new DeviceQueue()
  readonly #options: DeviceOptions
  readonly #commands: DeviceCommands
  readonly #bootedAtMs: number
  #identity: Identity | null = null
  #unauthorizedInARow = 0
  #alarmAtMs: number

  constructor(options: DeviceOptions) {
    this.alias = options.alias
    this.habits = { ...HABITS, ...options.habits }
    this.#options = options
    this.#commands = new DeviceCommands(options.run ?? succeed, options.nowMs)
    this.#bootedAtMs = options.nowMs() - 86_400_000 * options.random()
    this.#alarmAtMs = options.nowMs() + this.#intervalMs * options.random()
  }

  /** null: not enrolled, or wiped. */
  get deviceId(): string | null {
    return this.#identity?.deviceId ?? null
  }

  /** Epoch milliseconds: its next alarm, or the first retry that is due. */
  get nextWakeAtMs(): number {
    return this.#identity === null ? this.#alarmAtMs : Math.min(this.#alarmAtMs, this.queue.dueAtMs)
  }

  /** Takes the identity that a 200 or 201 brings. Asking again with the same token is how a lost answer is mended. */
  async register(enrollmentToken: string): Promise<HttpAnswer> {
    const answer = await this.#options.send({
      method: 'POST',
      path: '/v1/register',
      headers: { ...jsonHeaders(enrollmentToken), 'user-agent': USER_AGENT },
      body: registrationBody(this.alias, this.habits.pushToken),
    })
    if (isSuccess(answer)) {
      const body = bodyOf(answer)
      this.#identity = {
        deviceId: textOf(body, 'device_id'),
        deviceToken: textOf(body, 'device_token'),
        hmacKey: textOf(body, 'hmac_key'),
      }
      this.#unauthorizedInARow = 0
    }
    return answer
  }

  /** The alarm rings where it is due; then the queue is drained. */
  async wake(): Promise<void> {
    if (this.#options.nowMs() < this.#alarmAtMs) return this.drain()
    this.#alarmAtMs = this.#options.nowMs() + this.#intervalMs
    return this.beat()
  }

  /** One more heartbeat, and all that waits. */
  async beat(): Promise<void> {
    this.#queueHeartbeat(null)
    await this.drain()
  }

  /** A push message arrives. Never rejects. */
  async receive(data: CommandData): Promise<void> {
    this.counts.commandsByPush += 1
    await this.#take(data)
    await this.drain()
  }

  /**
   * Tries every due item once, oldest first, stopping at no failure, and what its answers bring. Two at once send
   * things twice, as in the field. Never rejects.
   */
  async drain(): Promise<void> {
    const tried = new Set<QueueItem>()
    for (;;) {
      const identity = this.#identity
      const item = identity && this.queue.next(this.#options.nowMs(), tried)
      if (!identity || !item) return
      tried.add(item)
      await this.#attempt(item, identity)
    }
  }

  /** With the enrollment token where one is given, else with its own. */
  fetchApk(options: { readonly enrollmentToken?: string } = {}): Promise<FetchedApk> {
    const token = options.enrollmentToken ?? this.#identity?.deviceToken ?? ''
    return fetchApk(this.#options.send, token, USER_AGENT)
  }

  get #intervalMs(): number {
    return this.habits.heartbeatIntervalS * 1_000
  }

  async #attempt(item: QueueItem, { deviceToken }: Identity): Promise<void> {
    const { send, nowMs, random } = this.#options
    const headers = { ...jsonHeaders(deviceToken), 'user-agent': USER_AGENT }
    const request = { method: 'POST', path: item.path, headers, body: item.body } as const
    const answer = await send(request).catch(() => undefined)

    if (answer !== undefined) this.#countUnauthorized(answer.status)
    if (answer === undefined || !isSuccess(answer)) {
      this.queue.failed(item, nowMs(), random()) // also a 4xx, and whatever Retry-After says
      return
    }
    this.queue.remove(item)
    await (item.kind === 'heartbeat' ? this.#emptyMailbox(answer) : this.#resultAccepted(answer))
  }

  #countUnauthorized(status: number): void {
    this.#unauthorizedInARow = status === 401 ? this.#unauthorizedInARow + 1 : 0
    if (this.#unauthorizedInARow < MAX_UNAUTHORIZED || this.#identity === null) return
    this.#identity = null
    this.counts.wiped += 1
  }

  async #emptyMailbox(answer: HttpAnswer): Promise<void> {
    this.counts.heartbeatsAccepted += 1
    const { commands } = bodyOf(answer)
    for (const command of Array.isArray(commands) ? commands : []) {
      this.counts.commandsByMailbox += 1
      await this.#take(asCommandData(command))
    }
  }

  #resultAccepted(answer: HttpAnswer): void {
    this.counts.resultsAccepted += 1
    if (bodyOf(answer)['duplicate'] === true) this.counts.resultsDuplicate += 1
  }

  async #take(data: CommandData): Promise<void> {
    if (this.#identity === null) return
    const taken = await this.#commands.take(data, this.#identity)
    this.counts[COUNT_OF[taken.kind]] += 1
    if ('result' in taken) this.#queueResult(data, taken.result, taken.finishedAtMs)
  }

  #queueResult(data: CommandData, result: RunResult, finishedAtMs: number): void {
    const isAgent = this.habits.reportsBy === 'ack'
    if (isAgent && data['action'] === 'ping' && result.outcome === 'success') {
      this.#queueHeartbeat(data['request_id'] ?? null)
      return
    }
    const path = isAgent ? `/v1/devices/${this.deviceId ?? ''}/ack` : '/v1/action-result'
    const body = (isAgent ? ackBody : resultBody)(data, result, new Date(finishedAtMs))
    this.#queueItem('result', path, body)
  }

  #queueHeartbeat(pingRequestId: string | null): void {
    const { nowMs, random } = this.#options
    const { shape, hasDoubleSlash, pushToken } = this.habits
    const body = heartbeatBody(shape, {
      alias: this.alias,
      deviceId: this.deviceId ?? '',
      at: new Date(nowMs()),
      batteryPct: 20 + Math.floor(80 * random()),
      isPlugged: random() < 0.5,
      tempC: Math.round(250 + 100 * random()) / 10,
      uptimeS: Math.floor((nowMs() - this.#bootedAtMs) / 1_000),
      networkType: random() < 0.8 ? 'wifi' : 'cell',
      queueLength: this.queue.length,
      pushToken,
      pingRequestId,
    })
    this.#queueItem('heartbeat', hasDoubleSlash ? '//v1/heartbeat' : '/v1/heartbeat', body)
  }

  #queueItem(kind: QueueItem['kind'], path: string, body: string): void {
    this.queue.add({ kind, path, body, queuedAtMs: this.#options.nowMs() })
  }
}

interface Identity {
  readonly deviceId: string
  readonly deviceToken: string
  readonly hmacKey: string
}

const succeed: Run = ({ action = '' }) => ({ outcome: 'success', message: `${action} done` })

function isSuccess({ status }: HttpAnswer): boolean {
  return status >= 200 && status < 300
}

/** What is no string cannot be signed: the signature check will say so. */
function asCommandData(value: unknown): CommandData {
  const entries = Object.entries(asJsonObject(value) ?? {})
  return Object.fromEntries(
    entries.flatMap(([name, text]) => (typeof text === 'string' ? [[name, text]] : [])),
  )
}
