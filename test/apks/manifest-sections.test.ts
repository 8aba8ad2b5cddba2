/** The sections of a JAR manifest, wherever the pieces that it is read in end. */
import t from 'tap'
import { readSections } from '../../src/apk/package/signature/jar-manifest.ts'

const SECTIONS = [
  'Manifest-Version: 1.0\r\n\r\n',
  'Name: a\nSHA-256-Digest: AAAA\n\n',
  'Name: b\rSHA1-Digest: BBBB\r\r',
  'Name: c\r\n',
]

async function sectionsOf(...pieces: readonly string[]): Promise<string[]> {
  async function* read() {
    for (const piece of pieces) yield Buffer.from(piece)
  }
  const found: string[] = []
  for await (const sections of readSections(read())) {
    for (const { raw, name } of sections) found.push(`${name}: ${raw.toString()}`)
  }
  return found
}

t.test('a section is whole, wherever it is cut', async (t) => {
  const text = SECTIONS.join('')
  const whole = SECTIONS.map((raw, index) => `${[undefined, 'a', 'b', 'c'][index]}: ${raw}`)
  t.same(await sectionsOf(text), whole)
  for (let at = 1; at < text.length; at += 1) {
    t.same(await sectionsOf(text.slice(0, at), text.slice(at)), whole, `cut at ${at}`)
  }
  t.same(await sectionsOf(...text), whole, 'byte by byte')
})
