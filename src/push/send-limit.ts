/**
 * How many pushes may be under way at once. FCM asks senders not to come back at full speed after an outage
 * (scale-fcm.md: ramp from 0 to the full rate over at least 60 s, 1/5/10/25/50/75/100 %).
 *
 * States, also in RUNBOOK.md:
 *   open     the most at once; FAILURES_IN_A_ROW sends that FCM or the way to it failed -> failing
 *   failing  one at a time, FAILING_GAP_MS after the failure before; the first that gets through -> ramping
 *   ramping  a step more every STEP_MS, then open; FAILURES_IN_A_ROW again -> failing
 */
import type { SenderTrouble } from '../core/command.ts'

/** By chance, with half of all sends failing, once in a million. */
const FAILURES_IN_A_ROW = 20
const STEPS = [0.01, 0.05, 0.1, 0.25, 0.5, 0.75] as const
const STEP_MS = 10_000
const FAILING_GAP_MS = 1_000

export class SendLimit {
  readonly #most: number
  #failures = 0
  #lastFailureMs = 0
  /** The failures in a row so far, where there are any. */
  #trouble: SenderTrouble | undefined
  /** 0: open. Infinity: failing. Else when the ramp began, monotonic milliseconds. */
  #rampSinceMs = 0

  constructor(most: number) {
    this.#most = most
  }

  /** Only while failing. */
  get trouble(): SenderTrouble | undefined {
    return this.#isFailing ? this.#trouble : undefined
  }

  get #isFailing(): boolean {
    return this.#rampSinceMs === Number.POSITIVE_INFINITY
  }

  /** FCM took a message, or judged it. */
  gotThrough(nowMs: number): void {
    this.#failures = 0
    this.#trouble = undefined
    if (this.#isFailing) this.ramp(nowMs)
  }

  /** A send failed, which may pass. `at` is told to people; what is decided hangs on `nowMs`, monotonic. */
  failed(fcmStatus: string, at: Date, nowMs: number): void {
    this.#failures++
    this.#lastFailureMs = nowMs
    this.#trouble = { kind: 'failing', since: this.#trouble?.since ?? at, fcmStatus }
    if (this.#failures === FAILURES_IN_A_ROW) this.#rampSinceMs = Number.POSITIVE_INFINITY
  }

  /** An outage is over: begins with the first step. */
  ramp(nowMs: number): void {
    this.#failures = 0
    this.#trouble = undefined
    this.#rampSinceMs = nowMs
  }

  /** 0 only while failing. */
  at(nowMs: number): number {
    if (this.#rampSinceMs === 0) return this.#most
    if (this.#isFailing) return nowMs - this.#lastFailureMs < FAILING_GAP_MS ? 0 : 1
    const step = STEPS[Math.floor((nowMs - this.#rampSinceMs) / STEP_MS)]
    if (step !== undefined) return Math.max(1, Math.floor(this.#most * step))
    this.#rampSinceMs = 0
    return this.#most
  }
}
