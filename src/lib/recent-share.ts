/** Counts events of the last seconds, and how many of them were hits. Memory is bounded at any rate. */

export class RecentShare {
  /** A ring with one bucket per second. */
  readonly #buckets: { second: number; all: number; hits: number }[]

  constructor(windowS: number) {
    this.#buckets = Array.from({ length: windowS }, () => ({ second: -1, all: 0, hits: 0 }))
  }

  /** `nowMs` is monotonic. */
  add(isHit: boolean, nowMs: number): void {
    const second = Math.floor(nowMs / 1000)
    const bucket = this.#buckets[second % this.#buckets.length]
    if (bucket === undefined) return
    if (bucket.second !== second) {
      bucket.second = second
      bucket.all = 0
      bucket.hits = 0
    }
    bucket.all++
    if (isHit) bucket.hits++
  }

  counts(nowMs: number): { readonly all: number; readonly hits: number } {
    const newest = Math.floor(nowMs / 1000)
    let all = 0
    let hits = 0
    for (const bucket of this.#buckets) {
      if (bucket.second <= newest - this.#buckets.length) continue
      all += bucket.all
      hits += bucket.hits
    }
    return { all, hits }
  }
}
