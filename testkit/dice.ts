/** Random choices that a seed repeats. */
import { seededRandom } from './random.ts'

export class Dice {
  readonly random: () => number

  constructor(seed: number) {
    this.random = seededRandom(seed)
  }

  /** 0 inclusive to `end` exclusive. */
  below(end: number): number {
    return Math.floor(this.random() * end)
  }

  /** `share` is 0 to 1. */
  chance(share: number): boolean {
    return this.random() < share
  }

  /** The list must not be empty. */
  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T // within the list
  }
}
