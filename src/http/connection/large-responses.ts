/** Limits long texts, such as lists, that their clients do not read: each is in memory until the system has taken it. */
import type { ServerResponse } from 'node:http'
import { LinkedList } from '../../lib/linked-list.ts'
import { reset } from './connections.ts'

/** The system's buffers take shorter ones. In UTF-16 units, as all lengths here. */
const MIN_LENGTH = 16 * 1024
/** Of all together. */
const MAX_UNSENT_LENGTH = 64 * 1024 * 1024

interface Unsent {
  readonly res: ServerResponse
  readonly forget: () => void
}

export class LargeResponses {
  readonly #maxLength: number
  /** Oldest first. */
  readonly #unsent = new LinkedList<Unsent>()
  #length = 0

  constructor(maxLength = MAX_UNSENT_LENGTH) {
    this.#maxLength = maxLength
  }

  /** Counts a response until it is out or closed. Over the limit, cuts off the oldest ones. */
  add(res: ServerResponse, length: number): void {
    if (length < MIN_LENGTH) return
    let left = length
    this.#length += length
    const forget = () => {
      this.#length -= left
      left = 0
      this.#unsent.remove(node)
    }
    const node = this.#unsent.add({ res, forget })
    res.once('close', forget)
    while (this.#length > this.#maxLength) {
      const { first } = this.#unsent
      if (first === undefined) return
      first.forget()
      reset(first.res.req.socket)
    }
  }
}
