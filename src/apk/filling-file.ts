/** How much of a file is there while one writes it and others follow: more and more, up to all of it or to the fault that ends it. */

export class FillingFile {
  #sizeBytes = 0
  #failure: { readonly error: unknown } | undefined
  #waiting: (() => void)[] = []

  /** Resolves, as soon as it is more than `bytes`, with how much is there; rejects with the fault where it never will be. */
  async waitForMoreThan(bytes: number): Promise<number> {
    while (this.#sizeBytes <= bytes) {
      if (this.#failure !== undefined) throw this.#failure.error
      await new Promise<void>((resolve) => this.#waiting.push(resolve))
    }
    return this.#sizeBytes
  }

  /** So much is there from now on; never less than before. */
  grewTo(sizeBytes: number): void {
    this.#sizeBytes = sizeBytes
    this.#wake()
  }

  /** No more will come. */
  fail(error: unknown): void {
    this.#failure = { error }
    this.#wake()
  }

  #wake(): void {
    for (const wake of this.#waiting.splice(0)) wake()
  }
}
