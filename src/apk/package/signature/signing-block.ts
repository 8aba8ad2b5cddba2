/**
 * The APK Signing Block right before the central directory, and its length-prefixed fields. Source:
 * source.android.com/docs/security/features/apksigning/v2#apk-signing-block. Bounds: 1,000 pairs, 256 KiB a scheme.
 */
import type { ApkSource } from '../../../domain/apk-source.ts'
import { badSignature, readBytes } from '../source.ts'
import type { ZipDirectory } from '../zip.ts'

const MAGIC = Buffer.from('APK Sig Block 42')
const FOOTER_BYTES = 8 + MAGIC.length
const MIN_BLOCK_BYTES = 8 + FOOTER_BYTES
const PAIR_HEADER_BYTES = 12
const MAX_PAIRS = 1_000
const MAX_SCHEME_BYTES = 256 * 1024

/** Ids of the pairs that hold signatures; the others, such as padding, are no concern of a verifier. */
const SCHEME_ID = { v2: 0x7109871a, v3: 0xf05368c0, v31: 0x1b93ad61 } as const
export type BlockScheme = keyof typeof SCHEME_ID

export interface SigningBlock {
  /** Of the block: what is before it is signed as a whole. */
  readonly offset: number
  readonly schemes: Readonly<Partial<Record<BlockScheme, Buffer>>>
}

/**
 * undefined: there is none, or nothing in its place that Android takes for one. Throws `signature` where one is there
 * that cannot be read.
 */
export async function findSigningBlock(
  source: ApkSource,
  directory: ZipDirectory,
): Promise<SigningBlock | undefined> {
  if (directory.end !== directory.endRecordOffset) return undefined
  if (directory.offset < MIN_BLOCK_BYTES) return undefined
  const footerAt = directory.offset - FOOTER_BYTES
  const footer = await readBytes(source, footerAt, FOOTER_BYTES)
  if (!footer.subarray(8).equals(MAGIC)) return undefined
  const sizeBytes = footer.readBigUInt64LE(0)
  if (sizeBytes < FOOTER_BYTES || sizeBytes > directory.offset - 8) return undefined
  const offset = directory.offset - Number(sizeBytes) - 8
  const head = await readBytes(source, offset, 8)
  if (head.readBigUInt64LE(0) !== sizeBytes) return undefined
  return { offset, schemes: await readPairs(source, offset + 8, footerAt) }
}

async function readPairs(source: ApkSource, first: number, end: number) {
  const schemes: Partial<Record<BlockScheme, Buffer>> = {}
  let at = first
  for (let count = 0; at < end; count++) {
    if (count === MAX_PAIRS) throw badSignature('its APK Signing Block has too many parts')
    if (end - at < 8) throw damaged()
    const headerBytes = Math.min(PAIR_HEADER_BYTES, end - at)
    const head = await readBytes(source, at, headerBytes)
    const pairBytes = head.readBigUInt64LE(0)
    if (pairBytes < 4 || pairBytes > end - at - 8) throw damaged()
    const id = head.readUInt32LE(8)
    const valueBytes = Number(pairBytes) - 4
    for (const [name, schemeId] of SCHEMES) {
      if (id !== schemeId || schemes[name] !== undefined) continue
      if (valueBytes > MAX_SCHEME_BYTES) throw badSignature('its signature is too large')
      schemes[name] = await readBytes(source, at + PAIR_HEADER_BYTES, valueBytes)
    }
    at += PAIR_HEADER_BYTES + valueBytes
  }
  return schemes
}

const SCHEMES: readonly (readonly [BlockScheme, number])[] = [
  ['v2', SCHEME_ID.v2],
  ['v3', SCHEME_ID.v3],
  ['v31', SCHEME_ID.v31],
]

/** Little-endian numbers and length-prefixed parts, one after the other. Throws `signature` where a part is cut off. */
export class Fields {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  get isAtEnd(): boolean {
    return this.#at === this.#bytes.length
  }

  uint32(): number {
    if (this.#bytes.length - this.#at < 4) throw damaged()
    const value = this.#bytes.readUInt32LE(this.#at)
    this.#at += 4
    return value
  }

  /** The next part, after its length as uint32. */
  part(): Buffer {
    const length = this.uint32()
    if (length > this.#bytes.length - this.#at) throw damaged()
    this.#at += length
    return this.#bytes.subarray(this.#at - length, this.#at)
  }

  fields(): Fields {
    return new Fields(this.part())
  }

  rest(): Buffer {
    const rest = this.#bytes.subarray(this.#at)
    this.#at = this.#bytes.length
    return rest
  }

  /** Part after part to the end, at most `max`. */
  parts(max: number): Buffer[] {
    const parts: Buffer[] = []
    while (!this.isAtEnd) {
      if (parts.length === max) throw badSignature('its signature has too many parts')
      parts.push(this.part())
    }
    return parts
  }
}

function damaged() {
  return badSignature('its APK Signing Block is damaged')
}
