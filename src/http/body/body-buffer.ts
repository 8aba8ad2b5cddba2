/** Collects chunks in one buffer that doubles: a list would cost some 300 bytes for each chunk, even of one byte. */

const NO_BYTES = Buffer.alloc(0)
const MIN_CAPACITY_BYTES = 1_024

export class BodyBuffer {
  readonly #maxBytes: number
  #buffer: Buffer = NO_BYTES
  sizeBytes = 0

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  /** Memory in use: at most twice the size, or MIN_CAPACITY_BYTES, and never more than the limit of the body. */
  get heldBytes(): number {
    return this.#buffer.length
  }

  /** Keeps the first chunk without a copy: most bodies have no second one. */
  add(chunk: Buffer): void {
    const sizeBytes = this.sizeBytes + chunk.length
    if (this.sizeBytes === 0) {
      this.#buffer = chunk
    } else {
      if (sizeBytes > this.#buffer.length) this.#growFor(sizeBytes)
      this.#buffer.set(chunk, this.sizeBytes)
    }
    this.sizeBytes = sizeBytes
  }

  get bytes(): Buffer {
    return this.#buffer.subarray(0, this.sizeBytes)
  }

  forget(): void {
    this.#buffer = NO_BYTES
    this.sizeBytes = 0
  }

  #growFor(sizeBytes: number): void {
    const capacityBytes = Math.min(this.#maxBytes, Math.max(MIN_CAPACITY_BYTES, 2 * sizeBytes))
    const grown = Buffer.allocUnsafeSlow(capacityBytes)
    grown.set(this.bytes)
    this.#buffer = grown
  }
}
