/** What counts as an APK. No bytes make the check throw, read outside the file or take much memory. */
import { randomBytes } from 'node:crypto'
import t from 'tap'
import { MANIFEST, makeApk, makeZip, SIGNING_BLOCK } from '../../sim/apk.ts'
import { checkApk } from '../../src/domain/zip.ts'

const SIGNATURE = { name: 'META-INF/CERT.RSA', bytes: Buffer.from('RSA') }
const OTHER = { name: 'classes.dex', bytes: Buffer.from('dex') }
const END_BYTES = 22

async function check(bytes: Buffer) {
  const reads = { count: 0, largestBytes: 0, isOutside: false }
  const outcome = await checkApk(async (offset, length) => {
    reads.count++
    reads.largestBytes = Math.max(reads.largestBytes, length)
    reads.isOutside ||= offset < 0 || length < 0 || offset + length > bytes.length
    return bytes.subarray(offset, offset + length)
  }, bytes.length)
  return { outcome, reads }
}

/** A copy whose end record, the last bytes of the file, has `value` at `offset`. */
function withEnd(zip: Buffer, offset: number, value: number, sizeBytes: 2 | 4): Buffer {
  const copy = Buffer.from(zip)
  copy.writeUIntLE(value, copy.length - END_BYTES + offset, sizeBytes)
  return copy
}

/** A copy whose first directory entry has `value` at `offset`. */
function withEntry(zip: Buffer, offset: number, value: number, sizeBytes: 2 | 4): Buffer {
  const copy = Buffer.from(zip)
  copy.writeUIntLE(value, copy.readUInt32LE(copy.length - 6) + offset, sizeBytes)
  return copy
}

/** A manifest of that many bytes, either random or all the same. */
function compiled(sizeBytes: number, value?: number) {
  const rest = value === undefined ? randomBytes(sizeBytes - 8) : Buffer.alloc(sizeBytes - 8, value)
  return { ...MANIFEST, bytes: Buffer.concat([MANIFEST.bytes, rest]) }
}

function text(sizeBytes: number) {
  const bytes = Buffer.from('<manifest/>'.padEnd(sizeBytes, '<application/>'))
  return { ...MANIFEST, bytes, isDeflated: true }
}

t.test('a signed zip with a compiled manifest is an APK', async (t) => {
  const padding = { name: 'padding', bytes: Buffer.alloc(100_000) }
  const many = Array.from({ length: 5_000 }, (_, index) => ({ ...OTHER, name: `res/${index}.xml` }))
  const cases: Record<string, Buffer> = {
    'the manifest alone': makeZip([SIGNATURE, MANIFEST]),
    'the manifest first': makeZip([MANIFEST, OTHER, SIGNATURE]),
    'the manifest last': makeZip([SIGNATURE, OTHER, MANIFEST]),
    'a directory of many windows': makeZip([SIGNATURE, ...many, MANIFEST]),
    'the manifest behind the tail': makeZip([SIGNATURE, MANIFEST, padding]),
    'a comment': makeZip([SIGNATURE, MANIFEST], 'hello'),
    'the longest comment': makeZip([SIGNATURE, MANIFEST], 'x'.repeat(0xffff)),
    'a comment that looks like an end': makeZip(
      [SIGNATURE, MANIFEST],
      `PK\x05\x06${'\0'.repeat(40)}`,
    ),
    'a name of the same length beside it': makeZip([
      { ...OTHER, name: 'AndroidManifest.XML' },
      MANIFEST,
      SIGNATURE,
    ]),
    'a signing block (APK Signature Scheme v2)': makeZip([MANIFEST], '', SIGNING_BLOCK),
    'signed by DSA': makeZip([MANIFEST, { ...SIGNATURE, name: 'META-INF/A.DSA' }]),
    'signed by EC': makeZip([MANIFEST, { ...SIGNATURE, name: 'META-INF/A.EC' }]),
    'a deflated manifest': makeZip([SIGNATURE, { ...compiled(100_000), isDeflated: true }]),
    'a manifest deflated to next to nothing': makeZip([
      SIGNATURE,
      { ...compiled(5_000_000, 0), isDeflated: true },
    ]),
    'made for the simulation': makeApk({ sizeBytes: 2_000_000 }),
    'the smallest of the simulation': makeApk({ sizeBytes: 300 }),
  }
  for (const [name, bytes] of Object.entries(cases)) {
    const { outcome, reads } = await check(bytes)
    t.strictSame(outcome, { kind: 'apk' }, name)
    t.equal(reads.isOutside, false, `${name}: no read outside the file`)
    t.ok(reads.largestBytes <= 64 * 1024 + END_BYTES, `${name}: reads are small`)
  }
})

t.test('anything else is refused with a reason', async (t) => {
  const apk = makeZip([MANIFEST, SIGNATURE])
  const cases: Record<string, readonly [Buffer, RegExp]> = {
    nothing: [Buffer.alloc(0), /too short/],
    'one byte less than an end record': [Buffer.alloc(21), /too short/],
    zeroes: [Buffer.alloc(200_000), /no zip/],
    text: [Buffer.from('<html>'.repeat(100)), /no zip/],
    'an empty zip': [makeZip([]), /no AndroidManifest/],
    'no manifest': [makeZip([OTHER]), /no AndroidManifest/],
    'a manifest in a folder': [
      makeZip([{ ...MANIFEST, name: 'x/AndroidManifest.xml' }]),
      /no AndroidManifest/,
    ],
    'an AAR: a manifest that is text': [
      makeZip([{ ...MANIFEST, bytes: Buffer.from('<manifest/>') }, SIGNATURE]),
      /not compiled XML, as it is in an AAR/,
    ],
    'a deflated manifest that is text': [
      makeZip([text(4_000), SIGNATURE], '', SIGNING_BLOCK),
      /not compiled XML/,
    ],
    'an empty manifest': [
      makeZip([{ ...MANIFEST, bytes: Buffer.alloc(0) }, SIGNATURE]),
      /not compiled XML/,
    ],
    'three bytes of a manifest': [
      makeZip([{ ...MANIFEST, bytes: MANIFEST.bytes.subarray(0, 3) }, SIGNATURE]),
      /not compiled XML/,
    ],
    'zeroes that deflate a thousandfold': [
      makeZip([{ ...MANIFEST, bytes: Buffer.alloc(30_000_000), isDeflated: true }, SIGNATURE]),
      /not compiled XML/,
    ],
    'a manifest that claims to be deflated': [
      withEntry(makeZip([{ ...MANIFEST, bytes: Buffer.alloc(99, 0xff) }, SIGNATURE]), 10, 8, 2),
      /damaged/,
    ],
    'a manifest of another compression': [
      withEntry(makeZip([MANIFEST, SIGNATURE]), 10, 12, 2),
      /compressed in a way/,
    ],
    'an encrypted manifest': [withEntry(makeZip([MANIFEST, SIGNATURE]), 8, 1, 2), /encrypted/],
    'no signature, META-INF was stripped': [makeZip([MANIFEST, OTHER]), /not signed: META-INF/],
    'what only looks like a signature': [
      makeZip([
        MANIFEST,
        { ...SIGNATURE, name: 'META-INF/MANIFEST.MF' },
        { ...SIGNATURE, name: 'META-INF/CERT.SF' },
        { ...SIGNATURE, name: 'META-INF/x/CERT.RSA' },
        { ...SIGNATURE, name: 'assets/META-INF/CERT.RSA' },
        { ...SIGNATURE, name: 'META-INF/.RSAX' },
        { ...SIGNATURE, name: `META-INF/${'x'.repeat(300)}.RSA` },
      ]),
      /not signed/,
    ],
    'a signing block somewhere else': [
      makeZip([MANIFEST, { name: 'x', bytes: SIGNING_BLOCK }, OTHER]),
      /not signed/,
    ],
    'two manifests': [makeZip([MANIFEST, MANIFEST]), /twice/],
    'a byte after the end': [Buffer.concat([apk, Buffer.from('x')]), /no zip/],
    'a missing last byte': [apk.subarray(0, -1), /no zip/],
    'a missing first byte': [apk.subarray(1), /outside|damaged|cut off/],
    'zip64 by count': [withEnd(withEnd(apk, 8, 0xffff, 2), 10, 0xffff, 2), /zip64/],
    'zip64 by offset': [withEnd(apk, 16, 0xffffffff, 4), /zip64/],
    'zip64 by size': [withEnd(apk, 12, 0xffffffff, 4), /zip64/],
    'a second disk': [withEnd(apk, 4, 1, 2), /split/],
    'more entries than there are': [withEnd(withEnd(apk, 8, 9, 2), 10, 9, 2), /cut off/],
    'no entries': [withEnd(withEnd(apk, 8, 0, 2), 10, 0, 2), /no AndroidManifest/],
    'a directory before the file': [withEnd(apk, 12, 0xfffffff0, 4), /outside/],
    'a directory behind the file': [withEnd(apk, 16, 0xfffffff0, 4), /outside/],
    'a directory somewhere else': [withEnd(apk, 16, 0, 4), /damaged|cut off/],
    'a name longer than the directory': [withEntry(apk, 28, 0xffff, 2), /cut off/],
    'extra longer than the directory': [withEntry(apk, 30, 0xffff, 2), /cut off/],
    'a manifest behind the file': [withEntry(apk, 42, 0xfffffff0, 4), /outside/],
    'a manifest longer than the file': [withEntry(apk, 20, 0xfffffff0, 4), /outside/],
    'a manifest at another place': [withEntry(apk, 42, 1, 4), /damaged/],
  }
  for (const [name, [bytes, reason]] of Object.entries(cases)) {
    const { outcome, reads } = await check(bytes)
    t.match(outcome, { kind: 'invalid', reason }, name)
    t.equal(reads.isOutside, false, `${name}: no read outside the file`)
  }
})

t.test('an APK cut off anywhere is none', async (t) => {
  const apk = makeApk({ sizeBytes: 600 })
  for (let size = 0; size < apk.length; size++) {
    const { outcome } = await check(apk.subarray(0, size))
    if (outcome.kind !== 'invalid') t.fail(`the first ${size} bytes`)
  }
})

t.test('no damaged byte makes it throw or read outside the file', async (t) => {
  const apk = makeZip([SIGNATURE, MANIFEST], 'comment')
  for (let at = 0; at < apk.length; at++) {
    for (const value of [0x00, 0x01, 0x7f, 0x80, 0xff]) {
      const damaged = Buffer.from(apk)
      damaged[at] = value
      const { reads } = await check(damaged)
      if (reads.isOutside) t.fail(`byte ${at} = ${value}`)
    }
  }
})

t.test('the largest directory is walked in few reads', async (t) => {
  const many = Array.from({ length: 65_532 }, (_, index) => ({ ...OTHER, name: String(index) }))
  const { outcome, reads } = await check(makeZip([SIGNATURE, ...many, MANIFEST]))
  t.strictSame(outcome, { kind: 'apk' })
  t.ok(reads.count < 100, `${reads.count} reads`)
})

t.test(
  'a file that shrinks meanwhile is refused, and what the reader throws is passed on',
  async (t) => {
    const apk = makeZip([SIGNATURE, MANIFEST])
    const short = await checkApk(async () => Buffer.alloc(0), apk.length)
    t.match(short, { kind: 'invalid', reason: /shorter/ })
    const broken = async () => {
      throw new Error('disk')
    }
    await t.rejects(checkApk(broken, apk.length), { message: 'disk' })
  },
)

t.test('made APKs have the size and content that was asked for', async (t) => {
  t.equal(makeApk().length, 4096)
  t.equal(makeApk({ sizeBytes: 5_000_001 }).length, 5_000_001)
  t.ok(makeApk({ seed: 'a' }).equals(makeApk({ seed: 'a' })))
  t.notOk(makeApk({ seed: 'a' }).equals(makeApk({ seed: 'b' })))
  t.throws(() => makeApk({ sizeBytes: 10 }), RangeError)
})
