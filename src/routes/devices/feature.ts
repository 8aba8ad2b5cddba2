/** What the endpoints of devices use. */
import type { Mailbox, OpenCommand } from '../../db/commands/mailbox.ts'
import type { DeviceStore } from '../../db/devices/devices.ts'
import type { DeviceEraser } from '../../db/devices/erase.ts'
import type { DeviceLabelStore } from '../../db/devices/labels.ts'
import type { HeartbeatItem, HeartbeatResult } from '../../db/heartbeats/heartbeats.ts'
import type { HistoryStore } from '../../db/heartbeats/history.ts'
import type { HeartbeatPace } from '../../domain/heartbeat-pace.ts'
import type { DeviceVerdict } from '../../domain/identity.ts'
import type { GroupCommit } from '../../lib/group-commit.ts'
import type { Results } from '../commands/feature.ts'

export interface Devices extends Results {
  readonly heartbeats: Pick<GroupCommit<HeartbeatItem, HeartbeatResult>, 'add'>
  readonly mailbox: Mailbox
  readonly devices: DeviceStore
  readonly labels: DeviceLabelStore
  readonly history: HistoryStore
  readonly eraser: DeviceEraser
  readonly authenticateDevice: (tokenHash: Buffer) => Promise<DeviceVerdict>
  readonly refuseDevice: (verdict: Exclude<DeviceVerdict, { kind: 'live' }>) => Error
  /** The command as FCM would have carried it, signed for this device; undefined where its secret is not configured. */
  readonly sign: (
    deviceId: string,
    command: OpenCommand,
  ) => Readonly<Record<string, string>> | undefined
  /** To be called when a command may be due for push. */
  readonly wakeDispatcher: () => void
  /** From the arrival of a heartbeat to its response, ms. */
  readonly heartbeatDeadlineMs: number
  readonly pace: Pick<HeartbeatPace, 'stored' | 'nextS'>
  readonly ingested: { add(): void }
  readonly dedupHits: { add(): void }
  /** DEVICE_OFFLINE_S. */
  readonly offlineAfterS: number
  /** FCM is configured. */
  readonly isPushOn: boolean
  /** This replica, for timelines. */
  readonly instance: string
  /** Monotonic. */
  readonly nowMs: () => number
}
