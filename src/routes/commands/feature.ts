/** What the endpoints of commands use. */
import type { CommandStore } from '../../db/commands/commands.ts'
import type { PushReportStore } from '../../db/commands/push-reports.ts'
import type { CommandResultStore } from '../../db/commands/results.ts'
import type { SenderTrouble } from '../../domain/commands/command.ts'
import type { LiveDevice } from '../../domain/identity.ts'
import type { BaseRequest } from '../../http/route.ts'
import type { Denial } from '../../security/denial.ts'

/** What phones report about push messages. */
export interface PushMetrics {
  readonly delay: { observe(delayMs: number): void }
  readonly delayUnknown: { add(): void }
  readonly deprioritized: { add(): void }
}

/** Records how a command went; heartbeats that answer a ping need it too. */
export interface Results {
  /** The refusal of a signature that is wrong, or is missing where it is required. */
  readonly resultDenial: (request: BaseRequest['signed'], device: LiveDevice) => Denial | undefined
  readonly results: CommandResultStore
  readonly pushReports: PushReportStore
  readonly pushMetrics: PushMetrics
  /** To be called when a command has ended. */
  readonly commandChanged: (requestId: string) => void
}

export interface Commands extends Results {
  readonly commands: CommandStore
  /** COMMAND_ACTIONS. */
  readonly actions: readonly string[]
  /** DEVICE_OFFLINE_S. */
  readonly offlineAfterS: number
  readonly isPushOn: boolean
  /** Of this replica. */
  readonly senderTrouble: () => SenderTrouble | undefined
  readonly wakeDispatcher: () => void
  /** Resolves when the command changes, and no later than `timeoutMs`. */
  readonly waitForChange: (
    requestId: string,
    timeoutMs: number,
    signal: AbortSignal,
  ) => Promise<void>
  /** Takes the place of a waiting request, as readUntil expects; undefined: none is free for this admin. */
  readonly tryAcquireWait: (admin: string) => (() => void) | undefined
  /** This replica, for timelines. */
  readonly instance: string
  /** Monotonic. */
  readonly nowMs: () => number
}
