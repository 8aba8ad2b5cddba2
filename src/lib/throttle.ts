/**
 * Work that falls due in floods and may wait a little: two pieces after each pause, so that everything else has its turn
 * between them. By default a pause lasts a millisecond, which leaves the processors to others, too: PostgreSQL waits for
 * one as long as we keep it. 5,500 sockets refused at once held up every heartbeat for half a second; one in each turn of
 * the event loop was a flood of 20 ms each 100 ms, which took their p95 from 4.4 to 7.2 ms; as here it is 6.0
 * (docs/develop/measurements.md, R9).
 */

const PAUSE_MS = 1
const CALLBACKS_PER_PAUSE = 2
/** For each so many that wait, a piece more: however many they are, they end. */
const CALLBACKS_PER_EXTRA = 1_000

export class Throttle {
  readonly #schedule: (run: () => void) => void
  #waiting: (() => void)[] = []

  /** `later` calls `run` once, behind a pause. */
  constructor(later: (run: () => void) => void = (run) => void setTimeout(run, PAUSE_MS)) {
    this.#schedule = later
  }

  /** How many wait for their turn. */
  get waiting(): number {
    return this.#waiting.length
  }

  /** First come first; `work` is called once, later. Holds no more than its callers have sockets, or the like. */
  add(work: () => void): void {
    if (this.#waiting.push(work) === 1) this.#schedule(this.#run)
  }

  /** Resolves at its turn. */
  turn(): Promise<void> {
    return new Promise((resolve) => this.add(resolve))
  }

  readonly #run = () => {
    const due = this.#waiting.splice(
      0,
      CALLBACKS_PER_PAUSE + Math.floor(this.#waiting.length / CALLBACKS_PER_EXTRA),
    )
    if (this.#waiting.length > 0) this.#schedule(this.#run)
    for (const work of due) work()
  }
}
