/** A number that only grows; exact up to 2^53. */
export class Counter {
  #value = 0

  get value(): number {
    return this.#value
  }

  /** `by` must not be negative. */
  add(by = 1): void {
    this.#value += by
  }
}
