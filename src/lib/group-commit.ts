/**
 * Group commit: items that arrive while a statement runs form the next group.
 *
 * States of an item:
 *   refused   add() rejects at once and nothing is written: the queue is full, or the group commit is closed
 *   queued    waits for a free statement and for earlier items of its key, because a group never holds a key twice; past
 *             its deadline it is removed and rejected, and nothing is written
 *   in flight its group's statement runs; past its deadline it is rejected, and its outcome is unknown
 *   settled   its row is durable, and its promise is resolved with its own result
 *
 * `failureKind` decides what happens to a group that failed: `retry` runs it again, at most twice; `poison` splits it in
 * halves until the bad item is alone, and rejects only that one; `unavailable` rejects all of it.
 */
import { AppError, shuttingDown } from '../domain/errors.ts'
import { withFailedCall } from '../domain/failed-call.ts'

export type FailureKind = 'retry' | 'poison' | 'unavailable'

export interface GroupCommitOptions<Item, Result> {
  /** Writes one group. Resolves once all of it is durable, with one result per item, in order. */
  readonly flush: (items: readonly Item[]) => Promise<readonly Result[]>
  /** Name of the statement that flush runs, for errors. */
  readonly statement: string
  /** For callers: the queue is full; not stored in time; perhaps stored, by a slow database. */
  readonly messages: { readonly full: string; readonly late: string; readonly unsure: string }
  readonly failureKind: (error: unknown) => FailureKind
  /** A group holds at most one item of each key; the others wait for later groups, in order. */
  readonly keyOf: (item: Item) => number
  readonly maxGroup: number
  /** The queue holds that many full groups; one more item is refused. */
  readonly maxQueuedGroups: number
  /** Statements that run at once. */
  readonly maxInFlight: number
  /** Counted from add(). */
  readonly deadlineMs: number
  /** Monotonic clock. */
  readonly nowMs: () => number
}

interface Entry<Item, Result> {
  readonly item: Item
  readonly key: number
  readonly deadlineAtMs: number
  readonly resolve: (result: Result) => void
  readonly reject: (error: unknown) => void
  isSettled: boolean
}

const MAX_RETRIES = 2
/** Deadlines are checked this often while items wait. */
const SWEEP_INTERVAL_MS = 50

export class GroupCommit<Item, Result> {
  readonly #options: GroupCommitOptions<Item, Result>
  /** In order of arrival, which is the order of deadlines. */
  #queue: Entry<Item, Result>[] = []
  #inFlight: readonly (readonly Entry<Item, Result>[])[] = []
  #isScheduled = false
  #isClosed = false
  #sweepTimer: NodeJS.Timeout | undefined
  #drained: (() => void) | undefined
  #closed: Promise<void> | undefined

  constructor(options: GroupCommitOptions<Item, Result>) {
    this.#options = options
  }

  /** Items that wait; those in flight are not counted. */
  get queued(): number {
    return this.#queue.length
  }

  /** Resolves when this item is durable. Rejects with 503 `overloaded` or `shutting_down`, or with flush's error. */
  add(item: Item): Promise<Result> {
    if (this.#isClosed) {
      return Promise.reject(shuttingDown())
    }
    const { maxGroup, maxQueuedGroups, deadlineMs, nowMs } = this.#options
    if (this.#queue.length >= maxGroup * maxQueuedGroups) {
      return Promise.reject(new AppError('overloaded', this.#options.messages.full))
    }
    const key = this.#options.keyOf(item)
    return new Promise((resolve, reject) => {
      const deadlineAtMs = nowMs() + deadlineMs
      this.#queue.push({ item, key, deadlineAtMs, resolve, reject, isSettled: false })
      this.#schedule()
      this.#sweepTimer ??= setInterval(() => this.#sweep(), SWEEP_INTERVAL_MS)
    })
  }

  /** Refuses further items; resolves when all earlier ones have settled. Repeatable. */
  close(): Promise<void> {
    this.#isClosed = true
    this.#closed ??= new Promise((resolve) => {
      this.#drained = resolve
    })
    this.#settleIfIdle()
    return this.#closed
  }

  /** Runs in the next iteration of the event loop, so that all items of this one share a statement. */
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

  #takeGroup(): readonly Entry<Item, Result>[] {
    const { maxGroup } = this.#options
    const group: Entry<Item, Result>[] = []
    const keys = new Set<number>()
    const rest: Entry<Item, Result>[] = []
    for (const entry of this.#queue) {
      if (group.length === maxGroup || keys.has(entry.key)) {
        rest.push(entry)
        continue
      }
      keys.add(entry.key)
      group.push(entry)
    }
    this.#queue = rest
    return group
  }

  async #write(group: readonly Entry<Item, Result>[], retries: number): Promise<void> {
    try {
      const results = await this.#options.flush(group.map((entry) => entry.item))
      if (results.length !== group.length) throw new Error('flush answered another number of items')
      for (const [index, entry] of group.entries()) {
        entry.isSettled = true
        entry.resolve(results[index] as Result) // same length, checked above
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
      this.#refuse(entry, new AppError('overloaded', this.#options.messages.late))
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
    const { statement, messages } = this.#options
    const error = new AppError('db_unavailable', messages.unsure)
    return withFailedCall(error, { statement, cause: 'too_slow' })
  }

  #refuse(entry: Entry<Item, Result>, error: unknown): void {
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
