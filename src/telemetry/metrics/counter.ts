/** A number that only grows; a double, so exact up to 2^53. */
export class Counter {
  #value = 0

  get value(): number {
    return this.#value
  }

  /** `by` is not negative. */
  add(by = 1): void {
    this.#value += by
  }
}
