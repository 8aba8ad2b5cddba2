/** APKs whose container is unusual, or damaged. Development code. */
import { compileManifest } from './manifest.ts'
import { makeSignedApk } from './signed-apk.ts'
import { insertSigningBlock } from './signing-block.ts'
import { ENTRIES, MANIFEST, make, OLD, type Variant, type VariantKeys } from './variant.ts'
import { makeZip } from './zip.ts'

export function byContainer({ a }: VariantKeys): readonly Variant[] {
  const block = { v2: [{ key: a }] }
  const plain = makeSignedApk({ manifest: MANIFEST, entries: ENTRIES, block })
  const jar = { manifest: OLD, v1: { keys: [a] } }
  const twice = [...ENTRIES, { name: 'assets/empty', bytes: Buffer.alloc(0) }]
  return [
    make('a comment', { block, comment: 'made for a test' }),
    make('a comment, v1', { ...jar, comment: 'made for a test' }),
    { name: 'a comment that was added', bytes: withComment(plain, 'added') },
    {
      name: 'a comment that was added, v1',
      bytes: withComment(makeSignedApk({ ...jar }), 'added'),
    },
    { name: 'bytes after the end', bytes: Buffer.concat([plain, Buffer.alloc(100)]) },
    { name: 'bytes before the beginning', bytes: Buffer.concat([Buffer.alloc(100), plain]) },
    { name: 'zip64', bytes: asZip64(plain) },
    { name: 'cut off', bytes: plain.subarray(0, plain.length - 1000) },
    { name: 'cut in half', bytes: plain.subarray(0, plain.length / 2) },
    make('a padded block', { block: { ...block, alignTo: 4096 } }),
    make('a block with other parts', {
      block: {
        ...block,
        extra: [
          [0x504b4453, Buffer.alloc(3000, 7)],
          [0x12345678, Buffer.alloc(0)],
        ],
      },
    }),
    make('a block without signatures', { block: { extra: [[0x504b4453, Buffer.alloc(30)]] } }),
    make('an entry twice', { block, entries: twice }),
    make('an entry twice, v1', { ...jar, entries: twice }),
    { name: 'no manifest', bytes: insertSigningBlock(makeZip(ENTRIES), block) },
    {
      name: 'a manifest in text',
      bytes: insertSigningBlock(
        makeZip([{ name: 'AndroidManifest.xml', bytes: Buffer.from('<manifest package="a.b"/>') }]),
        block,
      ),
    },
    {
      name: 'an empty manifest',
      bytes: insertSigningBlock(
        makeZip([{ name: 'AndroidManifest.xml', bytes: Buffer.from([3, 0, 8, 0, 8, 0, 0, 0]) }]),
        block,
      ),
    },
    {
      name: 'a stored manifest',
      bytes: insertSigningBlock(
        makeZip([{ name: 'AndroidManifest.xml', bytes: compileManifest(MANIFEST) }]),
        block,
      ),
    },
  ]
}

export function byDamage({ a, ec }: VariantKeys): readonly Variant[] {
  const v2 = makeSignedApk({ manifest: MANIFEST, entries: ENTRIES, block: { v2: [{ key: a }] } })
  const v3 = makeSignedApk({ manifest: MANIFEST, entries: ENTRIES, block: { v3: [{ key: ec }] } })
  const v1 = makeSignedApk({ manifest: OLD, entries: ENTRIES, v1: { keys: [a] } })
  const blockAt = (apk: Buffer) => apk.lastIndexOf('APK Sig Block 42')
  const flips: readonly (readonly [string, Buffer, number])[] = [
    ['content', v2, 1_000],
    ['stored content', v2, v2.indexOf('storedstored') + 500_000],
    ['the central directory', v2, v2.indexOf('PK\x01\x02', 'latin1') + 12],
    ['the end record', v2, v2.length - 20],
    ['the magic of the block', v2, blockAt(v2) + 3],
    ['the size of the block', v2, blockAt(v2) - 8],
    ['the public key', v2, blockAt(v2) - 40],
    ['the signature', v2, blockAt(v2) - 350],
    ['the certificate', v2, v2.indexOf(a.certificate) + 200],
    ['the digest', v2, v2.indexOf(a.certificate) - 30],
    ['the certificate, v3', v3, v3.indexOf(ec.certificate) + 100],
    ['the API levels, v3', v3, v3.indexOf(ec.certificate) + ec.certificate.length],
    ['content, v1', v1, 1_000],
    ['stored content, v1', v1, v1.indexOf('storedstored') + 500_000],
    ['the time of an entry, v1', v1, v1.indexOf('PK\x01\x02', 'latin1') + 12],
    ['the certificate, v1', v1, v1.indexOf(a.certificate) + 300],
    ['the signature, v1', v1, v1.indexOf(a.certificate) + a.certificate.length + 150],
  ]
  return flips.map(([where, apk, at]) => ({
    name: `a flipped byte in ${where}`,
    bytes: flip(apk, at),
  }))
}

function flip(apk: Buffer, at: number): Buffer {
  const flipped = Buffer.from(apk)
  flipped.writeUInt8((flipped[at] ?? 0) ^ 0x41, at)
  return flipped
}

function withComment(zip: Buffer, comment: string): Buffer {
  const longer = Buffer.concat([zip, Buffer.from(comment)])
  longer.writeUInt16LE(comment.length, zip.length - 2)
  return longer
}

/** The same zip with the records of zip64 before its end record, which points to them. */
function asZip64(zip: Buffer): Buffer {
  const endAt = zip.lastIndexOf('PK\x05\x06', undefined, 'latin1')
  const end = Buffer.from(zip.subarray(endAt))
  const record = Buffer.alloc(56)
  record.write('PK\x06\x06', 'latin1')
  record.writeBigUInt64LE(44n, 4)
  record.writeUInt16LE(45, 12)
  record.writeUInt16LE(45, 14)
  record.writeBigUInt64LE(BigInt(end.readUInt16LE(10)), 24)
  record.writeBigUInt64LE(BigInt(end.readUInt16LE(10)), 32)
  record.writeBigUInt64LE(BigInt(end.readUInt32LE(12)), 40)
  record.writeBigUInt64LE(BigInt(end.readUInt32LE(16)), 48)
  const locator = Buffer.alloc(20)
  locator.write('PK\x06\x07', 'latin1')
  locator.writeBigUInt64LE(BigInt(endAt), 8)
  locator.writeUInt32LE(1, 16)
  end.fill(0xff, 8, 20)
  return Buffer.concat([zip.subarray(0, endAt), record, locator, end])
}
