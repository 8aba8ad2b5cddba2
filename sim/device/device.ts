/**
 * One simulated phone. It speaks the public HTTP API only and has the habits of the fielded agent
 * (docs/device-protocol.md). Time and randomness are arguments: drive it by hand, by `wake` at `nextWakeAtMs`
 * under a made-up clock, or in real time (fleet.ts).
 *
 * Unenrolled → register → enrolled → five 401s in a row → wiped (unenrolled again; the queue is kept).
 */

import type { PushId } from '../../src/domain/delivery/push-id.ts'
import {
  bodyOf,
  type HttpResponse,
  isSuccess,
  requestIdOf,
  type Send,
  textOf,
} from '../../testkit/http/client.ts'
import type { Delivery } from '../fcm/apps.ts'
import { type FetchedApk, fetchApk } from './apk.ts'
import { ackBody, heartbeatBody, pushIdBody, resultBody } from './body.ts'
import {
  asCommandData,
  type CommandData,
  DeviceCommands,
  type RunResult,
  reportTimesMs,
  type Taken,
} from './commands.ts'
import { type DeviceCounts, zeroCounts } from './counts.ts'
import { type Channel, DEFAULT_HABITS, type DeviceListener, type Habits } from './habits.ts'
import { DevicePush } from './push.ts'
import { DeviceQueue, type QueueItem } from './queue.ts'
import { type Identity, itemRequest, registerRequest, USER_AGENT } from './requests.ts'

export interface DeviceOptions {
  readonly alias: string
  readonly send: Send
  /** Epoch milliseconds. */
  readonly nowMs: () => number
  /** 0 inclusive to 1 exclusive. */
  readonly random: () => number
  readonly habits?: Partial<Habits>
  /** Executes a command; an exception is a failure. Default: succeeds. */
  readonly run?: (command: CommandData, device: Device) => RunResult | Promise<RunResult>
  readonly listener?: DeviceListener
}

const MAX_UNAUTHORIZED = 5
/** Drains at once. A running one also sends what is queued meanwhile. */
const MAX_DRAINS = 2
const COUNT_OF = {
  ran: 'commandsRun',
  repeated: 'commandsRepeated',
  running: 'commandsRepeated',
  expired: 'commandsExpired',
  refused: 'commandsRefused',
} as const
const SENT_COUNT = { heartbeat: 'heartbeatsSent', result: 'resultsSent' } as const

export class Device {
  readonly alias: string
  readonly habits: Habits
  readonly counts: DeviceCounts = zeroCounts()
  readonly queue = new DeviceQueue()
  readonly #options: DeviceOptions
  readonly #commands: DeviceCommands
  readonly #push: DevicePush
  readonly #bootedAtMs: number
  #identity: Identity | null = null
  #unauthorizedInARow = 0
  #alarmAtMs = Number.POSITIVE_INFINITY
  #drains = 0

  constructor(options: DeviceOptions) {
    const { alias, habits, nowMs, random, run = succeed } = options
    this.alias = alias
    this.habits = { ...DEFAULT_HABITS, ...habits }
    this.#options = options
    this.#commands = new DeviceCommands((command) => run(command, this), nowMs)
    this.#bootedAtMs = nowMs() - 86_400_000 * random()
    this.#push = new DevicePush(this.habits.pushToken)
  }

  /** null: not enrolled, or wiped. */
  get deviceId(): string | null {
    return this.#identity?.deviceId ?? null
  }

  /**
   * Epoch milliseconds: its next alarm, or the first retry that is due (while a drain is under way, that sees to it).
   * Infinity until it is enrolled: the alarm is set then, and rings on, wiped or not.
   */
  get nextWakeAtMs(): number {
    const canDrain = this.#identity !== null && this.#drains === 0
    return canDrain ? Math.min(this.#alarmAtMs, this.queue.dueAtMs) : this.#alarmAtMs
  }

  /** Takes over the identity of a 200 or 201. Repeat it with the same token after a lost response. */
  async register(enrollmentToken: string): Promise<HttpResponse> {
    const response = await this.#options.send(
      registerRequest(enrollmentToken, this.alias, this.#push.id),
    )
    if (isSuccess(response)) {
      const body = bodyOf(response)
      this.#identity = {
        deviceId: textOf(body, 'device_id'),
        deviceToken: textOf(body, 'device_token'),
        hmacKey: textOf(body, 'hmac_key'),
      }
      this.#unauthorizedInARow = 0
      this.#setAlarm(this.#options.random())
    }
    return response
  }

  /** Fires the alarm if it is due, then drains the queue. */
  async wake(): Promise<void> {
    const { nowMs, random } = this.#options
    const { alarmJitter, parallelDrains } = this.habits
    if (nowMs() >= this.#alarmAtMs) {
      this.#setAlarm(1 + alarmJitter * (2 * random() - 1))
      this.#queueHeartbeat(null)
    }
    const drains = random() < parallelDrains ? [this.drain(), this.drain()] : [this.drain()]
    await Promise.all(drains)
  }

  /** Queues one more heartbeat, then drains the queue. */
  async beat(): Promise<void> {
    this.#queueHeartbeat(null)
    await this.drain()
  }

  /**
   * Takes the identity by which FCM has just registered it, and reports it at once; the heartbeat behind it brings what a push
   * to the former one may have missed (docs/device-protocol.md). Never rejects.
   */
  async moveTo(pushId: PushId): Promise<void> {
    this.#push.id = pushId
    this.queue.removeAll('push_id')
    if (this.#identity === null) return
    const body = JSON.stringify(pushIdBody(pushId))
    this.#queueItem({ kind: 'push_id', path: '/v1/devices/push-id', body, requestId: null })
    this.#queueHeartbeat(null)
    await this.drain()
  }

  /** Receives a push message. Never rejects. */
  async receive(data: CommandData, delivery?: Delivery): Promise<void> {
    this.counts.commandsByPush += 1
    if (delivery !== undefined && this.habits.reportsPush) {
      this.#push.note(data, { ...delivery, receivedAt: this.#clockAt(this.#options.nowMs()) })
    }
    await this.#take(data, 'push')
    await this.drain()
  }

  /**
   * Tries every due item once, oldest first, stopping at no failure, and what its answers bring. Two at once send
   * things twice, as in the field; a third returns at once. Never rejects.
   */
  async drain(): Promise<void> {
    if (this.#drains === MAX_DRAINS) return
    this.#drains += 1
    const tried = new Set<QueueItem>()
    for (;;) {
      const identity = this.#identity
      const item = identity && this.queue.next(this.#options.nowMs(), tried)
      if (!identity || !item) break
      tried.add(item)
      await (item.kind === 'push_id'
        ? this.#push.inTurn(() => this.#attempt(item, identity))
        : this.#attempt(item, identity))
    }
    this.#drains -= 1
  }

  /** With the enrollment token if given, otherwise with its own. */
  fetchApk(options: { readonly enrollmentToken?: string } = {}): Promise<FetchedApk> {
    const token = options.enrollmentToken ?? this.#identity?.deviceToken ?? ''
    return fetchApk(this.#options.send, token, USER_AGENT)
  }

  /** `part` of the interval from now. */
  #setAlarm(part: number): void {
    this.#alarmAtMs = this.#options.nowMs() + 1_000 * this.habits.heartbeatIntervalS * part
  }

  async #attempt(item: QueueItem, identity: Identity): Promise<void> {
    const { send, nowMs, random } = this.#options
    if (!this.queue.has(item)) return // delivered by the other drain, or replaced while it waited for its turn
    if (item.kind !== 'push_id') this.counts[SENT_COUNT[item.kind]] += 1
    const request = itemRequest(item, identity, this.habits, nowMs())
    const response = await send(request).catch(() => undefined)

    if (response !== undefined) this.#countUnauthorized(response.status)
    const isNoRoute = item.kind === 'push_id' && response?.status === 404
    if (response === undefined || !(isSuccess(response) || isNoRoute)) {
      this.queue.failed(item, nowMs(), random()) // even for a 4xx, and whatever Retry-After says
      return
    }
    this.queue.remove(item)
    if (item.kind === 'heartbeat') await this.#heartbeatAccepted(item, response, identity)
    if (item.kind === 'result') this.#resultAccepted(item, response)
  }

  #countUnauthorized(status: number): void {
    this.#unauthorizedInARow = status === 401 ? this.#unauthorizedInARow + 1 : 0
    if (this.#unauthorizedInARow < MAX_UNAUTHORIZED || this.#identity === null) return
    this.#identity = null
    this.counts.wiped += 1
  }

  async #heartbeatAccepted(
    { requestId }: QueueItem,
    response: HttpResponse,
    { deviceId }: Identity,
  ): Promise<void> {
    const { listener } = this.#options
    const { commands, deduped, ignored } = bodyOf(response)
    const isDeduped = deduped === true
    const httpRequestId = requestIdOf(response)
    this.counts.heartbeatsAccepted += 1
    if (isDeduped) this.counts.heartbeatsDeduped += 1
    listener?.onHeartbeat({ deviceId, httpRequestId, isDeduped })
    const isPingTaken = !(Array.isArray(ignored) && ignored.includes('ping_request_id'))
    if (requestId !== null && isPingTaken) {
      listener?.onResult({ requestId, httpRequestId, isDuplicate: null })
    }
    for (const command of Array.isArray(commands) ? commands : []) {
      this.counts.commandsByMailbox += 1
      await this.#take(asCommandData(command), 'mailbox')
    }
  }

  #resultAccepted({ requestId }: QueueItem, response: HttpResponse): void {
    const isDuplicate = bodyOf(response)['duplicate'] === true
    this.counts.resultsAccepted += 1
    if (isDuplicate) this.counts.resultsDuplicate += 1
    if (requestId === null) return
    this.#options.listener?.onResult({
      requestId,
      httpRequestId: requestIdOf(response),
      isDuplicate,
    })
  }

  async #take(data: CommandData, by: Channel): Promise<void> {
    if (this.#identity === null) return
    const taken = await this.#commands.take(data, this.#identity)
    this.counts[COUNT_OF[taken.kind]] += 1
    for (const dueAtMs of reportTimesMs(taken)) this.#queueResult(data, taken, dueAtMs)
    this.#options.listener?.onCommand({ requestId: data['request_id'] ?? '', by, kind: taken.kind })
  }

  #queueResult(data: CommandData, taken: Taken, dueAtMs: number): void {
    if (!('result' in taken)) return
    const { result, finishedAtMs } = taken
    const isAgent = this.habits.reportsBy === 'ack'
    const { request_id: requestId = '' } = data
    if (isAgent && data['action'] === 'ping' && result.outcome === 'success') {
      this.#queueHeartbeat(requestId, dueAtMs)
      return
    }
    const path = isAgent ? `/v1/devices/${this.deviceId ?? ''}/ack` : '/v1/action-result'
    const bodyOfKind = isAgent ? ackBody : resultBody
    const finishedAt = this.#clockAt(finishedAtMs)
    const body = bodyOfKind(data, result, finishedAt, this.#push.reportOf(requestId))
    this.#queueItem({ kind: 'result', path, body, requestId }, dueAtMs)
  }

  #queueHeartbeat(pingRequestId: string | null, dueAtMs?: number): void {
    const { nowMs, random } = this.#options
    const { shape, hasDoubleSlash } = this.habits
    const body = heartbeatBody(shape, {
      alias: this.alias,
      deviceId: this.deviceId ?? '',
      at: this.#clockAt(nowMs()),
      batteryPct: 20 + Math.floor(80 * random()),
      isPlugged: random() < 0.5,
      tempC: Math.round(250 + 100 * random()) / 10,
      uptimeS: Math.floor((nowMs() - this.#bootedAtMs) / 1_000),
      networkType: random() < 0.8 ? 'wifi' : 'cell',
      queueLength: this.queue.length,
      pushId: this.#push.id,
      pingRequestId,
      push: this.#push.reportOf(pingRequestId),
    })
    this.counts.heartbeatsMade += 1
    const path = hasDoubleSlash ? '//v1/heartbeat' : '/v1/heartbeat'
    this.#queueItem({ kind: 'heartbeat', path, body, requestId: pingRequestId }, dueAtMs)
  }

  /** What its own clock shows. */
  #clockAt(ms: number): Date {
    return new Date(ms + this.habits.clockAheadMs)
  }

  #queueItem(item: Omit<QueueItem, 'queuedAtMs'>, dueAtMs?: number): void {
    this.queue.add({ ...item, queuedAtMs: this.#options.nowMs() }, dueAtMs)
  }
}

const succeed = ({ action = '' }: CommandData) =>
  ({ outcome: 'success', message: `${action} done` }) as const
