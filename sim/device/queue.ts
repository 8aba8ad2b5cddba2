/** A phone's durable queue, oldest first; items survive every failure (docs/device-protocol.md). */

export interface QueueItem {
  readonly kind: 'heartbeat' | 'result' | 'push_id'
  readonly path: string
  /** JSON, unchanged since the item was made. */
  readonly body: string
  readonly queuedAtMs: number
  /** The command that it answers. */
  readonly requestId: string | null
}

interface Entry {
  readonly item: QueueItem
  failures: number
  dueAtMs: number
  isUnderWay: boolean
}

export const MAX_ITEMS = 500
const MAX_AGE_MS = 24 * 3_600_000
const FIRST_RETRY_MS = 2_000
const MAX_RETRY_MS = 300_000
const JITTER = 0.25

/** The delay after failure number `failures` (from 1), milliseconds; `random` is 0 to 1. */
export function retryDelayMs(failures: number, random: number): number {
  return Math.min(FIRST_RETRY_MS * 2 ** (failures - 1), MAX_RETRY_MS) * (1 + JITTER * random)
}

export class DeviceQueue {
  /** Dropped from a full queue, the oldest first. */
  dropped = 0
  /** Dropped after 24 h. */
  expired = 0
  readonly #entries: Entry[] = []

  get length(): number {
    return this.#entries.length
  }

  /** Holds only heartbeats that answer no command and have not failed yet. */
  get isUpToDate(): boolean {
    return this.#entries.every(
      ({ item: { kind, requestId }, failures }) =>
        kind === 'heartbeat' && requestId === null && failures === 0,
    )
  }

  /** When the first item that is not being sent is due, epoch milliseconds; Infinity without one. */
  get dueAtMs(): number {
    const waiting = this.#entries.filter(({ isUnderWay }) => !isUnderWay)
    return Math.min(...waiting.map(({ dueAtMs }) => dueAtMs))
  }

  /** `dueAtMs`: not sent before. */
  add(item: QueueItem, dueAtMs = item.queuedAtMs): void {
    this.#entries.push({ item, failures: 0, dueAtMs, isUnderWay: false })
    if (this.#entries.length <= MAX_ITEMS) return
    this.#entries.shift()
    this.dropped += 1
  }

  /** The oldest due item that is not in `tried`. It stays queued: two drains at once get the same ones. */
  next(nowMs: number, tried: ReadonlySet<QueueItem>): QueueItem | undefined {
    this.#forgetOld(nowMs)
    const entry = this.#entries.find(({ item, dueAtMs }) => dueAtMs <= nowMs && !tried.has(item))
    if (entry !== undefined) entry.isUnderWay = true
    return entry?.item
  }

  /** Removes what is queued of a kind: a newer one makes it wrong. */
  removeAll(kind: QueueItem['kind']): void {
    for (const { item } of this.#entries.filter((entry) => entry.item.kind === kind)) {
      this.remove(item)
    }
  }

  has(item: QueueItem): boolean {
    return this.#indexOf(item) !== -1
  }

  remove(item: QueueItem): void {
    const index = this.#indexOf(item)
    if (index !== -1) this.#entries.splice(index, 1)
  }

  failed(item: QueueItem, nowMs: number, random: number): void {
    const entry = this.#entries[this.#indexOf(item)]
    if (entry === undefined) return // the other drain delivered it
    entry.isUnderWay = false
    entry.failures += 1
    entry.dueAtMs = nowMs + retryDelayMs(entry.failures, random)
  }

  #indexOf(item: QueueItem): number {
    return this.#entries.findIndex((entry) => entry.item === item)
  }

  #forgetOld(nowMs: number): void {
    while ((this.#entries[0]?.item.queuedAtMs ?? nowMs) < nowMs - MAX_AGE_MS) {
      this.#entries.shift()
      this.expired += 1
    }
  }
}
