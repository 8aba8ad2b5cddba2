/** Divides long work, so that the event loop is never held for long. */
import { setImmediate as turn } from 'node:timers/promises'

/** Between two turns of the event loop, about 2 ms. */
const COST_A_TURN = 512 * 1024

export class EventLoopBudget {
  #left = COST_A_TURN

  /** Waits for a turn of the event loop where one is due. `cost` of work that was done: 1 for each byte that was hashed. */
  async spend(cost: number): Promise<void> {
    this.#left -= cost
    if (this.#left > 0) return
    this.#left = COST_A_TURN
    await turn()
  }
}
