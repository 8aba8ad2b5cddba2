/** Duration and size of the attacks: those of the rows, and a short form that shows the same in seconds. */

export interface Length {
  readonly heartbeatsPerS: number
  /** Warm-up with heartbeats before anything is measured. */
  readonly warmS: number
  readonly quietS: number
  /** Windows of attack, each after a quiet one. */
  readonly rounds: number
  readonly attackS: number
  /** Row 1, which only hurts after a while. */
  readonly junkS: number
  /** Row 4: a download counts as slow after a minute. */
  readonly downloadS: number
  /** Scales the sockets that hold something (rows 1, 2, 6). */
  readonly share: number
  /** Scales the floods (rows 3, 5, 12, 15, 16). */
  readonly flood: number
}

export const FULL: Omit<Length, 'rounds'> = {
  heartbeatsPerS: 200,
  warmS: 15,
  quietS: 15,
  attackS: 30,
  junkS: 60,
  downloadS: 90,
  share: 1,
  flood: 1,
}

export const SHORT: Length = {
  heartbeatsPerS: 200,
  warmS: 2,
  quietS: 2,
  rounds: 1,
  attackS: 5,
  junkS: 8,
  downloadS: 8,
  share: 0.2,
  flood: 1,
}

/** The tests' length: many attacks at once, on a shared machine. */
export const TINY: Length = {
  heartbeatsPerS: 20,
  warmS: 0,
  quietS: 0,
  rounds: 1,
  attackS: 1.5,
  junkS: 1.5,
  downloadS: 1.5,
  share: 0.06,
  flood: 0.2,
}
