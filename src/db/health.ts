/**
 * Whether the database answers, told by every statement: one line when an episode begins, one when it ends.
 *
 * A success ends it that was begun SETTLE_MS after the last failure: connections that die together do so one after the
 * other, and some still answer in between. Once a connection was lost or could not be made, those that are left prove
 * nothing for CONNECT_SETTLE_MS: it takes one that was made since. Where only some feel it (full disk, too many connections, no writes), it
 * must be one of those that failed, or have a connection made since connecting failed: that reads go well proves nothing.
 */
import type { Line } from '../telemetry/events.ts'
import { CONNECT, type Outcome } from './pool.ts'
import { isAway, isPartial } from './sqlstate.ts'

type Success = Extract<Outcome, { readonly kind: 'worked' }>

const SETTLE_MS = 200
/** Longer than an attempt to connect may take (pool.ts): where each fails, the next failure is here by then. */
const CONNECT_SETTLE_MS = 1_000
/** What failed may not be tried again for long: after so much time without a failure any success counts. */
const FORGET_MS = 60_000

export class DatabaseHealth {
  readonly #log: (line: Line) => void
  readonly #nowMs: () => number
  #downSinceMs: number | undefined
  /** What partial trouble made fail in this episode. */
  readonly #failed = new Set<string>()
  #failedAtMs = Number.NEGATIVE_INFINITY
  #connectFailedAtMs = Number.NEGATIVE_INFINITY

  /** `nowMs` is monotonic. */
  constructor(log: (line: Line) => void, nowMs: () => number) {
    this.#log = log
    this.#nowMs = nowMs
  }

  get isDown(): boolean {
    return this.#downSinceMs !== undefined
  }

  readonly observe = (outcome: Outcome): void => {
    if (outcome.kind === 'worked') {
      if (this.#downSinceMs !== undefined && this.#isProof(outcome)) this.#up()
    } else if (isAway(outcome.error)) {
      if (isPartial(outcome.error)) this.#failed.add(outcome.what)
      this.#failedAtMs = this.#nowMs()
      if (outcome.what === CONNECT) this.#connectFailedAtMs = this.#failedAtMs
      this.#down(outcome.error)
    }
  }

  /** As observe, for a start that does not get on: whatever the error, it is told. */
  readonly report = (error: unknown): void => {
    if (error === undefined) this.#up()
    else this.#down(error)
  }

  #isProof({ what, startedAtMs, connectedAtMs }: Success): boolean {
    const quietMs = startedAtMs - this.#failedAtMs
    if (quietMs < SETTLE_MS) return false
    const isNew = connectedAtMs > this.#connectFailedAtMs
    if (!isNew && startedAtMs - this.#connectFailedAtMs < CONNECT_SETTLE_MS) return false
    if (this.#failed.size === 0 || this.#failed.has(what) || quietMs > FORGET_MS) return true
    return this.#failed.has(CONNECT) && connectedAtMs > this.#failedAtMs
  }

  #down(error: unknown): void {
    if (this.#downSinceMs !== undefined) return
    this.#downSinceMs = this.#nowMs()
    const text = error instanceof Error ? error.message : String(error)
    this.#log({ event: 'db.unavailable', fields: { error: text } })
  }

  #up(): void {
    if (this.#downSinceMs === undefined) return
    const downMs = this.#nowMs() - this.#downSinceMs
    this.#downSinceMs = undefined
    this.#failed.clear()
    this.#log({ event: 'db.recovered', fields: { down_ms: downMs } })
  }
}
