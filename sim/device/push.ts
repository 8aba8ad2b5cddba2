/** A phone's push identity, and how the messages of its commands came. */
import type { PushId } from '../../src/domain/delivery/push-id.ts'
import type { Delivery } from '../fcm/apps.ts'
import type { CommandData } from './commands.ts'

/** How the message of a command came by push. */
export interface PushReport extends Delivery {
  /** By the phone's clock. */
  readonly receivedAt: Date
}

/** As many as DeviceCommands remembers results of. */
const MAX_REPORTS = 1_000

export class DevicePush {
  id: PushId | null
  #turn: Promise<void> = Promise.resolve()
  /** By request_id, oldest first. */
  readonly #reports = new Map<string, PushReport>()

  constructor(pushToken: string | null) {
    this.id = pushToken === null ? null : { kind: 'token', value: pushToken }
  }

  /** Reports of its identity have no time of their own: the last one counts, so that they go one after the other. */
  inTurn(report: () => Promise<void>): Promise<void> {
    this.#turn = this.#turn.then(report)
    return this.#turn
  }

  /** A repeat changes nothing. */
  note({ request_id: requestId = '' }: CommandData, report: PushReport): void {
    if (this.#reports.has(requestId)) return
    this.#reports.set(requestId, report)
    const [oldest] = this.#reports.keys()
    if (this.#reports.size > MAX_REPORTS && oldest !== undefined) this.#reports.delete(oldest)
  }

  /** null: it did not come by push. */
  reportOf(requestId: string | null): PushReport | null {
    return (requestId !== null && this.#reports.get(requestId)) || null
  }
}
