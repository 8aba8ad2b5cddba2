/**
 * Group commit: items that arrive while a statement is in flight form the next group.
 *
 * States of an item, and what moves it on:
 *   refused   add() found the queue full, too many of its key in it, or the group closed: rejected at once, nothing
 *             was written
 *   queued    waits for a free statement, and behind an earlier one of its key, since no key is twice in a group;
 *             past its deadline it is taken out and rejected, nothing was written
 *   in flight its group's statement runs; past its deadline it is rejected with the outcome unknown
 *   settled   its own row is durable (or was judged): resolved with its own answer
 *
 * A group that fails is judged by `failureKind`: `retry` runs it again at most twice; `poison` splits it in
 * halves until the bad item stands alone and only that one is rejected; `unavailable` rejects all of it.
 */
import { AppError } from '../domain/errors.ts'
import { withFailedCall } from '../domain/failed-call.ts'

export type FailureKind = 'retry' | 'poison' | 'unavailable'

export interface GroupCommitOptions<Item, Answer> {
  /** Writes one group and answers each item in order; resolves only once all of it is durable. */
  readonly flush: (items: readonly Item[]) => Promise<readonly Answer[]>
  /** The name of the statement that it runs. */
  readonly statement: string
  readonly failureKind: (error: unknown) => FailureKind
  /** Of items with equal keys a group holds one; the others wait for the next groups, in their order. */
  readonly keyOf: (item: Item) => number
  /** Items of one key that may wait; one more is refused, so that no single sender fills the queue. */
  readonly maxQueuedPerKey: number
  /** Most items of one statement. */
  readonly maxGroup: number
  /** Full groups that may wait; one item more is refused. */
  readonly maxQueuedGroups: number
  /** Statements that may be in flight at once. */
  readonly maxInFlight: number
  /** From add() to the answer at the latest. */
  readonly deadlineMs: number
  /** Monotonic clock, milliseconds. */
  readonly nowMs: () => number
}

interface Entry<Item, Answer> {
  readonly item: Item
  readonly key: number
  readonly deadlineAtMs: number
  readonly resolve: (answer: Answer) => void
  readonly reject: (error: unknown) => void
  isSettled: boolean
}

const MAX_RETRIES = 2
/** How often deadlines are looked at while anything waits. */
const SWEEP_INTERVAL_MS = 50

export class GroupCommit<Item, Answer> {
  readonly #options: GroupCommitOptions<Item, Answer>
  /** In the order of arrival, and so of deadlines. */
  #queue: Entry<Item, Answer>[] = []
  readonly #queuedOfKey = new Map<number, number>()
  #inFlight: readonly (readonly Entry<Item, Answer>[])[] = []
  #isScheduled = false
  #isClosed = false
  #sweepTimer: NodeJS.Timeout | undefined
  #drained: (() => void) | undefined
  #closed: Promise<void> | undefined

  constructor(options: GroupCommitOptions<Item, Answer>) {
    this.#options = options
  }

  /** Items that wait for a statement; those in flight are not counted. */
  get queued(): number {
    return this.#queue.length
  }

  /** Settles when this very item is durable or refused: 503 `overloaded`, `shutting_down`, or flush's error. */
  add(item: Item): Promise<Answer> {
    if (this.#isClosed) {
      return Promise.reject(new AppError('shutting_down', 'This server is stopping. Try again.'))
    }
    const { maxGroup, maxQueuedGroups, maxQueuedPerKey, deadlineMs, nowMs } = this.#options
    if (this.#queue.length >= maxGroup * maxQueuedGroups) {
      return Promise.reject(
        new AppError('overloaded', 'Too many heartbeats wait. Try again later.'),
      )
    }
    const key = this.#options.keyOf(item)
    const queuedOfKey = this.#queuedOfKey.get(key) ?? 0
    if (queuedOfKey >= maxQueuedPerKey) {
      return Promise.reject(
        new AppError('overloaded', 'Too many heartbeats of this device wait. Send fewer at once.'),
      )
    }
    return new Promise((resolve, reject) => {
      const deadlineAtMs = nowMs() + deadlineMs
      this.#queue.push({ item, key, deadlineAtMs, resolve, reject, isSettled: false })
      this.#queuedOfKey.set(key, queuedOfKey + 1)
      this.#schedule()
      this.#sweepTimer ??= setInterval(() => this.#sweep(), SWEEP_INTERVAL_MS)
    })
  }

  /** Refuses further items and resolves when all that were added have settled. Repeatable. */
  close(): Promise<void> {
    this.#isClosed = true
    this.#closed ??= new Promise((resolve) => {
      this.#drained = resolve
    })
    this.#settleIfIdle()
    return this.#closed
  }

  /** One turn later, so that all items of this turn of the event loop share the statement. */
  #schedule(): void {
    if (this.#isScheduled || this.#inFlight.length >= this.#options.maxInFlight) return
    this.#isScheduled = true
    setImmediate(() => {
      this.#isScheduled = false
      if (this.#queue.length === 0) return
      const group = this.#takeGroup()
      this.#inFlight = [...this.#inFlight, group]
      if (this.#queue.length > 0) this.#schedule()
      void this.#write(group, 0).finally(() => {
        this.#inFlight = this.#inFlight.filter((other) => other !== group)
        if (this.#queue.length > 0) this.#schedule()
        this.#settleIfIdle()
      })
    })
  }

  #takeGroup(): readonly Entry<Item, Answer>[] {
    const { maxGroup } = this.#options
    const group: Entry<Item, Answer>[] = []
    const keys = new Set<number>()
    const rest: Entry<Item, Answer>[] = []
    for (const entry of this.#queue) {
      if (group.length === maxGroup || keys.has(entry.key)) {
        rest.push(entry)
        continue
      }
      keys.add(entry.key)
      group.push(entry)
      this.#forgetQueued(entry)
    }
    this.#queue = rest
    return group
  }

  #forgetQueued({ key }: Entry<Item, Answer>): void {
    const left = (this.#queuedOfKey.get(key) ?? 0) - 1
    if (left > 0) this.#queuedOfKey.set(key, left)
    else this.#queuedOfKey.delete(key)
  }

  async #write(group: readonly Entry<Item, Answer>[], retries: number): Promise<void> {
    try {
      const answers = await this.#options.flush(group.map((entry) => entry.item))
      if (answers.length !== group.length) throw new Error('flush answered another number of items')
      for (const [index, entry] of group.entries()) {
        entry.isSettled = true
        entry.resolve(answers[index] as Answer) // same length, checked above
      }
    } catch (error) {
      const kind = this.#options.failureKind(error)
      if (kind === 'retry' && retries < MAX_RETRIES) {
        await this.#write(group, retries + 1)
      } else if (kind === 'poison' && group.length > 1) {
        const half = Math.ceil(group.length / 2)
        await this.#write(group.slice(0, half), 0)
        await this.#write(group.slice(half), 0)
      } else {
        for (const entry of group) this.#refuse(entry, error)
      }
    }
  }

  #sweep(): void {
    const nowMs = this.#options.nowMs()
    const firstAlive = this.#queue.findIndex((entry) => entry.deadlineAtMs > nowMs)
    const expired = this.#queue.splice(0, firstAlive === -1 ? this.#queue.length : firstAlive)
    for (const entry of expired) {
      this.#forgetQueued(entry)
      this.#refuse(
        entry,
        new AppError('overloaded', 'The heartbeat was not stored in time. Try again.'),
      )
    }
    for (const group of this.#inFlight) {
      for (const entry of group) {
        if (entry.deadlineAtMs > nowMs) break
        this.#refuse(entry, this.#overdue())
      }
    }
    this.#settleIfIdle()
  }

  #overdue(): AppError {
    const message = 'The database is slow; the heartbeat may be stored. Try again.'
    const { statement } = this.#options
    return withFailedCall(new AppError('db_unavailable', message), { statement, cause: 'too_slow' })
  }

  #refuse(entry: Entry<Item, Answer>, error: unknown): void {
    if (entry.isSettled) return
    entry.isSettled = true
    entry.reject(error)
  }

  #settleIfIdle(): void {
    if (this.#queue.length > 0 || this.#inFlight.length > 0) return
    clearInterval(this.#sweepTimer)
    this.#sweepTimer = undefined
    this.#drained?.()
  }
}
