/** Damaged APKs, from a seed: the damage is in the whole file, or in a part before it is packed and signed. */

import { signJar } from '../../sim/apk/jar.ts'
import { compileManifest } from '../../sim/apk/manifest.ts'
import { compileResources } from '../../sim/apk/resources.ts'
import { makeSignedApk } from '../../sim/apk/signed-apk.ts'
import { insertSigningBlock } from '../../sim/apk/signing-block.ts'
import type { VariantKeys } from '../../sim/apk/variant.ts'
import { makeZip, type ZipEntry } from '../../sim/apk/zip.ts'
import type { Dice } from '../../testkit/dice.ts'

export interface Mutated {
  readonly from: string
  readonly bytes: Buffer
}

const MANIFEST = {
  packageName: 'com.example.app',
  versionCode: 42,
  versionName: { reference: 0x7f010001 },
  minSdk: 18,
  targetSdk: 29,
  isDebuggable: { reference: 0x7f030000 },
}
const RESOURCES = {
  strings: ['x', '1.0.42'],
  french: ['y', '1.0.fr'],
  integers: [1, 2],
  booleans: [true],
}
const ENTRIES: readonly ZipEntry[] = [
  { name: 'classes.dex', bytes: Buffer.alloc(500, 'dex '), isDeflated: true },
  { name: 'assets/a', bytes: Buffer.from('stored') },
]
const JAR_PARTS = [/\.(?:RSA|EC)$/, /\.(?:RSA|EC)$/, /\.SF$/, /MANIFEST\.MF$/]
/** Extreme lengths, counts and offsets. */
const EXTREMES = [
  0, 1, 2, 7, 8, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xfffffff0,
  0xffffffff,
]

/** Returns an endless source of mutated files; `keys` sign them. */
export function createMutator(keys: VariantKeys): (dice: Dice) => Mutated {
  const { a, b, ec, dsa } = keys
  const base = { manifest: MANIFEST, resources: RESOURCES, entries: ENTRIES }
  const later = { ...base, manifest: { ...MANIFEST, minSdk: 24 } }
  const v2 = [{ key: a, protects: 3 }]
  const whole: Readonly<Record<string, Buffer>> = {
    v1: makeSignedApk({ ...base, v1: { keys: [a] } }),
    'v1 by EC and DSA': makeSignedApk({ ...later, v1: { keys: [ec, dsa] } }),
    v2: makeSignedApk({ ...later, block: { v2: [{ key: ec }] } }),
    rotated: makeSignedApk({ ...later, block: { v2, v3: [{ key: b, lineage: [a] }] } }),
    'all schemes': makeSignedApk({
      ...base,
      v1: { keys: [a], alsoSigned: '2, 3' },
      block: { v2, v3: [{ key: a }] },
    }),
  }
  const manifest = compileManifest(MANIFEST)
  const manifest8 = compileManifest({ ...MANIFEST, encoding: 'utf8' })
  const resources = compileResources(RESOURCES)
  const zipped = (xml: Buffer, table: Buffer) =>
    makeZip([
      { name: 'AndroidManifest.xml', bytes: xml },
      { name: 'resources.arsc', bytes: table, isDeflated: true },
    ])
  const jarEntries = [{ name: 'AndroidManifest.xml', bytes: manifest }, ...ENTRIES]
  const jars = [a, ec].map((key) => signJar(jarEntries, [key]))
  const parts: Readonly<Record<string, (dice: Dice) => Buffer>> = {
    manifest: (dice) => zipped(mutate(dice, manifest), resources),
    'manifest in UTF-8': (dice) => zipped(mutate(dice, manifest8), resources),
    resources: (dice) => zipped(manifest, mutate(dice, resources)),
    'jar signature': (dice) => {
      const wanted = dice.pick(JAR_PARTS)
      const damage = (entry: ZipEntry) => ({
        ...entry,
        bytes: mutate(dice, Buffer.from(entry.bytes)),
      })
      return makeZip(
        dice.pick(jars).map((entry) => (wanted.test(entry.name) ? damage(entry) : entry)),
      )
    },
    'signing block': (dice) => {
      const id = dice.pick([0x7109871a, 0xf05368c0, 0x1b93ad61])
      const value = mutate(dice, blockOf(whole['rotated'] ?? Buffer.alloc(0), dice.chance(0.5)))
      return insertSigningBlock(zipped(manifest, resources), { extra: [[id, value]] })
    },
  }
  const kinds = [...Object.keys(whole), ...Object.keys(parts)]
  return (dice) => {
    const from = dice.pick(kinds)
    const part = parts[from]
    return { from, bytes: part?.(dice) ?? mutate(dice, whole[from] ?? Buffer.alloc(0)) }
  }
}

/** The value of the pair of scheme v2, or of v3, in an APK that has both, in this order. */
function blockOf(apk: Buffer, isV2: boolean): Buffer {
  const end = apk.lastIndexOf('PK\x05\x06', undefined, 'latin1')
  const directoryAt = apk.readUInt32LE(end + 16)
  const blockAt = directoryAt - Number(apk.readBigUInt64LE(directoryAt - 24)) - 8
  const first = blockAt + 8
  const second = first + 8 + Number(apk.readBigUInt64LE(first))
  const at = isV2 ? first : second
  return apk.subarray(at + 12, at + 8 + Number(apk.readBigUInt64LE(at)))
}

function mutate(dice: Dice, bytes: Buffer): Buffer {
  let mutated: Buffer = Buffer.from(bytes)
  for (let left = 1 + dice.below(3); left > 0; left--) {
    mutated = dice.pick(MUTATIONS)(dice, mutated)
  }
  return mutated
}

const MUTATIONS: readonly ((dice: Dice, bytes: Buffer) => Buffer)[] = [
  function flip(dice, bytes) {
    if (bytes.length === 0) return bytes
    const at = dice.below(bytes.length)
    bytes.writeUInt8((bytes[at] ?? 0) ^ (1 << dice.below(8)), at)
    return bytes
  },
  function setByte(dice, bytes) {
    if (bytes.length > 0) bytes.writeUInt8(dice.below(256), dice.below(bytes.length))
    return bytes
  },
  function set16(dice, bytes) {
    if (bytes.length < 2) return bytes
    bytes.writeUInt16LE(dice.pick(EXTREMES) & 0xffff, dice.below(bytes.length - 1))
    return bytes
  },
  function set32(dice, bytes) {
    if (bytes.length >= 4) bytes.writeUInt32LE(dice.pick(EXTREMES), dice.below(bytes.length - 3))
    return bytes
  },
  function add32(dice, bytes) {
    if (bytes.length < 4) return bytes
    const at = dice.below(bytes.length - 3)
    bytes.writeUInt32LE((bytes.readUInt32LE(at) + dice.below(9) - 4) >>> 0, at)
    return bytes
  },
  function cut(dice, bytes) {
    return bytes.subarray(0, dice.below(bytes.length + 1))
  },
  function remove(dice, bytes) {
    const at = dice.below(bytes.length + 1)
    return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1 + dice.below(64))])
  },
  function insert(dice, bytes) {
    const at = dice.below(bytes.length + 1)
    const noise = Buffer.alloc(1 + dice.below(64), dice.below(256))
    return Buffer.concat([bytes.subarray(0, at), noise, bytes.subarray(at)])
  },
  function repeat(dice, bytes) {
    const at = dice.below(bytes.length + 1)
    const piece = bytes.subarray(at, at + 1 + dice.below(200))
    return Buffer.concat([bytes.subarray(0, at), piece, bytes.subarray(at)])
  },
]
