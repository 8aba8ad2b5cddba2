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

interface Answer {
  readonly isDead: boolean
  readonly atMs: number
}

export class DeadTokenValve {
  /** By device; the oldest comes first. */
  readonly #answers = new Map<string, Answer>()
  #dead = 0

  /** An answer of FCM; `isDead`: it calls the push token of the device dead. `nowMs` is monotonic. */
  answered(deviceId: string, isDead: boolean, nowMs: number): void {
    this.#forget(deviceId)
    const [oldest] = this.#answers.keys()
    if (this.#answers.size === MAX_DEVICES && oldest !== undefined) this.#forget(oldest)
    this.#answers.set(deviceId, { isDead, atMs: nowMs })
    if (isDead) this.#dead++
  }

  /** Why no token may be marked dead now; undefined: it may. */
  shutBecause(nowMs: number): string | undefined {
    for (const [deviceId, { atMs }] of this.#answers) {
      if (nowMs - atMs < WINDOW_MS) break
      this.#forget(deviceId)
    }
    const all = this.#answers.size
    const isShut = all >= MIN_DEVICES && this.#dead > all * MAX_DEAD_SHARE
    return isShut
      ? `FCM calls the push tokens of ${this.#dead} of ${all} devices dead within a minute`
      : undefined
  }

  #forget(deviceId: string): void {
    if (this.#answers.get(deviceId)?.isDead === true) this.#dead--
    this.#answers.delete(deviceId)
  }
}
