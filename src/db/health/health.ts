/**
 * Tracks whether the database responds. Every statement reports here; each outage logs one line at its start and one
 * at its end.
 *
 * A success ends an outage if it started SETTLE_MS after the last failure: connections that die together do so one by
 * one, and some still respond in between. If only some calls fail (full disk, too many connections, no writes), one
 * of those must succeed, or a connection made after the last failed attempt: successful reads prove nothing. While
 * connecting fails, only newly opened connections prove recovery, since the open ones may serve for long. After a
 * lost connection, older ones prove nothing for LOST_SETTLE_MS.
 *
 * After the end, connections from before it may still break off, such as idle ones that a proxy closes when it notices
 * that the primary has moved. For LATE_MS they belong to the outage that ended.
 *
 * If a write got no response, only a committed write ends the outage: reads work while commits wait for a standby.
 */
import { errorText } from '../../lib/error-text.ts'
import type { Line } from '../../telemetry/log/log.ts'
import { isAway, isPartial } from '../postgres/sqlstate.ts'
import { CONNECT, LOST, type Outcome } from './outcome.ts'
import { type Trouble, troubleOf } from './trouble.ts'

type Success = Extract<Outcome, { readonly kind: 'worked' }>
type Failure = Exclude<Outcome, Success>

const SETTLE_MS = 200
/** Longer than CONNECT_TIMEOUT_MS (pool.ts), after which an attempt counts as silent. */
const LOST_SETTLE_MS = 1_000
/** A failed statement may not run again for long. After this time without failures any success counts. */
const FORGET_MS = 60_000
/** The same if only connecting failed. SWEEP_MS (5 s, app/parts/maintenance.ts): with no connection, the sweep opens one. */
const FORGET_CONNECT_MS = 10_000
/** Three times what the HAProxy of docs/operate/scale.md may take to notice: a check a second, 2 s each. */
const LATE_MS = 9_000

export class DatabaseHealth {
  readonly #log: (line: Line) => void
  readonly #nowMs: () => number
  #downSinceMs: number | undefined
  #trouble: Trouble = 'other'
  #needsWrite = false
  /** Failed in this outage while others may have succeeded. */
  readonly #failed = new Set<string>()
  #failedAtMs = Number.NEGATIVE_INFINITY
  #connectFailedAtMs = Number.NEGATIVE_INFINITY
  #lostAtMs = Number.NEGATIVE_INFINITY
  #endedAtMs = Number.NEGATIVE_INFINITY

  /** `nowMs` is monotonic. */
  constructor(log: (line: Line) => void, nowMs: () => number) {
    this.#log = log
    this.#nowMs = nowMs
  }

  get isDown(): boolean {
    return this.#downSinceMs !== undefined
  }

  /** The latest trouble of this outage; undefined outside of one. */
  get trouble(): Trouble | undefined {
    return this.isDown ? this.#trouble : undefined
  }

  /** Only a successful write ends this outage. */
  get needsWrite(): boolean {
    return this.#needsWrite
  }

  readonly observe = (outcome: Outcome): void => {
    if (outcome.kind === 'worked') {
      if (this.#downSinceMs !== undefined && this.#isProof(outcome)) this.#up()
    } else if (isAway(outcome.error) && !this.#isLate(outcome)) {
      const { what, error, isWrite } = outcome
      if (isWrite && !isPartial(error)) this.#needsWrite = true
      if (what === CONNECT || (what !== LOST && isPartial(error))) this.#failed.add(what)
      this.#failedAtMs = this.#nowMs()
      if (what === CONNECT) this.#connectFailedAtMs = this.#failedAtMs
      if (what === LOST) this.#lostAtMs = this.#failedAtMs
      this.#down(outcome.error, what === CONNECT || what === LOST ? null : what || null)
    }
  }

  /** Like observe, for a start that fails: logs any error. */
  readonly report = (error: unknown): void => {
    if (error === undefined) this.#up()
    else this.#down(error, null)
  }

  #isProof({ what, startedAtMs, connectedAtMs, isWrite }: Success): boolean {
    const quietMs = startedAtMs - this.#failedAtMs
    if (quietMs < SETTLE_MS) return false
    const isOlder = connectedAtMs <= this.#lostAtMs
    if (isOlder && startedAtMs - this.#lostAtMs < LOST_SETTLE_MS) return false
    // What else failed may only be read.
    if (isWrite) this.#needsWrite = false
    if (this.#needsWrite && quietMs <= FORGET_MS) return false
    if (this.#failed.size === 0 || this.#failed.has(what) || quietMs > FORGET_MS) return true
    if (!this.#failed.has(CONNECT)) return false
    const isWanted = startedAtMs - this.#connectFailedAtMs <= FORGET_CONNECT_MS
    return connectedAtMs > this.#connectFailedAtMs || (this.#failed.size === 1 && !isWanted)
  }

  #isLate({ error, connectedAtMs = Number.POSITIVE_INFINITY }: Failure): boolean {
    if (this.isDown || troubleOf(error) !== 'lost') return false
    return connectedAtMs <= this.#endedAtMs && this.#nowMs() - this.#endedAtMs < LATE_MS
  }

  /** `statement`: the one that failed. */
  #down(error: unknown, statement: string | null): void {
    this.#trouble = troubleOf(error)
    if (this.#downSinceMs !== undefined) return
    this.#downSinceMs = this.#nowMs()
    this.#log({
      event: 'db.unavailable',
      fields: { error: errorText(error), cause: this.#trouble, statement },
    })
  }

  #up(): void {
    if (this.#downSinceMs === undefined) return
    const downMs = this.#nowMs() - this.#downSinceMs
    this.#downSinceMs = undefined
    this.#endedAtMs = this.#nowMs()
    this.#failed.clear()
    this.#needsWrite = false
    this.#log({ event: 'db.recovered', fields: { down_ms: downMs } })
  }
}
