/**
 * Items that come and go thousands of times a second, in the order in which they came. A Set keeps them as well, but each
 * table that it outgrows points at the items of its time; once such a table is old, they stay until the next full
 * collection, and all that they hold with them: for the open requests that was a seventh of the CPU of a heartbeat
 * (docs/develop/measurements.md). So it is a linked list, and a place that is left points at nothing.
 */

/** Where one item stands; only the list changes it. */
export interface Place<T> {
  /** undefined: removed. */
  item: T | undefined
  before: Place<T> | undefined
  after: Place<T> | undefined
}

export class LiveList<T> implements Iterable<T> {
  #first: Place<T> | undefined
  #last: Place<T> | undefined
  #size = 0

  get size(): number {
    return this.#size
  }

  /** The one that stands first: that came first, where nothing was rotated. */
  get first(): T | undefined {
    return this.#first?.item
  }

  /** Behind all others; answers the place that removes it. */
  add(item: T): Place<T> {
    const place: Place<T> = { item, before: undefined, after: undefined }
    this.#append(place)
    this.#size++
    return place
  }

  /** Repeatable. */
  remove(place: Place<T>): void {
    if (place.item === undefined) return
    const { before, after } = place
    if (before === undefined) this.#first = after
    else before.after = after
    if (after === undefined) this.#last = before
    else after.before = before
    place.item = place.before = place.after = undefined
    this.#size--
  }

  /** Moves the one that stands first behind all others. Its place stays its own. */
  rotate(): void {
    if (this.#first !== undefined) this.moveToEnd(this.#first)
  }

  /** Moves an item behind all others; does nothing where it was removed. */
  moveToEnd(place: Place<T>): void {
    const { before, after } = place
    if (place.item === undefined || after === undefined) return
    after.before = before
    if (before === undefined) this.#first = after
    else before.after = after
    place.after = undefined
    this.#append(place)
  }

  /** The last one that fits, looked for from the end; nothing is copied. */
  findLast(fits: (item: T) => boolean): T | undefined {
    for (let place = this.#last; place !== undefined; place = place.before) {
      if (place.item !== undefined && fits(place.item)) return place.item
    }
    return undefined
  }

  /** Those that are in it now, as they stand; what is removed meanwhile is left out. */
  *[Symbol.iterator](): Generator<T> {
    const places: Place<T>[] = []
    for (let place = this.#first; place !== undefined; place = place.after) places.push(place)
    for (const { item } of places) {
      if (item !== undefined) yield item
    }
  }

  #append(place: Place<T>): void {
    place.before = this.#last
    place.after = undefined
    if (this.#last === undefined) this.#first = place
    else this.#last.after = place
    this.#last = place
  }
}
