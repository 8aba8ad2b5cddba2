/**
 * How many pushes may be under way at once. FCM asks senders not to come back at full speed after an outage
 * (scale-fcm.md: ramp from 0 to the full rate over at least 60 s, 1/5/10/25/50/75/100 %).
 *
 * States, also in docs/operate/push.md:
 *   open     the maximum at once; FAILURES_IN_A_ROW failures at FCM or on the way to it, at most MAX_OF_ONE_DEVICE of
 *            them for one device if FCM may mean only that device -> failing
 *   failing  one at a time, FAILING_GAP_MS after the last failure; the first that gets through -> ramping
 *   ramping  one step more every STEP_MS, then open; FAILURES_IN_A_ROW again -> failing
 */
import type { SenderTrouble } from '../domain/command.ts'

/** By chance, with half of all sends failing, once in a million. */
const FAILURES_IN_A_ROW = 20
/** So it takes five devices to make an outage, however often one has its commands pushed. */
const MAX_OF_ONE_DEVICE = 4
/** QUOTA_EXCEEDED is "for the message target" (ErrorCode page). INTERNAL names no cause: one odd push token may be it. */
const MAY_MEAN_ONE_DEVICE: ReadonlySet<number | null> = new Set([429, 500])
const STEPS = [0.01, 0.05, 0.1, 0.25, 0.5, 0.75] as const
const STEP_MS = 10_000
const FAILING_GAP_MS = 1_000

export interface SendFailure {
  readonly deviceId: string
  /** null: no answer came. */
  readonly fcmHttpCode: number | null
  readonly fcmStatus: string
}

export class SendLimit {
  readonly #most: number
  #failures = 0
  /** By device, of those failures: the ones that may mean it alone. */
  readonly #ofDevice = new Map<string, number>()
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
  succeeded(nowMs: number): void {
    this.#noFailures()
    if (this.#isFailing) this.ramp(nowMs)
  }

  /** A send failed, which may pass. `at` is told to people; what is decided hangs on `nowMs`, monotonic. */
  failed(failure: SendFailure, at: Date, nowMs: number): void {
    this.#lastFailureMs = nowMs
    const { fcmStatus } = failure
    this.#trouble = { kind: 'failing', since: this.#trouble?.since ?? at, fcmStatus }
    if (this.#isFailing || !this.#counts(failure)) return
    this.#failures++
    if (this.#failures === FAILURES_IN_A_ROW) this.#rampSinceMs = Number.POSITIVE_INFINITY
  }

  #counts({ deviceId, fcmHttpCode }: SendFailure): boolean {
    if (!MAY_MEAN_ONE_DEVICE.has(fcmHttpCode)) return true
    const before = this.#ofDevice.get(deviceId) ?? 0
    this.#ofDevice.set(deviceId, before + 1)
    return before < MAX_OF_ONE_DEVICE
  }

  /** An outage is over: begins with the first step. */
  ramp(nowMs: number): void {
    this.#noFailures()
    this.#rampSinceMs = nowMs
  }

  #noFailures(): void {
    this.#failures = 0
    this.#ofDevice.clear()
    this.#trouble = undefined
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
