/** So many of something a minute for each key: in memory, of bounded size, by the clock that is passed in. */

/** Remembered at once, some 200 bytes each. One more, and the oldest minute is forgotten: its key begins anew. */
const MAX_KEYS = 10_000
const WINDOW_MS = 60_000

export class RateLimit {
  readonly #maxPerMin: number
  /** By key: the minute that began with its first one. The oldest comes first. */
  readonly #minutes = new Map<string, { readonly startedAtMs: number; count: number }>()

  constructor(maxPerMin: number) {
    this.#maxPerMin = maxPerMin
  }

  get keys(): number {
    return this.#minutes.size
  }

  /**
   * Counts one more of `key`; beyond the limit it counts none and answers in how many seconds there is room. `nowMs` is
   * monotonic. `shares`: the key stands for so many clients, and may take as many times the limit.
   */
  take(key: string, nowMs: number, shares = 1): number | undefined {
    this.#forgetOver(nowMs)
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

  #forgetOver(nowMs: number): void {
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
