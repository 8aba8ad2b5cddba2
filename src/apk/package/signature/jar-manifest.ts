/**
 * The sections of META-INF/MANIFEST.MF and *.SF. Source: JAR File Specification, "Name-Value pairs and Sections" and
 * "Signature File". Read forward, one section in memory, so that a manifest of any size is. Bounds: 64 KiB a section, 65,535
 * sections: one for each entry of a zip, and the main one.
 */
import { setImmediate as turn } from 'node:timers/promises'
import { badSignature } from '../source.ts'
import type { HashName } from './pkcs7.ts'

const MAX_SECTION_BYTES = 64 * 1024
const MAX_SECTIONS = 65_535
/** Between two turns of the event loop: 0.2 ms, or 3 ms where sections are as short as can be. */
const SLICE_BYTES = 4 * 1024
const CR = 13
const LF = 10
/** Until API level 17 a phone took the first digest of this list, since then the strongest. */
const OLD_DIGEST_ALGORITHMS = 'SHA SHA1'
const STRONGEST_SINCE = 18
const DIGESTS: readonly (readonly [HashName, attribute: string])[] = [
  ['sha512', 'sha-512'],
  ['sha384', 'sha-384'],
  ['sha256', 'sha-256'],
  ['sha1', 'sha1'],
]
const OLD_NAMES: Readonly<Record<string, HashName>> = {
  sha: 'sha1',
  sha1: 'sha1',
  'sha-1': 'sha1',
  'sha-256': 'sha256',
  'sha-384': 'sha384',
  'sha-512': 'sha512',
}

/** As java.util.Base64 takes it: padded, or without any padding. */
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}(?:==)?|[A-Za-z0-9+/]{3}=?)?$/

export type Digest = readonly [HashName, hex: string]

export interface JarSection {
  /** With the empty line that ends it. Valid until the next section is read. */
  readonly raw: Buffer
  /** By name in lower case; of a name that occurs twice, the first. Bytes, one character each. */
  readonly attributes: ReadonlyMap<string, string>
  /** Where the first attribute is `Name`. */
  readonly name: string | undefined
}

/**
 * The main section first, then those of entries; those of a slice, which are read as they are asked for, together. Throws
 * `signature` where one is too long, or there are too many.
 */
export async function* readSections(
  pieces: AsyncIterable<Buffer>,
): AsyncGenerator<Iterable<JarSection>> {
  const splitter = new Splitter()
  for await (const piece of pieces) {
    for (let at = 0; at < piece.length; at += SLICE_BYTES) {
      yield splitter.split(piece.subarray(at, at + SLICE_BYTES))
      await turn()
    }
  }
  yield splitter.end()
}

/** Cuts text into sections at empty lines; lines end in LF, CR or CR LF. */
class Splitter {
  /** The beginning of a section whose end is in another slice. */
  readonly #held = Buffer.allocUnsafeSlow(MAX_SECTION_BYTES)
  #heldBytes = 0
  #isEmpty = true
  #isLineEmpty = true
  #isAfterCr = false
  #count = 0

  end(): Generator<JarSection> {
    return this.#emit(Buffer.alloc(0))
  }

  *split(slice: Buffer): Generator<JarSection> {
    let first = 0
    for (let at = 0; at < slice.length; at++) {
      const byte = slice[at]
      if (this.#isAfterCr && byte !== LF && this.#endLine()) {
        yield* this.#emit(slice.subarray(first, at))
        first = at
      }
      this.#isAfterCr = byte === CR
      if (byte === LF) {
        if (!this.#endLine()) continue
        yield* this.#emit(slice.subarray(first, at + 1))
        first = at + 1
      } else if (byte !== CR) {
        this.#isLineEmpty = false
        this.#isEmpty = false
      }
    }
    this.#hold(slice.subarray(first))
  }

  /** True: the line was empty, and ends a section. */
  #endLine(): boolean {
    const isEmpty = this.#isLineEmpty
    this.#isLineEmpty = true
    return isEmpty
  }

  #hold(bytes: Buffer): void {
    if (this.#heldBytes + bytes.length > MAX_SECTION_BYTES) {
      throw badSignature('a section of its META-INF/MANIFEST.MF or *.SF is too long')
    }
    this.#heldBytes += bytes.copy(this.#held, this.#heldBytes)
  }

  /** Empty lines before a section are not part of it. */
  *#emit(rest: Buffer): Generator<JarSection> {
    let raw = rest
    if (this.#heldBytes > 0) {
      this.#hold(rest)
      raw = this.#held.subarray(0, this.#heldBytes)
      this.#heldBytes = 0
    }
    if (this.#isEmpty) return
    this.#isEmpty = true
    if (++this.#count > MAX_SECTIONS) {
      throw badSignature('a file in META-INF has too many sections')
    }
    yield readSection(raw)
  }
}

/** Continuation lines, which begin with a space, are joined. */
function readSection(raw: Buffer): JarSection {
  const text = raw.toString('latin1').replaceAll('\r\n', '\n').replaceAll('\r', '\n')
  const attributes = new Map<string, string>()
  let name: string | undefined
  for (const line of text.replaceAll('\n ', '').split('\n')) {
    if (line === '') continue
    const at = line.indexOf(': ')
    const key = (at === -1 ? line : line.slice(0, at)).toLowerCase()
    const value = at === -1 ? '' : line.slice(at + 2)
    if (attributes.size === 0 && key === 'name') name = value
    if (!attributes.has(key)) attributes.set(key, value)
  }
  return { raw, attributes, name }
}

/** The digests that phones from `minSdk` on compare; none where one of them would find none. */
export function digestsOf({ attributes }: JarSection, suffix: string, minSdk: number): Digest[] {
  const found: Digest[] = []
  if (minSdk < STRONGEST_SINCE) {
    const names = (attributes.get('digest-algorithms') ?? OLD_DIGEST_ALGORITHMS).split(/\s+/)
    const first = names.find(
      (name) =>
        OLD_NAMES[name.toLowerCase()] !== undefined && attributes.has(name.toLowerCase() + suffix),
    )
    const algorithm = OLD_NAMES[first?.toLowerCase() ?? '']
    if (first === undefined || algorithm === undefined) return []
    found.push([algorithm, fromBase64(attributes.get(first.toLowerCase() + suffix))])
  }
  for (const [name, attribute] of DIGESTS) {
    const text = attributes.get(attribute + suffix)
    if (text === undefined) continue
    const digest = fromBase64(text)
    const same = found.find(([of]) => of === name)
    if (same !== undefined && same[1] !== digest)
      throw badSignature('two digests of the same in META-INF differ')
    if (same === undefined) found.push([name, digest])
    break
  }
  return found
}

/** As hex. */
function fromBase64(text: string | undefined): string {
  if (text === undefined || !BASE64.test(text)) {
    throw badSignature('a digest in META-INF is damaged')
  }
  return Buffer.from(text, 'base64').toString('hex')
}
