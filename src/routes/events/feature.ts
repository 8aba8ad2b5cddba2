/** What the endpoint of events uses. */
import type { EventFeed } from '../../db/events/feed.ts'
import type { Settled } from '../../db/events/settled-events.ts'

export interface Events {
  readonly feed: EventFeed
  /** Up to where the feed can be read now. */
  readonly current: () => Promise<Settled>
  /** The same as last known; reads nothing. */
  readonly settled: () => Settled
  /** Seconds by which unfinished transactions delay the feed. */
  readonly behindS: () => number
  /** Resolves with whether more than `than` is settled: once it is, after `timeoutMs`, or when `signal` aborts. */
  readonly waitForMore: (than: number, timeoutMs: number, signal: AbortSignal) => Promise<boolean>
  /** Counts a reader that waits, or has a stream. Returns the function that ends it (repeatable); undefined: too many. */
  readonly tryAcquireReader: (admin: string) => (() => void) | undefined
  /** A stream was cut off: its client did not read. */
  readonly streamDropped: () => void
  /** Between two comments of a stream that has no news. */
  readonly keepAliveMs: number
  /** Monotonic. */
  readonly nowMs: () => number
}
