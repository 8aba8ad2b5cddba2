/** APKs of every shape that matters to a verifier: signed with fresh keys, named by what is special. Development code. */
import { byCertificate } from './certificate-variants.ts'
import { byContainer, byDamage } from './container-variants.ts'
import type { ManifestOptions } from './manifest.ts'
import type { SignedApkOptions } from './signed-apk.ts'
import { MANIFEST, make, OLD, OLDEST, type Variant, type VariantKeys } from './variant.ts'

export function makeVariants(keys: VariantKeys): readonly Variant[] {
  return [
    ...byScheme(keys),
    ...byRotation(keys),
    ...byManifest(keys),
    ...byContainer(keys),
    ...byDamage(keys),
    ...byCertificate(),
  ]
}

function byScheme({ a, b, ec, dsa }: VariantKeys): readonly Variant[] {
  const v2 = [{ key: a }]
  return [
    make('unsigned', {}),
    make('v2', { block: { v2 } }),
    make('v2, SHA-512', { block: { v2: [{ key: a, digest: 'sha512' }] } }),
    make('v2, PSS', { block: { v2: [{ key: a, isPss: true }] } }),
    make('v2, PSS and SHA-512', { block: { v2: [{ key: a, isPss: true, digest: 'sha512' }] } }),
    make('v2, EC', { block: { v2: [{ key: ec }] } }),
    make('v2, EC and SHA-512', { block: { v2: [{ key: ec, digest: 'sha512' }] } }),
    make('v2, DSA', { block: { v2: [{ key: dsa }] } }),
    make('v2 by two', { block: { v2: [{ key: a }, { key: ec, digest: 'sha512' }] } }),
    make('v2 alone from API level 21', { manifest: { ...MANIFEST, minSdk: 21 }, block: { v2 } }),
    make('v3', { block: { v3: [{ key: a }] } }),
    make('v3 from API level 30', {
      manifest: { ...MANIFEST, minSdk: 30 },
      block: { v3: [{ key: a }] },
    }),
    make('v2 and v3', { block: { v2: [{ key: a, protects: 3 }], v3: [{ key: a }] } }),
    make('v2 and v3 by different ones', { block: { v2, v3: [{ key: b }] } }),
    make('v3 stripped', { block: { v2: [{ key: a, protects: 3 }] } }),
    make('v1', { manifest: OLD, v1: { keys: [a] } }),
    make('v1, for Android 11', { manifest: { ...MANIFEST, targetSdk: 30 }, v1: { keys: [a] } }),
    make('v1, SHA-1', { manifest: OLDEST, v1: { keys: [a], digest: 'sha1' } }),
    make('v1, SHA-256 where phones do not read it', { manifest: OLDEST, v1: { keys: [a] } }),
    make('v1, EC', { manifest: OLD, v1: { keys: [ec] } }),
    make('v1, EC where phones do not read it', {
      manifest: { ...OLD, minSdk: 16 },
      v1: { keys: [ec], digest: 'sha1' },
    }),
    make('v1, DSA', { manifest: OLDEST, v1: { keys: [dsa], digest: 'sha1' } }),
    make('v1 by two', { manifest: OLD, v1: { keys: [a, b] } }),
    make('v1 and v2', { manifest: OLD, v1: { keys: [a], alsoSigned: '2' }, block: { v2 } }),
    make('v1 and v2 by two', {
      manifest: OLD,
      v1: { keys: [a, b] },
      block: { v2: [{ key: b }, { key: a }] },
    }),
    make('v1 and v2 by different ones', { manifest: OLD, v1: { keys: [b] }, block: { v2 } }),
    make('v1, v2 and v3', {
      manifest: OLD,
      v1: { keys: [a], alsoSigned: '2, 3' },
      block: { v2: [{ key: a, protects: 3 }], v3: [{ key: a }] },
    }),
    make('v2 stripped', { manifest: OLD, v1: { keys: [a], alsoSigned: '2' } }),
    make('v1 not read from API level 24', { v1: { keys: [b] }, block: { v2 } }),
    make('v1 without an entry', { manifest: OLD, v1: { keys: [a], omitted: 'classes.dex' } }),
    make('sandbox 2, v1', { manifest: { ...OLD, targetSandbox: 2 }, v1: { keys: [a] } }),
    make('sandbox 2, v2', { manifest: { ...MANIFEST, targetSandbox: 2 }, block: { v2 } }),
    make('v2, forged', { block: { v2: [{ key: a, isForged: true }] } }),
    make('v3, forged', { block: { v3: [{ key: a, isForged: true }] } }),
  ]
}

function byRotation({ a, b, c, ec }: VariantKeys): readonly Variant[] {
  const v2 = [{ key: a, protects: 3 }]
  return [
    make('rotated', { block: { v2, v3: [{ key: b, lineage: [a] }] } }),
    make('rotated, v3 alone', { block: { v3: [{ key: b, lineage: [a] }] } }),
    make('rotated three times', { block: { v2, v3: [{ key: ec, lineage: [a, b, c] }] } }),
    make('rotated, with v1', {
      manifest: OLD,
      v1: { keys: [a], alsoSigned: '2, 3' },
      block: { v2, v3: [{ key: b, lineage: [a] }] },
    }),
    make('rotated from another', { block: { v2, v3: [{ key: b, lineage: [c] }] } }),
    make('rotated, v2 by the new one', {
      block: { v2: [{ key: b }], v3: [{ key: b, lineage: [a] }] },
    }),
    make('rotated in a circle', { block: { v2, v3: [{ key: a, lineage: [a, b] }] } }),
    make('v3 by two, one after the other', {
      block: {
        v2,
        v3: [
          { key: a, maxSdk: 32 },
          { key: b, minSdk: 33, lineage: [a] },
        ],
      },
    }),
    make('v3 by two, with a gap', {
      block: {
        v2,
        v3: [
          { key: a, maxSdk: 31 },
          { key: b, minSdk: 33, lineage: [a] },
        ],
      },
    }),
    make('v3 by two, overlapping', {
      block: {
        v2,
        v3: [
          { key: a, maxSdk: 33 },
          { key: b, minSdk: 33, lineage: [a] },
        ],
      },
    }),
    make('v3 that ends', { block: { v2, v3: [{ key: a, maxSdk: 32 }] } }),
    make('v3 that begins late', { block: { v2, v3: [{ key: a, minSdk: 33 }] } }),
    make('v3 for no level', { block: { v2, v3: [{ key: a, minSdk: 40, maxSdk: 33 }] } }),
  ]
}

function byManifest({ a }: VariantKeys): readonly Variant[] {
  const block = { v2: [{ key: a }] }
  const of = (name: string, manifest: ManifestOptions, more: SignedApkOptions = {}) =>
    make(name, { block, manifest: { ...MANIFEST, ...manifest }, entries: [], ...more })
  return [
    of('UTF-8 strings', { encoding: 'utf8', versionName: '1.0-größer 🚀' }),
    of('UTF-16 strings', { encoding: 'utf16', versionName: '1.0-größer 🚀' }),
    of('debuggable', { isDebuggable: true }),
    of('not debuggable', { isDebuggable: false }),
    of('no target', { targetSdk: undefined }),
    of('many activities', { activities: 2_000, encoding: 'utf8' }),
    of('a long version name', { versionName: 'v'.repeat(200), encoding: 'utf8' }),
    of('a large version code', { versionCode: 2_100_000_000 }),
    of('a string for an API level', { minSdk: 'S' }),
    of(
      'a version name by reference',
      { versionName: { reference: 0x7f010000 } },
      {
        resources: { strings: ['2.0-utf16'] },
      },
    ),
    of(
      'a version name by reference, UTF-8, translated',
      { versionName: { reference: 0x7f010001 } },
      {
        resources: { strings: ['x', '2.0-utf8'], french: ['y', '2.0-fr'], encoding: 'utf8' },
      },
    ),
    make('no versions', {
      manifest: { packageName: 'com.example.bare' },
      v1: { keys: [a], digest: 'sha1' },
    }),
    of('no package name', { packageName: '' }),
  ]
}
