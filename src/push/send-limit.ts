/**
 * Limits concurrent pushes. After an outage FCM wants senders to ramp up from 0 to the full rate over at least 60 s,
 * by 1/5/10/25/50/75/100 % (firebase.google.com/docs/cloud-messaging/scale-fcm). States, also in
 * docs/operate/push.md:
 *
 *   open     the maximum; FAILURES_IN_A_ROW failures at FCM or on the way to it -> failing. At most MAX_OF_ONE_DEVICE
 *            of them count for one device if the failure may concern only that device.
 *   failing  one at a time, FAILING_GAP_MS after the last failure; the first success -> ramping
 *   ramping  the next step every STEP_MS, then open; FAILURES_IN_A_ROW failures -> failing
 */
import type { SenderTrouble } from '../domain/commands/command.ts'

/** If half of all sends fail at random, this happens once in a million. */
const FAILURES_IN_A_ROW = 20
/** An outage therefore takes five devices, however many commands one device gets. */
const MAX_OF_ONE_DEVICE = 4
/** QUOTA_EXCEEDED is "for the message target" (ErrorCode page). INTERNAL names no cause; one push token may trigger it. */
const MAY_MEAN_ONE_DEVICE: ReadonlySet<number | null> = new Set([429, 500])
const STEPS = [0.01, 0.05, 0.1, 0.25, 0.5, 0.75] as const
const STEP_MS = 10_000
const FAILING_GAP_MS = 1_000

export interface SendFailure {
  readonly deviceId: string
  /** null: there was no response. */
  readonly fcmHttpCode: number | null
  readonly fcmStatus: string
}

export class SendLimit {
  readonly #max: number
  #failures = 0
  /** By device: failures that may concern only that device. */
  readonly #ofDevice = new Map<string, number>()
  #lastFailureMs = 0
  /** Set while there are failures in a row. */
  #trouble: SenderTrouble | undefined
  /** 0: open. Infinity: failing. Otherwise the start of the ramp, monotonic milliseconds. */
  #rampSinceMs = 0

  constructor(max: number) {
    this.#max = max
  }

  /** Set only while failing. */
  get trouble(): SenderTrouble | undefined {
    return this.#isFailing ? this.#trouble : undefined
  }

  get #isFailing(): boolean {
    return this.#rampSinceMs === Number.POSITIVE_INFINITY
  }

  /** FCM accepted or rejected a message. */
  succeeded(nowMs: number): void {
    this.#noFailures()
    if (this.#isFailing) this.ramp(nowMs)
  }

  /** A retryable failure. `at` is for display; decisions use `nowMs`, which is monotonic. */
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

  /** An outage is over: starts at the first step. */
  ramp(nowMs: number): void {
    this.#noFailures()
    this.#rampSinceMs = nowMs
  }

  #noFailures(): void {
    this.#failures = 0
    this.#ofDevice.clear()
    this.#trouble = undefined
  }

  /** Pushes allowed at once; 0 only while failing. */
  at(nowMs: number): number {
    if (this.#rampSinceMs === 0) return this.#max
    if (this.#isFailing) return nowMs - this.#lastFailureMs < FAILING_GAP_MS ? 0 : 1
    const step = STEPS[Math.floor((nowMs - this.#rampSinceMs) / STEP_MS)]
    if (step !== undefined) return Math.max(1, Math.floor(this.#max * step))
    this.#rampSinceMs = 0
    return this.#max
  }
}
