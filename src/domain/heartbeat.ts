/** A heartbeat as it is stored, whichever shape the phone sent it in. */

export const HEARTBEAT_STATUSES = ['ok', 'warn', 'error'] as const

export type HeartbeatStatus = (typeof HEARTBEAT_STATUSES)[number]

/** null: not sent, or not usable. */
export interface Heartbeat {
  readonly status: HeartbeatStatus | null
  /** 0 to 100. */
  readonly batteryPct: number | null
  readonly networkType: string | null
  readonly uptimeS: number | null
  readonly isPlugged: boolean | null
  readonly tempC: number | null
  readonly signalDbm: number | null
  readonly ramUsedMb: number | null
  readonly appVersion: string | null
  readonly agentVersion: string | null
  readonly fcmToken: string | null
  /** The device's clock. */
  readonly reportedAt: Date | null
  /** The command that this heartbeat answers: it is not handed over once more. */
  readonly pingRequestId: string | null
}
