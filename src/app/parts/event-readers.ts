/** Bounds the readers that wait for events: long polls and streams, of this replica and of one admin. */
import { createSemaphore, type Semaphore } from '../../lib/semaphore.ts'

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
  const all = createSemaphore(MAX_EVENT_READERS)
  /** As many as ADMIN_TOKENS has names. */
  const byAdmin = new Map<string, Semaphore>()
  let refusedCount = 0
  let droppedCount = 0

  function acquireBoth(admin: string): (() => void) | undefined {
    const own = byAdmin.get(admin) ?? createSemaphore(MAX_READERS_OF_ADMIN)
    byAdmin.set(admin, own)
    const releaseOwn = own.tryAcquire()
    if (releaseOwn === undefined) return undefined
    const release = all.tryAcquire()
    if (release === undefined) {
      releaseOwn()
      return undefined
    }
    return () => {
      releaseOwn()
      release()
    }
  }

  return {
    tryAcquire(admin) {
      const release = acquireBoth(admin)
      if (release === undefined) refusedCount += 1
      return release
    },
    dropped() {
      droppedCount += 1
    },
    get open() {
      return all.inUse
    },
    get refusedCount() {
      return refusedCount
    },
    get droppedCount() {
      return droppedCount
    },
  }
}
