/** DER, as far as signatures and certificates need it. Source: ITU-T X.690, sections 8 and 10. */
import type { PackageFault } from '../source.ts'

export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  objectId: 0x06,
  sequence: 0x30,
  set: 0x31,
  context0: 0xa0,
  context1: 0xa1,
  context3: 0xa3,
} as const
/** Tags above 30 take more than one byte; none is used here. */
const LONG_TAG = 0x1f

/** DER values one after the other. Throws what `damaged` makes where the next one is another, or cut off. */
export class Der {
  readonly #bytes: Buffer
  readonly #damaged: () => PackageFault
  #at = 0

  constructor(bytes: Buffer, damaged: () => PackageFault) {
    this.#bytes = bytes
    this.#damaged = damaged
  }

  get isAtEnd(): boolean {
    return this.#at === this.#bytes.length
  }

  peek(): number | undefined {
    return this.#bytes[this.#at]
  }

  /** The content of the next value. */
  take(tag: number): Buffer {
    const { contentAt, end } = this.#next(tag)
    this.#at = end
    return this.#bytes.subarray(contentAt, end)
  }

  /** The next value with its tag and length. */
  takeWhole(tag: number): Buffer {
    const first = this.#at
    this.#at = this.#next(tag).end
    return this.#bytes.subarray(first, this.#at)
  }

  skip(): void {
    this.#at = this.#next(undefined).end
  }

  enter(tag: number): Der {
    return new Der(this.take(tag), this.#damaged)
  }

  /** As hex of its content: parts of seven bits, the last byte of each without its highest bit, none with leading zeros. */
  objectId(tag: number = TAG.objectId): string {
    const id = this.take(tag)
    const isPart = (byte: number, index: number) => byte !== 0x80 || (id[index - 1] ?? 0) >= 0x80
    this.expect(id.length > 0 && (id.at(-1) ?? 0) < 0x80 && id.every(isPart))
    return id.toString('hex')
  }

  version(): void {
    this.expect(this.take(TAG.integer).length === 1)
  }

  expectEnd(): void {
    this.expect(this.isAtEnd)
  }

  /** Throws where `isHeld` is false. */
  expect(isHeld: boolean): void {
    if (!isHeld) throw this.#damaged()
  }

  #next(tag: number | undefined): { readonly contentAt: number; readonly end: number } {
    const first = this.#bytes[this.#at + 1]
    const isWanted = tag === undefined || this.#bytes[this.#at] === tag
    const isLongTag = ((this.#bytes[this.#at] ?? 0) & LONG_TAG) === LONG_TAG
    if (first === undefined || !isWanted || isLongTag) throw this.#damaged()
    let length = first
    let contentAt = this.#at + 2
    if (first >= 0x80) {
      const lengthBytes = first & 0x7f
      if (lengthBytes < 1 || lengthBytes > 3) throw this.#damaged() // indefinite, or far too long
      if (contentAt + lengthBytes > this.#bytes.length) throw this.#damaged()
      length = this.#bytes.readUIntBE(contentAt, lengthBytes)
      contentAt += lengthBytes
    }
    if (length > this.#bytes.length - contentAt) throw this.#damaged()
    return { contentAt, end: contentAt + length }
  }
}
