/**
 * Up to which event the feed can be read: every event with that number or a lower one is visible or will never be.
 *
 * Events take their numbers at the commit of their transaction (sql/0027), so a lower number may become visible after a
 * higher one. A transaction locks `fleet_events` before it takes a number, and PostgreSQL releases the lock after the
 * transaction has become visible. So: read the last number given out, then who holds the lock. Once each of these
 * transactions has ended, that number and all below it are settled. Transactions that write no event delay nothing, however
 * long they take; one that does and hangs delays the feed, which `behindS` shows.
 *
 * The order of the numbers: if one transaction could see the other's change, or waited for its lock, the other took its
 * number first. Between two that knew nothing of each other it is the order in which they began to commit. Order
 * by transaction id would be wrong there: a transaction may take its id, and then wait for a lock of a later one.
 *
 * Polls only while somebody waits, once for all of them.
 */
import { sleep } from '../../lib/timeouts.ts'
import type { Queryable } from '../postgres/pool.ts'

export interface Settled {
  /** Number of the last settled event; 0: none is known yet. */
  readonly through: number
  /** The server that this holds for; empty: none was asked yet. */
  readonly server: string
}

/** How often the last number is read while somebody waits. */
const POLL_MS = 250
/** The same while transactions that write events are under way. */
const SETTLE_POLL_MS = 20
/** Longest wait of a read for such transactions; then it gets what is settled. */
const SETTLE_WAIT_MS = 200
/** Age of the last look from which on the server may have crashed and come back unnoticed. */
const MARK_COUNTS_MS = 1_000

const LAST = /* sql */ `
  select last_value::float8 as "last", pg_postmaster_start_time()::text as "server" from fleet_events_event_id_seq`

/** Transactions that may have taken a number. */
const WRITERS = /* sql */ `
  select coalesce(array_agg(virtualtransaction), '{}') as "writers", pg_postmaster_start_time()::text as "server"
  from pg_locks
  where locktype = 'relation' and relation = 'fleet_events'::regclass and mode = 'RowExclusiveLock' and granted
    and database = (select oid from pg_database where datname = current_database())`

/** The numbers up to `through` are settled once these writers have ended. */
interface Mark {
  readonly through: number
  readonly writers: ReadonlySet<string>
  readonly sinceMs: number
  /** When the writers were last read; -Infinity: a look has failed since. */
  readonly lookedAtMs: number
}

interface Waiter {
  readonly than: number
  readonly wake: () => void
}

export class SettledEvents {
  readonly #database: Queryable
  readonly #nowMs: () => number
  readonly #waiters = new Set<Waiter>()
  #settled: Settled = { through: 0, server: '' }
  #mark: Mark | undefined
  /** The last number given out, as last read. */
  #last = 0
  #refreshing: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined
  #polledAtMs = Number.NEGATIVE_INFINITY

  constructor(database: Queryable, nowMs: () => number) {
    this.#database = database
    this.#nowMs = nowMs
  }

  /** As last known. */
  get settled(): Settled {
    return this.#settled
  }

  /** Seconds for which unfinished transactions have delayed the feed. */
  get behindS(): number {
    return this.#mark === undefined ? 0 : (this.#nowMs() - this.#mark.sinceMs) / 1_000
  }

  /** Somebody waits. */
  get isPolling(): boolean {
    return this.#waiters.size > 0
  }

  /** Includes what was committed before the call, unless other transactions delay it. */
  async current(): Promise<Settled> {
    await this.#refreshing?.catch(() => {}) // it may have begun before that commit
    await this.#refresh()
    const wanted = this.#last
    const endsAtMs = this.#nowMs() + SETTLE_WAIT_MS
    while (this.#settled.through < wanted && this.#nowMs() < endsAtMs) {
      await sleep(SETTLE_POLL_MS)
      await this.#refresh()
    }
    return this.#settled
  }

  /** Resolves with whether more than `than` is settled: once it is, after `timeoutMs`, or when `signal` aborts. */
  wait(than: number, timeoutMs: number, signal: AbortSignal): Promise<boolean> {
    const isMore = () => this.#settled.through > than
    if (isMore() || signal.aborted) return Promise.resolve(isMore())
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer)
        signal.removeEventListener('abort', done)
        this.#waiters.delete(waiter)
        if (this.#waiters.size === 0) this.#stopPolling()
        resolve(isMore())
      }
      const waiter = { than, wake: done }
      const timer = setTimeout(done, timeoutMs)
      signal.addEventListener('abort', done)
      this.#waiters.add(waiter)
      if (this.#timer === undefined) this.#pollAgain()
    })
  }

  readonly #poll = async (): Promise<void> => {
    this.#polledAtMs = this.#nowMs()
    await this.#refresh().catch(() => {}) // the pool reports it, and waits end by themselves
    if (this.#waiters.size > 0) this.#pollAgain()
  }

  /** However often readers come and go, one poll follows the other at the interval. */
  #pollAgain(): void {
    clearTimeout(this.#timer)
    const intervalMs = this.#mark === undefined ? POLL_MS : SETTLE_POLL_MS
    const inMs = Math.max(0, this.#polledAtMs + intervalMs - this.#nowMs())
    this.#timer = setTimeout(this.#poll, inMs)
  }

  #stopPolling(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  /** Never twice at once. */
  #refresh(): Promise<void> {
    this.#refreshing ??= this.#refreshOnce()
      .catch((error: unknown) => {
        if (this.#mark) this.#mark = { ...this.#mark, lookedAtMs: Number.NEGATIVE_INFINITY }
        throw error
      })
      .finally(() => {
        this.#refreshing = undefined
      })
    return this.#refreshing
  }

  async #refreshOnce(): Promise<void> {
    const query = { name: 'events.last', text: LAST }
    const [head] = (await this.#database.query<{ last: number; server: string }>(query)).rows
    if (head === undefined) throw new Error('the sequence of events is not there')
    const { last, server } = head
    // Another server, or one that was restored: what was settled need not be.
    if (server !== this.#settled.server || last < this.#settled.through) {
      this.#settled = { through: 0, server }
      this.#mark = undefined
    }
    this.#last = last
    if (last > this.#settled.through) await this.#settle(last, server)
  }

  async #settle(last: number, server: string): Promise<void> {
    const query = { name: 'events.writers', text: WRITERS }
    const [row] = (await this.#database.query<{ writers: string[]; server: string }>(query)).rows
    if (row === undefined || row.server !== server) return
    const writers = new Set(row.writers)
    const mark = this.#mark
    const nowMs = this.#nowMs()
    const next = { through: last, writers, sinceMs: nowMs, lookedAtMs: nowMs }
    if (writers.size === 0) return this.#advance(last, undefined)
    if (mark === undefined) {
      this.#mark = next
      return
    }
    const left = new Set([...mark.writers].filter((writer) => writers.has(writer)))
    // A crash ends every writer, and PostgreSQL may give out some of their numbers once more.
    const mayBeFromBeforeCrash = last < mark.through || nowMs - mark.lookedAtMs > MARK_COUNTS_MS
    if (mayBeFromBeforeCrash)
      this.#mark = { ...next, sinceMs: left.size > 0 ? mark.sinceMs : nowMs }
    else if (left.size > 0) this.#mark = { ...mark, writers: left, lookedAtMs: nowMs }
    else this.#advance(mark.through, next)
  }

  #advance(through: number, mark: Mark | undefined): void {
    this.#mark = mark
    this.#settled = { ...this.#settled, through }
    for (const { than, wake } of [...this.#waiters]) if (through > than) wake()
  }
}
