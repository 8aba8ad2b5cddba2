/**
 * Keeps one fault of FCM's, or of ours, from marking the push tokens of a whole fleet dead: while more than
 * 5 % of at least 100 answers within a minute say "dead", tokens are kept and those commands are tried again.
 */
import { RecentShare } from '../core/recent-share.ts'

const WINDOW_S = 60
const MIN_ANSWERS = 100
const MAX_DEAD_SHARE = 0.05

export class DeadTokenValve {
  readonly #dead = new RecentShare(WINDOW_S)

  /** An answer of FCM; `isDead`: it calls the push token dead. */
  answered(isDead: boolean, nowMs: number): void {
    this.#dead.add(isDead, nowMs)
  }

  /** Why no token may be marked dead now; undefined: it may. */
  shutBecause(nowMs: number): string | undefined {
    const { all, hits } = this.#dead.counts(nowMs)
    const isShut = all >= MIN_ANSWERS && hits > all * MAX_DEAD_SHARE
    return isShut ? `${hits} of ${all} answers within a minute call the push token dead` : undefined
  }
}
