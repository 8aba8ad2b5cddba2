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
  /** By key, in the order in which the keys take turns. */
  readonly #waiting = new Map<string, Waiting[]>()
  #size = 0

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
    return this.#size
  }

  /**
   * First in, first out among those of one key; the keys take turns, so that many of one key do not delay the few of
   * another. Without `max`, callers bound how many callbacks wait, for example by their sockets. Work that `isOver` is
   * cheap, so it does not count against the pause's limit.
   */
  add(work: () => void, isOver = () => false, key = ''): void {
    const ofKey = this.#waiting.get(key)
    if (ofKey === undefined) this.#waiting.set(key, [{ work, isOver }])
    else ofKey.push({ work, isOver })
    this.#size += 1
    if (this.#size === 1) this.#schedule(this.#run, 1)
    if (this.#size > this.#max) this.#next()?.work()
  }

  /** Resolves when its turn comes, or earlier once it `isOver`. */
  turn(isOver?: () => boolean, key?: string): Promise<void> {
    return new Promise((resolve) => this.add(resolve, isOver, key))
  }

  readonly #run = () => {
    let left = this.#perPause + Math.floor(this.#size / WAITING_PER_EXTRA)
    const due: Waiting[] = []
    for (let next = this.#next(); next !== undefined; next = left > 0 ? this.#next() : undefined) {
      due.push(next)
      if (!next.isOver()) left -= 1
    }
    if (this.#size > 0) this.#schedule(this.#run, this.#size)
    for (const { work } of due) work()
  }

  /** Takes the first one of the key whose turn it is. */
  #next(): Waiting | undefined {
    for (const [key, ofKey] of this.#waiting) {
      this.#waiting.delete(key)
      const first = ofKey.shift()
      if (ofKey.length > 0) this.#waiting.set(key, ofKey)
      this.#size -= 1
      return first
    }
    return undefined
  }
}
