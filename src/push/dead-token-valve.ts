/**
 * Keeps one fault of FCM's, or of ours, from marking the push tokens of a whole fleet dead: while more than
 * 5 % of at least 100 answers within a minute say "dead", tokens are kept and those commands are tried again.
 */

const WINDOW_S = 60
const MIN_ANSWERS = 100
const MAX_DEAD_SHARE = 0.05

export class DeadTokenValve {
  /** One bucket a second, by second modulo WINDOW_S. */
  readonly #buckets = Array.from({ length: WINDOW_S }, () => ({ second: -1, answers: 0, dead: 0 }))

  /** An answer of FCM; `isDead`: it calls the push token dead. */
  answered(isDead: boolean, nowMs: number): void {
    const second = Math.floor(nowMs / 1000)
    const bucket = this.#buckets[second % WINDOW_S]
    if (bucket === undefined) return
    if (bucket.second !== second) Object.assign(bucket, { second, answers: 0, dead: 0 })
    bucket.answers++
    if (isDead) bucket.dead++
  }

  /** Why no token may be marked dead now; undefined: it may. */
  shutBecause(nowMs: number): string | undefined {
    const oldest = Math.floor(nowMs / 1000) - WINDOW_S
    let answers = 0
    let dead = 0
    for (const bucket of this.#buckets) {
      if (bucket.second <= oldest) continue
      answers += bucket.answers
      dead += bucket.dead
    }
    const isShut = answers >= MIN_ANSWERS && dead > answers * MAX_DEAD_SHARE
    return isShut
      ? `${dead} of ${answers} answers within a minute call the push token dead`
      : undefined
  }
}
