/** A bound on how many of something run at once; what finds no slot is refused and counted, never queued. */

export interface Slots {
  /** Gives the slot back; more calls than one do nothing. undefined: all slots are taken. */
  take(): (() => void) | undefined
  readonly inUse: number
  /** How many were refused so far. */
  readonly refused: number
}

export function createSlots(most: number): Slots {
  let inUse = 0
  let refused = 0
  return {
    take() {
      if (inUse >= most) {
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
