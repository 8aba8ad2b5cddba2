/** Limits how often each key may do something a minute. In memory, of bounded size. */

/** About 200 bytes each. One more evicts the key whose minute is the oldest, which may then start a new minute. */
const MAX_KEYS = 10_000
const WINDOW_MS = 60_000

export class RateLimit {
  readonly #maxPerMin: number
  /** A minute begins with the first use of its key. The oldest comes first. */
  readonly #minutes = new Map<string, { readonly startedAtMs: number; count: number }>()

  constructor(maxPerMin: number) {
    this.#maxPerMin = maxPerMin
  }

  get keys(): number {
    return this.#minutes.size
  }

  /**
   * Counts one use of `key`. Over the limit it counts nothing and returns the seconds until the next minute begins.
   * `nowMs` is monotonic. A key that stands for many clients has `shares` times the limit.
   */
  take(key: string, nowMs: number, shares = 1): number | undefined {
    this.#evictEnded(nowMs)
    const minute = this.#minutes.get(key)
    if (minute === undefined) {
      this.#makeRoom()
      this.#minutes.set(key, { startedAtMs: nowMs, count: 1 })
      return undefined
    }
    if (minute.count >= this.#maxPerMin * shares) {
      return Math.ceil((minute.startedAtMs + WINDOW_MS - nowMs) / 1_000)
    }
    minute.count += 1
    return undefined
  }

  #evictEnded(nowMs: number): void {
    for (const [key, { startedAtMs }] of this.#minutes) {
      if (nowMs < startedAtMs + WINDOW_MS) return
      this.#minutes.delete(key)
    }
  }

  #makeRoom(): void {
    if (this.#minutes.size < MAX_KEYS) return
    for (const oldest of this.#minutes.keys()) {
      this.#minutes.delete(oldest)
      return
    }
  }
}
