/** Reading packages at the bounds: resource tables, certificates, and many entries. */
import { generateKeyPairSync } from 'node:crypto'
import { setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import { EXTENSIONS, extension } from '../../sim/apk/certificate-variants.ts'
import { chunk, stringPool, u16, u32 } from '../../sim/apk/chunks.ts'
import { compileManifest, type ManifestOptions } from '../../sim/apk/manifest.ts'
import { makeSignedApk } from '../../sim/apk/signed-apk.ts'
import { insertSigningBlock } from '../../sim/apk/signing-block.ts'
import { certify, createSigningKey } from '../../sim/apk/signing-key.ts'
import { makeZip } from '../../sim/apk/zip.ts'
import { readApkPackage } from '../../src/apk/package/read-package.ts'
import { readPublicKey } from '../../src/apk/package/signature/algorithms.ts'
import { readCertificate } from '../../src/apk/package/signature/certificate.ts'
import { digestsOf } from '../../src/apk/package/signature/jar-manifest.ts'
import { blockwise } from '../../src/apk/package/source.ts'
import { memorySource } from '../../testkit/memory-source.ts'

const INTEGER = 0x10
const REFERENCE = 0x01
const STRING = 0x03
const COMPACT = 8
const NO_ENTRY = 0xffffffff
const SPARSE = 1
const SHORT = 2
/** Of a type chunk with the shortest configuration. */
const HEADER_BYTES = 24

const ref = (index: number) => ({ reference: 0x7f010000 + index })

function resolve(table: Buffer, manifest: ManifestOptions = { versionCode: ref(0) }) {
  const entries = [
    { name: 'AndroidManifest.xml', bytes: compileManifest(manifest) },
    { name: 'resources.arsc', bytes: table },
  ]
  return readApkPackage(memorySource(makeZip(entries)))
}

const tableOf = (chunks: readonly Buffer[], strings: readonly string[] = []) =>
  chunk(0x0002, 12, [u32(1), stringPool(strings), packageOf(chunks)])
const packageOf = (chunks: readonly Buffer[]) => chunk(0x0200, 12, [u32(0x7f), ...chunks])

interface TypeOptions {
  readonly flags?: number
  /** Where not given, that of the slots. */
  readonly count?: number
  readonly config?: Buffer
}

/** A chunk of type 1: slots that lead to the entries, then those. */
function typeOf(slots: readonly Buffer[], entries: readonly Buffer[], options: TypeOptions = {}) {
  const { flags = 0, count = slots.length, config = u32(4) } = options
  const headerBytes = 20 + config.length
  const entriesAt = headerBytes + Buffer.concat(slots).length
  const head = [Buffer.from([1, flags, 0, 0]), u32(count), u32(entriesAt), config]
  return chunk(0x0201, headerBytes, [...head, ...slots, ...entries])
}

const compact = (type: number, data: number) =>
  Buffer.concat([u16(0), u16((type << 8) | COMPACT), u32(data)])
const simple = (type: number, data: number) =>
  Buffer.concat([u16(8), u16(0), u32(0), u16(8), Buffer.from([0, type]), u32(data)])
const slots = (count: number, bytes: number) =>
  Array.from({ length: count }, (_, n) => u32(n * bytes))

t.test('a value at each bound of its table is found, one beyond is not', async (t) => {
  const seven = compact(INTEGER, 7)
  const whole = simple(INTEGER, 7)
  const found = { facts: { versionCode: 7 } }
  const none = { kind: 'invalid', reason: /no whole number/ }
  const damaged = { kind: 'invalid', reason: 'resources.arsc is damaged' }
  const chain = (length: number) =>
    typeOf(slots(length, 8), [
      ...Array.from({ length: length - 1 }, (_, n) => compact(REFERENCE, ref(n + 1).reference)),
      seven,
    ])
  const pairs = (count: number) => [
    Buffer.alloc(4 * (count - 1), 0xff),
    Buffer.concat([u16(0), u16(0)]),
  ]
  const sparse = (count: number) => typeOf(pairs(count), [seven], { flags: SPARSE, count })
  const french = Buffer.concat([u32(12), Buffer.alloc(4), Buffer.from('fr\0\0')])
  const cases: readonly (readonly [string, Buffer, object])[] = [
    ['four references in a row', tableOf([chain(4)]), found],
    ['five', tableOf([chain(5)]), none],
    ['the last bytes of the table', tableOf([typeOf([u32(0)], [seven])]), found],
    ['a byte less', tableOf([typeOf([u32(1)], [seven])]), none],
    ['a whole value at the end', tableOf([typeOf([u32(0)], [whole])]), found],
    ['a value that is cut off', tableOf([typeOf([u32(0)], [whole.subarray(0, 12)])]), damaged],
    ['as many pairs as there are ids', tableOf([sparse(0x10000)]), found],
    ['one more', tableOf([sparse(0x10001)]), damaged],
    ['no pair of this id', tableOf([typeOf([u32(1)], [seven], { flags: SPARSE })]), none],
    ['a short slot', tableOf([typeOf([u16(0), u16(0)], [seven], { flags: SHORT })]), found],
    [
      'a short slot of nothing',
      tableOf([typeOf([u32(0xffff)], [seven], { flags: SHORT, count: 2 })]),
      none,
    ],
    ['a slot of nothing', tableOf([typeOf([u32(NO_ENTRY)], [seven])]), none],
    ['slots to the end', tableOf([typeOf([u32(NO_ENTRY)], [], { count: 1 })]), none],
    ['a slot beyond the end', tableOf([typeOf([u32(NO_ENTRY)], [], { count: 2 })]), damaged],
    ['an id after the last', tableOf([typeOf([], [seven])]), none],
    [
      'another language first',
      tableOf([
        typeOf([u32(0)], [compact(INTEGER, 8)], { config: french }),
        typeOf([u32(0)], [seven]),
      ]),
      found,
    ],
    ['another language alone', tableOf([typeOf([u32(0)], [seven], { config: french })]), found],
    [
      'a header without configuration',
      tableOf([typeOf([], [], { config: Buffer.alloc(0) })]),
      damaged,
    ],
  ]
  for (const [name, table, expected] of cases) t.match(await resolve(table), expected, name)

  const short = tableOf([typeOf([u32(0)], [seven])])
  const type = short.lastIndexOf(Buffer.from('01021800', 'hex'))
  for (const [bytes, expected] of [
    [0, found],
    [1, damaged],
  ] as const) {
    const longer = Buffer.from(short)
    longer.writeUInt32LE(longer.readUInt32LE(type + 4) + bytes, type + 4)
    t.match(await resolve(longer), expected, `a chunk that is ${bytes} bytes too long`)
  }
})

t.test('a table of more than 64 MiB is not read', async (t) => {
  const short = tableOf([typeOf([u32(0)], [compact(INTEGER, 7)])])
  const large = (manifest: ManifestOptions) => {
    const apk = makeZip([
      { name: 'AndroidManifest.xml', bytes: compileManifest(manifest) },
      { name: 'resources.arsc', bytes: short },
    ])
    apk.writeUInt32LE(64 * 1024 * 1024 + 1, apk.lastIndexOf('resources.arsc') - 22)
    return readApkPackage(memorySource(apk))
  }
  const tooLarge = { kind: 'invalid', reason: 'resources.arsc is too large' }
  t.match(await large({ versionCode: ref(0) }), tooLarge)
  t.match(await large({ isTestOnly: ref(0) }), { facts: { isTestOnly: false } })
})

t.test('a string at each bound of its pool is found, one beyond is not', async (t) => {
  const named = (index: number, strings: readonly string[]) =>
    resolve(tableOf([typeOf([u32(0)], [compact(STRING, index)])], strings), { versionName: ref(0) })
  t.match(await named(1, ['a', 'last']), { facts: { versionName: 'last' } })
  const damaged = { kind: 'invalid', reason: 'resources.arsc is damaged' }
  t.match(await named(2, ['a', 'last']), damaged)
  const table = tableOf([typeOf([u32(0)], [compact(STRING, 0)])], ['a'])
  const pool = 12
  const stringsAt = table.readUInt32LE(pool + 20)
  table.writeUInt32LE(table.readUInt32LE(pool + 4) - stringsAt, pool + HEADER_BYTES + 4)
  t.match(await resolve(table, { versionName: ref(0) }), damaged, 'it begins where the pool ends')
  const longest = 'v'.repeat(255)
  t.match(await named(0, [longest]), { facts: { versionName: longest } })
})

t.test('a damaged extension counts if it is critical and Java knows it', async (t) => {
  const read = (id: string, value: Buffer, isCritical: boolean) => {
    const extensions = [extension(id, value, isCritical)]
    return readCertificate(createSigningKey({ kind: 'ec', extensions }).certificate)
  }
  for (const { name, id, whole, damaged } of EXTENSIONS) {
    t.doesNotThrow(() => read(id, whole, true), name)
    t.throws(() => read(id, damaged, true), { name: 'PackageFault' }, `${name}, damaged`)
    t.doesNotThrow(() => read(id, damaged, false), `${name}, damaged but not critical`)
    t.throws(() => read(id, Buffer.concat([whole, whole]), true), `${name} twice`)
    t.throws(() => read(id, whole.subarray(0, -1), true), `${name}, cut off`)
  }
  t.doesNotThrow(() => read('1.2.3', Buffer.from('x'), true), 'one that nobody knows')
})

t.test('what phones and apksigner read differently from each other is refused', async (t) => {
  const ec = createSigningKey({ kind: 'ec' })
  const signed = (xml: Buffer, key = ec, name = 'a.txt', protects?: number) => {
    const entries = [
      { name: 'AndroidManifest.xml', bytes: xml },
      { name, bytes: Buffer.alloc(1) },
    ]
    const v2 = [{ key, ...(protects !== undefined && { protects }) }]
    return readApkPackage(memorySource(insertSigningBlock(makeZip(entries), { v2 })))
  }
  const xml = compileManifest({ minSdk: 24 })
  const poolEnd = 8 + xml.readUInt32LE(12)
  const other = compileManifest({ minSdk: 24, packageName: 'com.example.evl' })
  const pool = other.subarray(8, 8 + other.readUInt32LE(12))
  const twoPools = Buffer.concat([xml.subarray(0, poolEnd), pool, xml.subarray(poolEnd)])
  twoPools.writeUInt32LE(twoPools.length, 4)
  t.match(await signed(twoPools), { kind: 'invalid', reason: /is damaged/ }, 'two string pools')
  const level = xml.indexOf(Buffer.from('0800001018000000', 'hex')) // a whole number, 24
  const colour = Buffer.from(xml)
  colour.writeUInt8(0x1c, level + 3)
  t.match(await signed(colour), { reason: /minSdkVersion is no whole number/ })
  const named = Buffer.from(xml)
  named.writeUInt32LE(0, level - 12 - 20) // before it are 12 bytes of the attribute and 20 of the element
  t.match(await signed(named), { reason: /"uses-sdk" .* has a namespace/ })
  t.match(await signed(xml, ec, 'a\0b'), { kind: 'invalid', reason: /name is no text: "a\?b"/ })
  t.match(await signed(xml, ec, 'a.txt', 2), { signing: { reason: /v2 signature is damaged/ } })

  const curve = (options: { namedCurve: string; paramEncoding?: 'explicit' }) => {
    const { privateKey, publicKey } = generateKeyPairSync('ec', options)
    return certify('ec', privateKey, publicKey, 'a curve', Buffer.alloc(7))
  }
  t.match(await signed(xml, curve({ namedCurve: 'P-521' })), { signing: { kind: 'verified' } })
  const reason = /of a kind that apksigner does not verify/
  t.match(await signed(xml, curve({ namedCurve: 'secp256k1' })), { signing: { reason } })
  const explicit = curve({ namedCurve: 'P-256', paramEncoding: 'explicit' })
  t.match(await signed(xml, explicit), { signing: { reason: /public key .* is damaged/ } })

  t.throws(() => readCertificate(explicit.certificate), { name: 'PackageFault' }, 'unused as well')

  const base64 = (text: string) =>
    digestsOf(
      { raw: pool, name: undefined, attributes: new Map([['sha-384-digest', text]]) },
      '-digest',
      21,
    )
  t.same(base64('AAAA'), [['sha384', '000000']])
  for (const text of ['AAAAA', 'AAAA=', 'AAAA==', 'AAA==', 'A']) {
    t.throws(() => base64(text), { name: 'PackageFault' }, text)
  }
})

t.test('a damaged key is refused, of whatever kind; Node itself fails on some of DSA', (t) => {
  const keys = [
    generateKeyPairSync('dsa', { modulusLength: 1024, divisorLength: 160 }),
    generateKeyPairSync('rsa', { modulusLength: 1024 }),
    generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  ]
  for (const { publicKey } of keys) {
    const der = publicKey.export({ type: 'spki', format: 'der' })
    t.ok(readPublicKey(der))
    let refused = 0
    for (const index of der.keys()) {
      const damaged = Buffer.from(der)
      damaged[index] = 1
      try {
        readPublicKey(damaged)
      } catch (error) {
        t.match(error, { kind: 'signature' })
        refused += 1
      }
    }
    t.ok(refused > 0)
  }
  t.end()
})

t.test('many entries are read in turns of the event loop', async (t) => {
  const entries = Array.from({ length: 3_000 }, (_, n) => ({
    name: `assets/${n}`,
    bytes: Buffer.from([n & 0xff]),
  }))
  const key = createSigningKey({ kind: 'ec' })
  const manifest = { minSdk: 18, targetSdk: 29 }
  const apk = makeSignedApk({ manifest, entries, v1: { keys: [key] } })
  let turns = 0
  let isDone = false
  const reading = readApkPackage(memorySource(apk)).finally(() => {
    isDone = true
  })
  for (; !isDone; turns++) await turn()
  const signing = { kind: 'verified', scheme: 'v1', signers: [key.digest] }
  t.match(await reading, { signing })
  t.ok(turns > 100, `${turns} turns`)
})

t.test('a source is read through a block, wherever its bytes lie', async (t) => {
  const bytes = Buffer.from(Uint8Array.from({ length: 200_000 }, (_, n) => (n * 7919) >> 3))
  const reads: number[] = []
  const source = blockwise({
    sizeBytes: bytes.length,
    async read(buffer, offset) {
      reads.push(offset)
      return bytes.copy(buffer, 0, offset)
    },
  })
  for (const [offset, length, reading] of [
    [10, 100, [0]],
    [110, 65_400, []],
    [65_500, 100, [65_536]],
    [65_400, 200, [0, 65_536]],
    [199_990, 20, [196_608, 196_608]],
    [5, 65_536, [5]],
  ] as const) {
    const buffer = Buffer.alloc(length)
    const filled = await source.read(buffer, offset)
    t.ok(buffer.subarray(0, filled).equals(bytes.subarray(offset, offset + length)), `${offset}`)
    t.same(reads.splice(0), reading, `reads of ${length} at ${offset}`)
  }
})
