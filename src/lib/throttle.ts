/**
 * Throttles bursts: runs a few callbacks after each pause, and everything else between them. The default pause of a
 * millisecond also leaves the CPU to other processes, such as PostgreSQL. Refusing 5,500 sockets at once delayed every
 * heartbeat by half a second. Refusing one per iteration of the event loop raised the heartbeats' p95 from 4.4 to 7.2 ms;
 * this raises it to 6.0 (docs/develop/measurements.md, R9).
 */

import { LinkedList, type ListNode } from './linked-list.ts'

/** Default pause. */
export const PAUSE_MS = 1
/** Default number of callbacks after each pause. */
const CALLBACKS_PER_PAUSE = 2
/** Default: one more callback per pause for each 1,000 that wait, so any backlog ends. */
const WAITING_PER_EXTRA = 1_000

interface Waiting {
  readonly key: string
  readonly work: () => void
  readonly isOver: () => boolean
}

/** Calls `run` once, after a pause. `waiting` callbacks wait. */
export type Schedule = (run: () => void, waiting: number) => void

export class Throttle {
  readonly #schedule: Schedule
  readonly #max: number
  readonly #perPause: number
  readonly #perExtra: number
  /** Oldest first. */
  readonly #all = new LinkedList<Waiting>()
  /** Those of each key, oldest first. The first key has its turn next. */
  readonly #byKey = new Map<string, ListNode<Waiting>[]>()
  #isOldestNext = true

  /**
   * When more than `max` wait, the oldest one runs at once. `perPause` run after each pause, and one more for each
   * `perExtra` that wait.
   */
  constructor(
    schedule: Schedule = (run) => void setTimeout(run, PAUSE_MS),
    {
      max = Number.POSITIVE_INFINITY,
      perPause = CALLBACKS_PER_PAUSE,
      perExtra = WAITING_PER_EXTRA,
    } = {},
  ) {
    this.#schedule = schedule
    this.#max = max
    this.#perPause = perPause
    this.#perExtra = perExtra
  }

  get waiting(): number {
    return this.#all.size
  }

  /**
   * First in, first out among those of one key. Of every two that run after pauses, one is that of the key whose turn it
   * is, so that many of one key do not delay the few of another; the other one is the oldest, so that very many keys do not
   * delay a busy one: each waits for at most twice as many as came before it. Without `max`, callers bound how many
   * callbacks wait, for example by their sockets. Work that `isOver` is cheap, so it does not count against the pause's
   * limit.
   */
  add(work: () => void, isOver = () => false, key = ''): void {
    const node = this.#all.add({ key, work, isOver })
    const ofKey = this.#byKey.get(key)
    if (ofKey === undefined) this.#byKey.set(key, [node])
    else ofKey.push(node)
    if (this.#all.size === 1) this.#schedule(this.#run, 1)
    if (this.#all.size > this.#max) this.#takeOldest()?.work()
  }

  /** Resolves when its turn comes. */
  turn(isOver?: () => boolean, key?: string): Promise<void> {
    return new Promise((resolve) => this.add(resolve, isOver, key))
  }

  readonly #run = () => {
    const due: Waiting[] = []
    for (let left = this.#perPause + Math.floor(this.#all.size / this.#perExtra); left > 0; ) {
      this.#isOldestNext = !this.#isOldestNext
      const next = this.#isOldestNext ? this.#takeOldest() : this.#takeNext()
      if (next === undefined) break
      due.push(next)
      if (!next.isOver()) left -= 1
    }
    if (this.#all.size > 0) this.#schedule(this.#run, this.#all.size)
    for (const { work } of due) work()
  }

  /** The oldest of the key whose turn it is. */
  #takeNext(): Waiting | undefined {
    for (const [key, ofKey] of this.#byKey) {
      this.#byKey.delete(key)
      if (ofKey.length > 1) this.#byKey.set(key, ofKey)
      return this.#take(ofKey)
    }
    return undefined
  }

  #takeOldest(): Waiting | undefined {
    const key = this.#all.first?.key ?? ''
    const ofKey = this.#byKey.get(key) ?? []
    if (ofKey.length === 1) this.#byKey.delete(key)
    return this.#take(ofKey)
  }

  #take(ofKey: ListNode<Waiting>[]): Waiting | undefined {
    const node = ofKey.shift()
    const item = node?.item
    if (node !== undefined) this.#all.remove(node)
    return item
  }
}
