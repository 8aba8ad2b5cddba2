/**
 * Items that come and go thousands of times a second. A Set keeps them as well, but each table that it outgrows points at
 * the items of its time; once such a table is old, they stay until the next full collection, and all that they hold with
 * them: for the open requests that was a seventh of the CPU of a heartbeat (bench/RESULTS.md).
 */
export class LiveList<T> implements Iterable<T> {
  readonly #items: (T | undefined)[] = []
  /** Places that are empty. */
  readonly #free: number[] = []

  get size(): number {
    return this.#items.length - this.#free.length
  }

  /** Answers the place that removes it. */
  add(item: T): number {
    const place = this.#free.pop() ?? this.#items.length
    this.#items[place] = item
    return place
  }

  /** Once for each add. */
  remove(place: number): void {
    this.#items[place] = undefined
    this.#free.push(place)
  }

  /** In no order; what is added or removed meanwhile may be left out. */
  *[Symbol.iterator](): Generator<T> {
    for (const item of this.#items) {
      if (item !== undefined) yield item
    }
  }
}
