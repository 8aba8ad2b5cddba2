/**
 * When a phone is asked to come back: after the usual interval, and later while heartbeats take long, so that a
 * database in trouble is asked less. Each device is late by a share of its own, the same each time: phones
 * that an outage brought into step come back spread out, and no herd follows the recovery.
 */
import { RecentShare } from '../lib/recent-share.ts'

/** A heartbeat that took longer counts as slow. A healthy one takes a few ms; past 1.8 s it is refused. */
const SLOW_MS = 500
const WINDOW_S = 30
/** Below it all is well: a few locked devices are no overload. */
const MIN_SLOW_SHARE = 0.05
/** With every heartbeat slow. */
const MAX_FACTOR = 3
/** Of that, at most. */
const JITTER_SHARE = 0.25

export class Pace {
  readonly #intervalS: number
  /** The share of the usual lateness that keeps every phone within `offlineAfterS`: none may seem offline by this. */
  readonly #room: number
  readonly #slow = new RecentShare(WINDOW_S)

  /** `offlineAfterS` is not less than the interval. */
  constructor(intervalS: number, offlineAfterS: number) {
    this.#intervalS = intervalS
    const latestS = intervalS * MAX_FACTOR * (1 + JITTER_SHARE)
    this.#room = Math.min(1, (offlineAfterS - intervalS) / (latestS - intervalS))
  }

  /** A heartbeat was stored after so long. `nowMs` is monotonic. */
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

/** The device's own place in [0, 1), from the last digits of its id: those of a UUIDv7 are random. */
function positionOf(deviceId: string): number {
  return Number.parseInt(deviceId.slice(-6), 16) / 0x100_0000
}
