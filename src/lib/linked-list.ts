/**
 * A doubly linked list for items that come and go thousands of times a second. A Set would do, but each table that it
 * outgrows still points at the items of its time; once such a table is old, they live until the next full collection. For
 * the open requests that was a seventh of the CPU of a heartbeat (docs/develop/measurements.md).
 */

/** One item's node. Only the list changes it. */
export interface ListNode<T> {
  /** undefined once removed. */
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

  get first(): T | undefined {
    return this.#first?.item
  }

  /** Appends. remove() takes the node. */
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

  /** Moves the first item to the end; its node stays valid. */
  rotate(): void {
    if (this.#first !== undefined) this.moveToEnd(this.#first)
  }

  /** Does nothing if the item was removed. */
  moveToEnd(node: ListNode<T>): void {
    const { previous, next } = node
    if (node.item === undefined || next === undefined) return
    next.previous = previous
    if (previous === undefined) this.#first = next
    else previous.next = next
    node.next = undefined
    this.#append(node)
  }

  /** Searches from the end and copies nothing. */
  findLast(fits: (item: T) => boolean): T | undefined {
    for (let node = this.#last; node !== undefined; node = node.previous) {
      if (node.item !== undefined && fits(node.item)) return node.item
    }
    return undefined
  }

  /** The items of this moment, less those removed during the iteration. */
  *[Symbol.iterator](): Generator<T> {
    const nodes: ListNode<T>[] = []
    for (let node = this.#first; node !== undefined; node = node.next) nodes.push(node)
    for (const { item } of nodes) {
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
