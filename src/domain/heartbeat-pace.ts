/**
 * When a phone should send its next heartbeat: after the usual interval, or later while heartbeats are slow, to relieve
 * the database. Each device has its own constant share of the delay: phones that an outage has synchronized spread out
 * again, so that recovery brings no thundering herd.
 */
import { RecentShare } from '../lib/recent-share.ts'

/** A heartbeat that took longer is slow. Normally it takes a few ms; after 1.8 s it is refused. */
const SLOW_MS = 500
const WINDOW_S = 30
/** A smaller share is not overload: a few devices may be locked. */
const MIN_SLOW_SHARE = 0.05
/** If every heartbeat is slow. */
const MAX_FACTOR = 3
/** Added to the delay, at most. */
const JITTER_SHARE = 0.25

export class HeartbeatPace {
  readonly #intervalS: number
  /** Scales the delay so that no phone exceeds `offlineAfterS` and seems offline. */
  readonly #room: number
  readonly #slow = new RecentShare(WINDOW_S)

  /** `offlineAfterS` is at least the interval. */
  constructor(intervalS: number, offlineAfterS: number) {
    this.#intervalS = intervalS
    const latestS = intervalS * MAX_FACTOR * (1 + JITTER_SHARE)
    this.#room = Math.min(1, (offlineAfterS - intervalS) / (latestS - intervalS))
  }

  /** Counts a stored heartbeat. `nowMs` is monotonic. */
  stored(latencyMs: number, nowMs: number): void {
    this.#slow.add(latencyMs > SLOW_MS, nowMs)
  }

  /** Whole seconds until this device's next heartbeat. */
  nextS(deviceId: string, nowMs: number): number {
    const { all, hits } = this.#slow.counts(nowMs)
    const share = all === 0 ? 0 : hits / all
    if (share < MIN_SLOW_SHARE) return this.#intervalS
    const factor = 1 + (MAX_FACTOR - 1) * share
    const lateness = factor * (1 + JITTER_SHARE * positionOf(deviceId)) - 1
    return Math.round(this.#intervalS * (1 + this.#room * lateness))
  }
}

/** A number in [0, 1) from the last digits of the device's id; those of a UUIDv7 are random. */
function positionOf(deviceId: string): number {
  return Number.parseInt(deviceId.slice(-6), 16) / 0x100_0000
}
