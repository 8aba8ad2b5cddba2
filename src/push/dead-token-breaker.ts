/**
 * Keeps one fault of FCM's, or of ours, from marking the push tokens of a whole fleet dead: while FCM calls the push
 * tokens of more than 5 % of at least 100 devices dead, tokens are kept and those commands are tried again. Each device
 * that FCM answered about within a minute counts once, by its latest answer: one that makes up tokens shuts nothing.
 */

const WINDOW_MS = 60_000
const MIN_DEVICES = 100
const MAX_DEAD_SHARE = 0.05
/** Remembered at once, some 200 bytes each: of a larger fleet the latest ones are judged. */
const MAX_DEVICES = 10_000

interface Verdict {
  readonly isDead: boolean
  readonly atMs: number
}

export class DeadTokenBreaker {
  /** By device; the oldest comes first. */
  readonly #verdicts = new Map<string, Verdict>()
  #dead = 0

  /** An answer of FCM; `isDead`: it calls the push token of the device dead. `nowMs` is monotonic. */
  record(deviceId: string, isDead: boolean, nowMs: number): void {
    this.#forget(deviceId)
    const [oldest] = this.#verdicts.keys()
    if (this.#verdicts.size === MAX_DEVICES && oldest !== undefined) this.#forget(oldest)
    this.#verdicts.set(deviceId, { isDead, atMs: nowMs })
    if (isDead) this.#dead++
  }

  /** Why no token may be marked dead now; undefined: it may. */
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
