/** The size of a file that one task fills while others follow, up to its end or to the error that stops it. */

export class FillingFile {
  #sizeBytes = 0
  #failure: { readonly error: unknown } | undefined
  #waiting: (() => void)[] = []

  /** Resolves with the size once it exceeds `bytes`; rejects with the error that stopped the filling. */
  async waitForMoreThan(bytes: number): Promise<number> {
    while (this.#sizeBytes <= bytes) {
      if (this.#failure !== undefined) throw this.#failure.error
      await new Promise<void>((resolve) => this.#waiting.push(resolve))
    }
    return this.#sizeBytes
  }

  /** The size never shrinks. */
  grewTo(sizeBytes: number): void {
    this.#sizeBytes = sizeBytes
    this.#wake()
  }

  /** Nothing more will come. */
  fail(error: unknown): void {
    this.#failure = { error }
    this.#wake()
  }

  #wake(): void {
    for (const wake of this.#waiting.splice(0)) wake()
  }
}
