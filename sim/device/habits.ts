/** What sets simulated phones apart, and what each of them tells whoever listens. */
import type { Taken } from './commands.ts'

export interface Habits {
  readonly shape: 'flat' | 'nested'
  /** Asks for `//v1/heartbeat`. */
  readonly hasDoubleSlash: boolean
  /** `ack`: as the fielded agent, a ping by the next heartbeat and all else by /v1/devices/{device_id}/ack. */
  readonly reportsBy: 'action-result' | 'ack'
  /** Sends X-Signature with its results. */
  readonly signsResults: boolean
  /** Of the alarm; the first one rings after a random part of it. */
  readonly heartbeatIntervalS: number
  /** How much earlier or later each alarm may ring, as a part of the interval, 0 to 1. */
  readonly alarmJitter: number
  /** How often an alarm or a retry starts two drains at once, 0 to 1. */
  readonly parallelDrains: number
  readonly pushToken: string | null
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
}

export type Channel = 'push' | 'mailbox'

/** Told of what the service has acknowledged and brought; `httpRequestId` is the answer's X-Request-ID. */
export interface DeviceListener {
  onHeartbeat(fact: {
    readonly deviceId: string
    readonly httpRequestId: string
    readonly isDeduped: boolean
  }): void
  /** A message about a command has been dealt with; a result of it is queued. */
  onCommand(fact: {
    readonly requestId: string
    readonly by: Channel
    readonly kind: Taken['kind']
  }): void
  onResult(fact: {
    readonly requestId: string
    readonly httpRequestId: string
    /** null: the answer to a heartbeat that answers a ping does not say. */
    readonly isDuplicate: boolean | null
  }): void
}
