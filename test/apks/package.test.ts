/** Reading packages: what an APK says of itself, who signed it, and what is refused, on files made here. */

import { X509Certificate } from 'node:crypto'
import t from 'tap'
import { runPackages } from '../../drills/apk/package.ts'
import { der, objectId, octets, sequence } from '../../sim/apk/der.ts'
import { signJar } from '../../sim/apk/jar.ts'
import type { ManifestOptions } from '../../sim/apk/manifest.ts'
import { compileManifest } from '../../sim/apk/manifest.ts'
import { compileResources } from '../../sim/apk/resources.ts'
import { makeSignedApk, type SignedApkOptions } from '../../sim/apk/signed-apk.ts'
import { insertSigningBlock } from '../../sim/apk/signing-block.ts'
import { createSigningKey, type SigningKey } from '../../sim/apk/signing-key.ts'
import { createVariantKeys } from '../../sim/apk/variant.ts'
import { makeVariants } from '../../sim/apk/variants.ts'
import { makeZip } from '../../sim/apk/zip.ts'
import { readApkPackage } from '../../src/apk/package/read-package.ts'
import { memorySource } from '../../testkit/memory-source.ts'
import { drillEnvironment, held } from '../helpers/drill.ts'

const keys = createVariantKeys()
const { a, b, c, ec } = keys
const MANIFEST: ManifestOptions = { versionCode: 7, versionName: '1.7', minSdk: 24, targetSdk: 34 }

const DSA_KEY = objectId('1.2.840.10040.4.1')
const RSA_SHA256 = objectId('1.2.840.113549.1.1.11')
const TRUE = der(0x01, Buffer.from([0xff]))

const read = (bytes: Buffer) => readApkPackage(memorySource(bytes))
const make = (options: SignedApkOptions = {}) =>
  read(makeSignedApk({ manifest: MANIFEST, block: { v2: [{ key: a }] }, ...options }))
const verified = (
  scheme: string,
  signers: readonly string[],
  replaced: readonly string[] = [],
) => ({
  signing: { kind: 'verified', scheme, signers, replaced },
})

t.test('an APK says what it is', async (t) => {
  t.same(await make(), {
    kind: 'package',
    facts: {
      packageName: 'com.example.app',
      versionCode: 7,
      versionName: '1.7',
      minSdk: 24,
      targetSdk: 34,
      isDebuggable: false,
      isTestOnly: false,
      targetSandbox: 1,
    },
    ...verified('v2', [a.digest]),
    hasMappedTable: true,
  })
  const bare = await make({ manifest: {}, v1: { keys: [a], digest: 'sha1' } })
  t.match(bare, { facts: { versionCode: 0, versionName: null, minSdk: 1, targetSdk: 1 } })
  const large = await make({
    manifest: { ...MANIFEST, versionCode: 0xfffffffe, versionCodeMajor: 3 },
  })
  t.match(large, { facts: { versionCode: 3 * 2 ** 32 + 0xfffffffe } })
})

t.test('references to resources are followed', async (t) => {
  for (const encoding of ['utf8', 'utf16'] as const) {
    const manifest = {
      ...MANIFEST,
      encoding,
      versionName: { reference: 0x7f010001 },
      versionCode: { reference: 0x7f020002 },
      isDebuggable: { reference: 0x7f030000 },
      isTestOnly: { reference: 0x7f030000 },
    }
    const resources = {
      encoding,
      strings: ['x', '2.0-ß'],
      french: ['y', '2.0-fr'],
      integers: [1, 2, 77],
      booleans: [true],
    }
    const facts = { versionName: '2.0-ß', versionCode: 77, isDebuggable: true, isTestOnly: true }
    t.match(await make({ manifest, resources }), { facts }, encoding)
    const deflated = makeZip([
      { name: 'AndroidManifest.xml', bytes: compileManifest(manifest) },
      { name: 'resources.arsc', bytes: Buffer.alloc(0), isDeflated: true },
    ])
    t.match(await read(deflated), { kind: 'invalid', reason: 'resources.arsc is damaged' })
  }
  const advisory = makeZip([
    { name: 'AndroidManifest.xml', bytes: compileManifest({ isTestOnly: { reference: 1 } }) },
    { name: 'resources.arsc', bytes: Buffer.alloc(0), isDeflated: true },
  ])
  t.match(await read(advisory), { kind: 'package', facts: { isTestOnly: false } }, 'only warned of')
  const missing = await make({ manifest: { ...MANIFEST, versionName: { reference: 0x7f010000 } } })
  t.match(missing, { facts: { versionName: null } }, 'a reference to nothing')
  const noCode = await make({ manifest: { ...MANIFEST, versionCode: { reference: 0x7f010000 } } })
  t.match(noCode, { kind: 'invalid', reason: /no whole number/ })
})

t.test('what is no installable APK is refused with its reason', async (t) => {
  const zip = (name: string, bytes: Buffer = Buffer.from('x')) => makeZip([{ name, bytes }])
  const manifest = (options: ManifestOptions) =>
    makeSignedApk({ manifest: { ...MANIFEST, ...options } })
  const compiled = compileManifest(MANIFEST)
  const cases: readonly (readonly [string, Buffer, RegExp])[] = [
    ['nothing', Buffer.alloc(0), /too short/],
    ['text', Buffer.alloc(500, 'text'), /no zip/],
    ['a zip', zip('a.txt'), /holds no AndroidManifest.xml/],
    ['an AAR', zip('AndroidManifest.xml', Buffer.from('<manifest/>')), /not compiled XML.*AAR/],
    ['a zip of APKs', zip('base.apk'), /zip of APKs/],
    ["a bundletool's zip of APKs", zip('splits/base-master.apk'), /zip of APKs/],
    ['an app bundle', zip('BundleConfig.pb'), /app bundle/],
    ['a split', manifest({ split: 'config.de' }), /split "config.de".*without its base/],
    ['a base that needs splits', manifest({ isSplitRequired: true }), /needs its splits/],
    ['a base that names its splits', manifest({ requiredSplitTypes: 'base__abi' }), /its splits/],
    ['a preview', manifest({ minSdk: 'Tiramisu' }), /preview "Tiramisu"/],
    ['a bad package name', manifest({ packageName: 'app' }), /package name "app"/],
    ['a control character', manifest({ packageName: 'a\n.b' }), /package name "a\?.b"/],
    ['a long version name', manifest({ versionName: 'v'.repeat(256) }), /more than 255/],
    ['a huge version code', manifest({ versionCodeMajor: 0x7fffffff }), /version code is not from/],
    [
      'half a manifest',
      zip('AndroidManifest.xml', compiled.subarray(0, compiled.length / 2)),
      /is damaged/,
    ],
    [
      'too large a manifest',
      zip('AndroidManifest.xml', Buffer.alloc(800_000, compiled)),
      /more than 786432/,
    ],
    [
      'two manifests',
      makeZip(Array(2).fill({ name: 'AndroidManifest.xml', bytes: compiled })),
      /twice/,
    ],
  ]
  for (const [name, bytes, reason] of cases)
    t.match(await read(bytes), { kind: 'invalid', reason }, name)
})

t.test('a signature is told by its scheme and its signers', async (t) => {
  const byName = new Map(makeVariants(keys).map(({ name, bytes }) => [name, bytes]))
  const judge = (name: string) => read(byName.get(name) ?? Buffer.alloc(0))
  const digests = { a: a.digest, b: b.digest, c: c.digest, ec: ec.digest }
  t.match(await judge('unsigned'), { signing: { kind: 'unsigned' } })
  t.match(await judge('a block without signatures'), { signing: { kind: 'unsigned' } })
  t.match(await judge('v1'), verified('v1', [digests.a]))
  t.match(await judge('v1, for Android 11'), verified('v1', [digests.a]))
  t.match(await judge('v2, PSS'), verified('v2', [digests.a]))
  t.match(await judge('v2 by two'), verified('v2', [digests.a, digests.ec]))
  t.match(await judge('v1, v2 and v3'), verified('v3', [digests.a]))
  t.match(await judge('rotated'), verified('v3', [digests.b], [digests.a]))
  const thrice = [digests.a, digests.b, digests.c]
  t.match(await judge('rotated three times'), verified('v3', [digests.ec], thrice))
  t.match(await judge('v3 by two, one after the other'), verified('v3', [digests.b], [digests.a]))
  const broken: Readonly<Record<string, RegExp>> = {
    'v2 alone from API level 21': /no META-INF\/MANIFEST.MF/,
    'v3 stripped': /v3 signature was stripped/,
    'v2 stripped': /v2 signature was stripped/,
    'v2, forged': /does not hold/,
    'v2 and v3 by different ones': /of another signer/,
    'v1 and v2 by different ones': /of different signers/,
    'v1 without an entry': /does not name every entry/,
    'rotated from another': /of another signer/,
    'rotated in a circle': /proof of rotation does not hold/,
    'v3 by two, with a gap': /leave out API levels/,
    'v3 that ends': /does not serve/,
    'a comment that was added': /changed after/,
    'a flipped byte in stored content': /changed after/,
    'a flipped byte in the certificate': /does not hold|damaged/,
    'a flipped byte in stored content, v1': /differs from/,
  }
  for (const [name, reason] of Object.entries(broken)) {
    t.match(await judge(name), { signing: { kind: 'broken', reason } }, name)
  }
})

t.test('v3.1 takes over from v3 on newer phones', async (t) => {
  const v31 = [{ key: b, minSdk: 33, lineage: [a] }]
  const v3 = [{ key: a, rotationMinSdk: 33 }]
  t.match(await make({ block: { v3, v31 } }), verified('v3', [b.digest], [a.digest]))
  t.match(await make({ block: { v3 } }), { signing: { reason: /v3.1 signature was stripped/ } })
  t.match(await make({ block: { v31 } }), { signing: { reason: /without one of scheme v3/ } })
  const late = [{ key: a, rotationMinSdk: 34 }]
  t.match(await make({ block: { v3: late, v31 } }), { signing: { reason: /stripped/ } })
})

t.test('a signature block of any shape is bounded', async (t) => {
  const zip = makeSignedApk({ manifest: MANIFEST })
  const extra = (count: number) =>
    Array.from({ length: count }, () => [1, Buffer.alloc(0)] as const)
  const many = insertSigningBlock(zip, { extra: extra(1_001), v2: [{ key: a }] })
  t.match(await read(many), { signing: { kind: 'broken', reason: /too many parts/ } })
  const large = insertSigningBlock(zip, { extra: [[0x7109871a, Buffer.alloc(300_000)]] })
  t.match(await read(large), { signing: { kind: 'broken', reason: /too large/ } })
  const eleven = insertSigningBlock(zip, { v2: Array(11).fill({ key: ec }) })
  t.match(await read(eleven), { signing: { kind: 'broken', reason: /too many parts/ } })
})

t.test('a certificate that only OpenSSL reads is damaged', async (t) => {
  const { dsa } = keys
  const cases: readonly (readonly [string, SigningKey, at: number, byte: number])[] = [
    ['a hybrid point', ec, ec.certificate.indexOf(Buffer.from('03420004', 'hex')) + 3, 6],
    [
      'a key of a signature algorithm',
      dsa,
      dsa.certificate.indexOf(DSA_KEY) + DSA_KEY.length - 1,
      3,
    ],
    ['a signature that ends within a byte', a, a.certificate.length - 257, 1],
    ['a name that is no set', a, a.certificate.indexOf(a.issuer) + 2, 0x11],
    [
      'another algorithm than that of its signature',
      a,
      a.certificate.indexOf(RSA_SHA256) + RSA_SHA256.length - 1,
      12,
    ],
  ]
  for (const [name, key, at, byte] of cases) {
    const certificate = Buffer.from(key.certificate)
    certificate.writeUInt8(byte, at)
    t.doesNotThrow(() => new X509Certificate(certificate), `${name}: OpenSSL reads it`)
    const keyAt = key.certificate.indexOf(key.publicKey)
    const publicKey = certificate.subarray(keyAt, keyAt + key.publicKey.length)
    const v2 = [{ key: { ...key, certificate, publicKey } }]
    const reason = /(?:certificate|public key) in its signature is damaged/
    t.match(await make({ block: { v2 } }), { signing: { kind: 'broken', reason } }, name)
  }
  const usage = sequence(objectId('2.5.29.15'), TRUE, octets(der(0x03, Buffer.from([7, 0x80]))))
  const constraints = sequence(objectId('2.5.29.19'), TRUE, octets(sequence(TRUE)))
  const cut = sequence(objectId('2.5.29.19'), TRUE, octets(sequence(der(0x01))))
  const judge = (...extensions: readonly Buffer[]) =>
    make({ block: { v2: [{ key: createSigningKey({ kind: 'ec', extensions }) }] } })
  t.match(await judge(usage, constraints), { signing: { kind: 'verified' } })
  t.match(await judge(usage, usage), { signing: { kind: 'broken' } }, 'an extension twice')
  t.match(await judge(cut), { signing: { kind: 'broken' } }, 'a damaged one')
})

t.test('what takes long to read is bounded', async (t) => {
  const signed = signJar([{ name: 'AndroidManifest.xml', bytes: compileManifest(MANIFEST) }], [a])
  const withText = (bytes: Buffer) =>
    read(
      makeZip(
        signed.map((entry) =>
          /SF$/.test(entry.name) ? { ...entry, bytes, isDeflated: true } : entry,
        ),
      ),
    )
  const sections = await withText(Buffer.alloc(14 * 65_536, 'Name: a\nx: y\n\n'))
  t.match(sections, { signing: { kind: 'broken', reason: /too many sections/ } })
  const large = await withText(Buffer.alloc(64 * 1024 * 1024, 'Name: a\n'))
  t.match(large, { signing: { kind: 'broken', reason: /are too large/ } })
  const overlapping = makeZip(signed)
  const last = overlapping.lastIndexOf(Buffer.from('PK\x01\x02', 'latin1'))
  overlapping.writeUInt32LE(overlapping.length, last + 20)
  t.match(await read(overlapping), { signing: { kind: 'broken', reason: /entries overlap/ } })

  const itself = { reference: 0x7f030000 }
  const table = compileResources({ integers: [7], booleans: [true] })
  const value = table.indexOf(Buffer.from('08000012ffffffff', 'hex'))
  table.write('08000001', value, 'hex')
  table.writeUInt32LE(itself.reference, value + 4)
  const padded = Buffer.concat([table, Buffer.alloc(64 * 1024 * 1024 - table.length)])
  padded.writeUInt32LE(padded.length, 4)
  const manifest = compileManifest({
    ...{ ...MANIFEST, versionCode: { reference: 0x7f020000 } },
    ...{ versionName: itself, isDebuggable: itself },
  })
  const circle = makeZip([
    { name: 'AndroidManifest.xml', bytes: manifest },
    { name: 'resources.arsc', bytes: padded, isDeflated: true },
  ])
  t.match(await read(circle), { kind: 'invalid', reason: /refer to each other too often/ })
})

t.test('reading ends when it is aborted', async (t) => {
  const bytes = makeSignedApk({ manifest: MANIFEST, block: { v2: [{ key: a }] } })
  const abort = new AbortController()
  const source = memorySource(bytes)
  const reading = readApkPackage(
    {
      sizeBytes: source.sizeBytes,
      read(buffer, offset) {
        abort.abort(new Error('enough'))
        return source.read(buffer, offset)
      },
    },
    { signal: abort.signal },
  )
  await t.rejects(reading, { message: 'enough' })
})

t.test('mutated files, in the short form', async (t) => {
  const size = { count: 3_000, seed: 7, sample: 20, mib: 8, entries: 500 }
  held(t, await runPackages({ ...drillEnvironment(t), ...size }))
})
