/** Bounds the readers that wait for events: long polls and streams, of this replica and of one admin. */
import { createSharedSemaphore } from '../../lib/semaphore.ts'

/** Each costs a connection, and a statement for every batch of news. */
const MAX_EVENT_READERS = 128
/** Of them, those of one admin. */
const MAX_READERS_OF_ADMIN = 32

export interface EventReaders {
  /** Returns the function that ends the reader (repeatable); undefined: too many. */
  tryAcquire(admin: string): (() => void) | undefined
  /** A stream was cut off: its client did not read. */
  dropped(): void
  readonly open: number
  readonly refusedCount: number
  readonly droppedCount: number
}

export function createEventReaders(): EventReaders {
  const readers = createSharedSemaphore(MAX_EVENT_READERS, MAX_READERS_OF_ADMIN)
  let refusedCount = 0
  let droppedCount = 0

  return {
    tryAcquire(admin) {
      const release = readers.tryAcquire(admin)
      if (release === undefined) refusedCount += 1
      return release
    },
    dropped() {
      droppedCount += 1
    },
    get open() {
      return readers.inUse
    },
    get refusedCount() {
      return refusedCount
    },
    get droppedCount() {
      return droppedCount
    },
  }
}
