/**
 * Whether the database answers, told by every statement: one line when an episode begins, one when it ends.
 *
 * An outage ends with the first success. Trouble that only some feel (full disk, read-only, too many connections) ends
 * with the first success of what it made fail: what goes on all the time, such as reading, proves nothing.
 */
import type { Line } from '../telemetry/events.ts'
import { isAway, isPartial } from './sqlstate.ts'

/** What failed may not be tried again for long: after so much time without a failure any success counts. */
const FORGET_MS = 60_000

export class DatabaseHealth {
  readonly #log: (line: Line) => void
  readonly #nowMs: () => number
  #downSinceMs: number | undefined
  /** What partial trouble made fail in this episode. */
  readonly #failed = new Set<string>()
  #failedAtMs = 0

  /** `nowMs` is monotonic. */
  constructor(log: (line: Line) => void, nowMs: () => number) {
    this.#log = log
    this.#nowMs = nowMs
  }

  get isDown(): boolean {
    return this.#downSinceMs !== undefined
  }

  /** `error` undefined: a success. `what`: a statement, or the making of a connection. */
  readonly observe = (error: unknown, what: string): void => {
    if (error === undefined) {
      if (this.#downSinceMs !== undefined && this.#proves(what)) this.#up()
    } else if (isAway(error)) {
      if (isPartial(error)) this.#failed.add(what)
      this.#failedAtMs = this.#nowMs()
      this.#down(error)
    }
  }

  /** As observe, for a start that does not get on: whatever the error, it is told. */
  readonly report = (error: unknown): void => {
    if (error === undefined) this.#up()
    else this.#down(error)
  }

  #proves(success: string): boolean {
    if (this.#failed.size === 0 || this.#failed.has(success)) return true
    return this.#nowMs() - this.#failedAtMs > FORGET_MS
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
