/** Whether the database answers, told by every statement: one line when an episode begins, one when it ends. */
import type { Line } from '../telemetry/events.ts'
import { isAway } from './sqlstate.ts'

export class DatabaseHealth {
  readonly #log: (line: Line) => void
  readonly #nowMs: () => number
  #downSinceMs: number | undefined

  /** `nowMs` is monotonic. */
  constructor(log: (line: Line) => void, nowMs: () => number) {
    this.#log = log
    this.#nowMs = nowMs
  }

  get isDown(): boolean {
    return this.#downSinceMs !== undefined
  }

  /** `error` undefined: a statement succeeded. */
  readonly observe = (error: unknown): void => {
    if (error === undefined) this.#up()
    else if (isAway(error)) this.#down(error)
  }

  /** As observe, for a start that does not get on: whatever the error, it is told. */
  readonly report = (error: unknown): void => {
    if (error === undefined) this.#up()
    else this.#down(error)
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
    this.#log({ event: 'db.recovered', fields: { down_ms: downMs } })
  }
}
