/**
 * Whether the database answers, told by every statement: one line when an episode begins, one when it ends.
 *
 * A success ends it that was begun SETTLE_MS after the last failure: connections that die together do so one after the
 * other, and some still answer in between. Where only some feel it (full disk, too many connections, no writes), it
 * must be one of those that failed, or have a connection made since connecting failed: that reads go well proves nothing.
 * So it is where connections cannot be made, whatever the reason: those that are left may serve on for long. Where one
 * was lost the others may be next: one that was made before proves nothing for LOST_SETTLE_MS.
 *
 * Where a write got no answer, only a write that was committed ends the episode: reads go on while commits wait for a
 * standby.
 */
import { errorText } from '../../lib/error-text.ts'
import type { Line } from '../../telemetry/log/log.ts'
import { isAway, isPartial } from '../postgres/sqlstate.ts'
import { CONNECT, LOST, type Outcome } from './outcome.ts'
import { type Trouble, troubleOf } from './trouble.ts'

type Success = Extract<Outcome, { readonly kind: 'worked' }>

const SETTLE_MS = 200
/** Longer than it takes to find an attempt to make a new one silent (CONNECT_TIMEOUT_MS, pool.ts). */
const LOST_SETTLE_MS = 1_000
/** What failed may not be tried again for long: after so much time without a failure any success counts. */
const FORGET_MS = 60_000
/** The same where only connecting failed: maintenance tries each 5 s, where it has no connection. */
const FORGET_CONNECT_MS = 10_000

export class DatabaseHealth {
  readonly #log: (line: Line) => void
  readonly #nowMs: () => number
  #downSinceMs: number | undefined
  #trouble: Trouble = 'other'
  #needsWrite = false
  /** What failed in this episode while others may have succeeded. */
  readonly #failed = new Set<string>()
  #failedAtMs = Number.NEGATIVE_INFINITY
  #connectFailedAtMs = Number.NEGATIVE_INFINITY
  #lostAtMs = Number.NEGATIVE_INFINITY

  /** `nowMs` is monotonic. */
  constructor(log: (line: Line) => void, nowMs: () => number) {
    this.#log = log
    this.#nowMs = nowMs
  }

  get isDown(): boolean {
    return this.#downSinceMs !== undefined
  }

  /** The latest of this episode; undefined outside of one. */
  get trouble(): Trouble | undefined {
    return this.isDown ? this.#trouble : undefined
  }

  /** A write must succeed to end this episode. */
  get needsWrite(): boolean {
    return this.#needsWrite
  }

  readonly observe = (outcome: Outcome): void => {
    if (outcome.kind === 'worked') {
      if (this.#downSinceMs !== undefined && this.#isProof(outcome)) this.#up()
    } else if (isAway(outcome.error)) {
      const { what, error, isWrite } = outcome
      if (isWrite && !isPartial(error)) this.#needsWrite = true
      if (what === CONNECT || (what !== LOST && isPartial(error))) this.#failed.add(what)
      this.#failedAtMs = this.#nowMs()
      if (what === CONNECT) this.#connectFailedAtMs = this.#failedAtMs
      if (what === LOST) this.#lostAtMs = this.#failedAtMs
      this.#down(outcome.error, what === CONNECT || what === LOST ? null : what || null)
    }
  }

  /** As observe, for a start that does not get on: whatever the error, it is told. */
  readonly report = (error: unknown): void => {
    if (error === undefined) this.#up()
    else this.#down(error, null)
  }

  #isProof({ what, startedAtMs, connectedAtMs, isWrite }: Success): boolean {
    const quietMs = startedAtMs - this.#failedAtMs
    if (quietMs < SETTLE_MS) return false
    if (this.#needsWrite && !isWrite && quietMs <= FORGET_MS) return false
    const isOlder = connectedAtMs <= this.#lostAtMs
    if (isOlder && startedAtMs - this.#lostAtMs < LOST_SETTLE_MS) return false
    if (this.#failed.size === 0 || this.#failed.has(what) || quietMs > FORGET_MS) return true
    if (!this.#failed.has(CONNECT)) return false
    const isWanted = startedAtMs - this.#connectFailedAtMs <= FORGET_CONNECT_MS
    return connectedAtMs > this.#connectFailedAtMs || (this.#failed.size === 1 && !isWanted)
  }

  /** `statement`: the one that found out. */
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
    this.#failed.clear()
    this.#needsWrite = false
    this.#log({ event: 'db.recovered', fields: { down_ms: downMs } })
  }
}
