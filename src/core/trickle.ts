/**
 * Work that falls due in floods and may wait a little: a piece in each turn of the event loop, so that everything else
 * has its turn between them. 5,500 sockets refused in one turn held up every heartbeat for half a second, 8 a turn
 * still doubled what one in a turn costs their p99 (bench/RESULTS.md, R9).
 */

/** Beyond so many pieces a turn takes more of them: however many wait, their number falls by as much in each turn. */
const TURNS = 1_000

export class Trickle {
  #waiting: (() => void)[] = []

  /** First come first; `work` is called once, in a later turn. Holds no more than its callers have sockets, or the like. */
  add(work: () => void): void {
    if (this.#waiting.push(work) === 1) setImmediate(this.#run)
  }

  readonly #run = () => {
    const due = this.#waiting.splice(0, Math.ceil(this.#waiting.length / TURNS))
    if (this.#waiting.length > 0) setImmediate(this.#run)
    for (const work of due) work()
  }
}
