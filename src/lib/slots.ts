/** A bound on how many of something run at once; what finds no slot is refused and counted, never queued. */

export interface Semaphore {
  /** Gives the slot back; more calls than one do nothing. undefined: all slots are taken. */
  tryAcquire(): (() => void) | undefined
  readonly inUse: number
  /** How many were refused so far. */
  readonly refused: number
}

export function createSemaphore(max: number): Semaphore {
  let inUse = 0
  let refused = 0
  return {
    tryAcquire() {
      if (inUse >= max) {
        refused++
        return undefined
      }
      inUse++
      let isTaken = true
      return () => {
        if (isTaken) inUse--
        isTaken = false
      }
    },
    get inUse() {
      return inUse
    },
    get refused() {
      return refused
    },
  }
}
