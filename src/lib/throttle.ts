/**
 * Throttles bursts: runs a few callbacks after each pause, and everything else between them. The default pause of a
 * millisecond also leaves the CPU to other processes, such as PostgreSQL. Refusing 5,500 sockets at once delayed every
 * heartbeat by half a second. Refusing one per iteration of the event loop raised the heartbeats' p95 from 4.4 to 7.2 ms;
 * this raises it to 6.0 (docs/develop/measurements.md, R9).
 */

/** Default pause. */
export const PAUSE_MS = 1
/** Default number of callbacks after each pause. */
const CALLBACKS_PER_PAUSE = 2
/** One more callback per pause for each 1,000 that wait: any backlog ends. */
const WAITING_PER_EXTRA = 1_000

interface Waiting {
  readonly work: () => void
  readonly isOver: () => boolean
}

/** Calls `run` once, after a pause. `waiting` callbacks wait. */
export type Schedule = (run: () => void, waiting: number) => void

export class Throttle {
  readonly #schedule: Schedule
  readonly #max: number
  readonly #perPause: number
  readonly #waiting: Waiting[] = []

  /** When more than `max` wait, the first one runs at once. */
  constructor(
    schedule: Schedule = (run) => void setTimeout(run, PAUSE_MS),
    { max = Number.POSITIVE_INFINITY, perPause = CALLBACKS_PER_PAUSE } = {},
  ) {
    this.#schedule = schedule
    this.#max = max
    this.#perPause = perPause
  }

  get waiting(): number {
    return this.#waiting.length
  }

  /**
   * First in, first out. Without `max`, callers bound how many callbacks wait, for example by their sockets. Work that
   * `isOver` is cheap, so it does not count against the pause's limit.
   */
  add(work: () => void, isOver = () => false): void {
    if (this.#waiting.push({ work, isOver }) === 1) this.#schedule(this.#run, 1)
    if (this.#waiting.length > this.#max) this.#waiting.shift()?.work()
  }

  /** Resolves when its turn comes, or earlier once it `isOver`. */
  turn(isOver?: () => boolean): Promise<void> {
    return new Promise((resolve) => this.add(resolve, isOver))
  }

  readonly #run = () => {
    const waiting = this.#waiting
    let left = this.#perPause + Math.floor(waiting.length / WAITING_PER_EXTRA)
    let count = 0
    for (; left > 0 && count < waiting.length; count += 1) if (!waiting[count]?.isOver()) left -= 1
    const due = waiting.splice(0, count)
    if (waiting.length > 0) this.#schedule(this.#run, waiting.length)
    for (const { work } of due) work()
  }
}
