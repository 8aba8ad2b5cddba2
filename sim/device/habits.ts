/** How simulated phones differ, and what they report to listeners. */
import type { Taken } from './commands.ts'

export interface Habits {
  readonly shape: 'flat' | 'nested'
  /** Requests `//v1/heartbeat`. */
  readonly hasDoubleSlash: boolean
  /**
   * `ack`: as the fielded agent, which answers a ping by the next heartbeat and others by /v1/devices/{device_id}/ack.
   */
  readonly reportsBy: 'action-result' | 'ack'
  /** Sends X-Signature with results. */
  readonly signsResults: boolean
  /** The first alarm fires after a random part of it. */
  readonly heartbeatIntervalS: number
  /** How much an alarm may deviate, as a part of the interval, 0 to 1. */
  readonly alarmJitter: number
  /** Probability that an alarm or a retry starts two drains at once. */
  readonly parallelDrains: number
  /** It registers by this token; `moveTo` gives it another identity. */
  readonly pushToken: string | null
  /** How far its clock is ahead, milliseconds; negative: behind. */
  readonly clockAheadMs: number
  /** Tells with a result when and how its push message came. */
  readonly reportsPush: boolean
}

export const DEFAULT_HABITS: Habits = {
  shape: 'nested',
  hasDoubleSlash: false,
  reportsBy: 'action-result',
  signsResults: false,
  heartbeatIntervalS: 600,
  alarmJitter: 0,
  parallelDrains: 0,
  pushToken: null,
  clockAheadMs: 0,
  reportsPush: true,
}

export type Channel = 'push' | 'mailbox'

/** Notified of acknowledgements and messages; `httpRequestId` is the response's X-Request-ID. */
export interface DeviceListener {
  onHeartbeat(fact: {
    readonly deviceId: string
    readonly httpRequestId: string
    readonly isDeduped: boolean
  }): void
  /** A message about a command was handled; a result, if any, is queued. */
  onCommand(fact: {
    readonly requestId: string
    readonly by: Channel
    readonly kind: Taken['kind']
  }): void
  onResult(fact: {
    readonly requestId: string
    readonly httpRequestId: string
    /** null: the response to a heartbeat that answers a ping does not say. */
    readonly isDuplicate: boolean | null
  }): void
}
