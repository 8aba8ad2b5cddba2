/**
 * The sections of META-INF/MANIFEST.MF and *.SF. Source: JAR File Specification, "Name-Value pairs and Sections" and
 * "Signature File". Read forward, one section in memory, so that a manifest of any size is. Bounds: 64 KiB a section, 65,535 sections: one for each entry of a zip, and the main one.
 */
import { setImmediate as turn } from 'node:timers/promises'
import type { HashName } from './pkcs7.ts'
import { badSignature } from './source.ts'

const MAX_SECTION_BYTES = 64 * 1024
const MAX_SECTIONS = 65_535
/** Between two turns of the event loop: 1 ms. */
const SECTIONS_A_TURN = 200
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

export type Digest = readonly [HashName, Buffer]

export interface JarSection {
  /** With the empty line that ends it. */
  readonly raw: Buffer
  /** By name in lower case; of a name that occurs twice, the first. Bytes, one character each. */
  readonly attributes: ReadonlyMap<string, string>
  /** Where the first attribute is `Name`. */
  readonly name: string | undefined
}

/** The main section first, then those of entries. Throws `signature` where one is too long, or there are too many. */
export async function* readSections(pieces: AsyncIterable<Buffer>): AsyncGenerator<JarSection> {
  const splitter = new Splitter()
  let count = 0
  for await (const piece of pieces) {
    for (const section of splitter.add(piece)) {
      if (++count > MAX_SECTIONS) throw badSignature('a file in META-INF has too many sections')
      if (count % SECTIONS_A_TURN === 0) await turn()
      yield section
    }
  }
  yield* splitter.end()
}

/** Cuts text into sections at empty lines; lines end in LF, CR or CR LF. */
class Splitter {
  readonly #section = Buffer.allocUnsafeSlow(MAX_SECTION_BYTES)
  #length = 0
  #lineLength = 0
  #isAfterCr = false

  #put(byte: number): void {
    if (this.#length === MAX_SECTION_BYTES) {
      throw badSignature('a section of its META-INF/MANIFEST.MF or *.SF is too long')
    }
    this.#section[this.#length++] = byte
  }

  *add(piece: Buffer): Generator<JarSection> {
    for (const byte of piece) {
      if (this.#isAfterCr && byte !== LF) yield* this.#endLine()
      this.#put(byte)
      if (byte === LF) {
        yield* this.#endLine()
      } else if (byte === CR) {
        this.#isAfterCr = true
      } else {
        this.#lineLength++
      }
    }
  }

  *end(): Generator<JarSection> {
    if (this.#isAfterCr) yield* this.#endLine()
    if (this.#lineLength > 0 || this.#length > 0) yield* this.#emit()
  }

  *#endLine(): Generator<JarSection> {
    this.#isAfterCr = false
    if (this.#lineLength === 0) yield* this.#emit()
    this.#lineLength = 0
  }

  /** Empty lines before a section are not part of it. */
  *#emit(): Generator<JarSection> {
    const raw = Buffer.from(this.#section.subarray(0, this.#length))
    this.#length = 0
    this.#lineLength = 0
    const lines = linesOf(raw)
    if (lines.length > 0) yield readSection(raw, lines)
  }
}

/** Without line ends and empty lines; continuation lines, which begin with a space, joined. */
function linesOf(raw: Buffer): readonly string[] {
  const text = raw.toString('latin1').replace(/(?:\r\n|\r|\n) /g, '')
  return text.split(/\r\n|\r|\n/).filter((line) => line !== '')
}

function readSection(raw: Buffer, lines: readonly string[]): JarSection {
  const attributes = new Map<string, string>()
  let name: string | undefined
  for (const [index, line] of lines.entries()) {
    const at = line.indexOf(': ')
    const key = (at === -1 ? line : line.slice(0, at)).toLowerCase()
    const value = at === -1 ? '' : line.slice(at + 2)
    if (index === 0 && key === 'name') name = value
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
    if (same !== undefined && !same[1].equals(digest))
      throw badSignature('two digests of the same in META-INF differ')
    if (same === undefined) found.push([name, digest])
    break
  }
  return found
}

function fromBase64(text: string | undefined): Buffer {
  if (text === undefined || !/^[A-Za-z0-9+/]*={0,2}$/.test(text)) {
    throw badSignature('a digest in META-INF is damaged')
  }
  return Buffer.from(text, 'base64')
}
