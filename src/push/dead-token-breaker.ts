/**
 * Circuit breaker: a fault at FCM, or one of ours, must not mark the push tokens of a whole fleet dead. It opens
 * while FCM calls the tokens of more than 5 % of at least 100 devices dead; tokens are then kept and commands
 * retried. Each device with a verdict in the last minute counts once, so a device that invents tokens cannot open it.
 */

const WINDOW_MS = 60_000
const MIN_DEVICES = 100
const MAX_DEAD_SHARE = 0.05
/** About 200 bytes each. In a larger fleet the latest devices count. */
const MAX_DEVICES = 10_000

interface Verdict {
  readonly isDead: boolean
  readonly atMs: number
}

export class DeadTokenBreaker {
  /** By device, oldest first. */
  readonly #verdicts = new Map<string, Verdict>()
  #dead = 0

  /** `isDead`: FCM calls the device's push token dead. `nowMs` is monotonic. */
  record(deviceId: string, isDead: boolean, nowMs: number): void {
    this.#forget(deviceId)
    const [oldest] = this.#verdicts.keys()
    if (this.#verdicts.size === MAX_DEVICES && oldest !== undefined) this.#forget(oldest)
    this.#verdicts.set(deviceId, { isDead, atMs: nowMs })
    if (isDead) this.#dead++
  }

  /** Why tokens must not be marked dead now; undefined while the breaker is closed. */
  openReason(nowMs: number): string | undefined {
    for (const [deviceId, { atMs }] of this.#verdicts) {
      if (nowMs - atMs < WINDOW_MS) break
      this.#forget(deviceId)
    }
    const all = this.#verdicts.size
    const isOpen = all >= MIN_DEVICES && this.#dead > all * MAX_DEAD_SHARE
    return isOpen
      ? `FCM calls the push tokens of ${this.#dead} of ${all} devices dead within a minute`
      : undefined
  }

  #forget(deviceId: string): void {
    if (this.#verdicts.get(deviceId)?.isDead === true) this.#dead--
    this.#verdicts.delete(deviceId)
  }
}
