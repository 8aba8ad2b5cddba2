/**
 * Throttles bursts: runs two callbacks after each pause, and everything else between them. The default pause of a
 * millisecond also leaves the CPU to other processes, such as PostgreSQL. Refusing 5,500 sockets at once delayed every
 * heartbeat by half a second. Refusing one per iteration of the event loop raised the heartbeats' p95 from 4.4 to 7.2 ms;
 * this raises it to 6.0 (docs/develop/measurements.md, R9).
 */

const PAUSE_MS = 1
const CALLBACKS_PER_PAUSE = 2
/** One more callback per pause for each 1,000 that wait: any backlog ends. */
const WAITING_PER_EXTRA = 1_000

export class Throttle {
  readonly #schedule: (run: () => void) => void
  #waiting: (() => void)[] = []

  /** `schedule` calls `run` once, after a pause. */
  constructor(schedule: (run: () => void) => void = (run) => void setTimeout(run, PAUSE_MS)) {
    this.#schedule = schedule
  }

  get waiting(): number {
    return this.#waiting.length
  }

  /** First in, first out. Callers bound how many callbacks wait, for example by their sockets. */
  add(work: () => void): void {
    if (this.#waiting.push(work) === 1) this.#schedule(this.#run)
  }

  /** Resolves when its turn comes. */
  turn(): Promise<void> {
    return new Promise((resolve) => this.add(resolve))
  }

  readonly #run = () => {
    const due = this.#waiting.splice(
      0,
      CALLBACKS_PER_PAUSE + Math.floor(this.#waiting.length / WAITING_PER_EXTRA),
    )
    if (this.#waiting.length > 0) this.#schedule(this.#run)
    for (const work of due) work()
  }
}
