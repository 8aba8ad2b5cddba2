/**
 * Items that come and go thousands of times a second, in the order in which they came. A Set keeps them as well, but each
 * table that it outgrows points at the items of its time; once such a table is old, they stay until the next full
 * collection, and all that they hold with them: for the open requests that was a seventh of the CPU of a heartbeat
 * (docs/develop/measurements.md). So it is a linked list, and a place that is left points at nothing.
 */

/** Where one item stands; only the list changes it. */
export interface ListNode<T> {
  /** undefined: removed. */
  item: T | undefined
  previous: ListNode<T> | undefined
  next: ListNode<T> | undefined
}

export class LinkedList<T> implements Iterable<T> {
  #first: ListNode<T> | undefined
  #last: ListNode<T> | undefined
  #size = 0

  get size(): number {
    return this.#size
  }

  /** The one that stands first: that came first, where nothing was rotated. */
  get first(): T | undefined {
    return this.#first?.item
  }

  /** Behind all others; answers the place that removes it. */
  add(item: T): ListNode<T> {
    const node: ListNode<T> = { item, previous: undefined, next: undefined }
    this.#append(node)
    this.#size++
    return node
  }

  /** Repeatable. */
  remove(node: ListNode<T>): void {
    if (node.item === undefined) return
    const { previous, next } = node
    if (previous === undefined) this.#first = next
    else previous.next = next
    if (next === undefined) this.#last = previous
    else next.previous = previous
    node.item = node.previous = node.next = undefined
    this.#size--
  }

  /** Moves the one that stands first behind all others. Its place stays its own. */
  rotate(): void {
    if (this.#first !== undefined) this.moveToEnd(this.#first)
  }

  /** Moves an item behind all others; does nothing where it was removed. */
  moveToEnd(node: ListNode<T>): void {
    const { previous, next } = node
    if (node.item === undefined || next === undefined) return
    next.previous = previous
    if (previous === undefined) this.#first = next
    else previous.next = next
    node.next = undefined
    this.#append(node)
  }

  /** The last one that fits, looked for from the end; nothing is copied. */
  findLast(fits: (item: T) => boolean): T | undefined {
    for (let node = this.#last; node !== undefined; node = node.previous) {
      if (node.item !== undefined && fits(node.item)) return node.item
    }
    return undefined
  }

  /** Those that are in it now, as they stand; what is removed meanwhile is left out. */
  *[Symbol.iterator](): Generator<T> {
    const places: ListNode<T>[] = []
    for (let node = this.#first; node !== undefined; node = node.next) places.push(node)
    for (const { item } of places) {
      if (item !== undefined) yield item
    }
  }

  #append(node: ListNode<T>): void {
    node.previous = this.#last
    node.next = undefined
    if (this.#last === undefined) this.#first = node
    else this.#last.next = node
    this.#last = node
  }
}
