/** The parts of each variant of an APK. Development code. */
import type { ManifestOptions } from './manifest.ts'
import { makeSignedApk, type SignedApkOptions } from './signed-apk.ts'
import { createSigningKey, type SigningKey } from './signing-key.ts'
import type { ZipEntry } from './zip.ts'

export interface Variant {
  readonly name: string
  readonly bytes: Buffer
}

export interface VariantKeys {
  readonly a: SigningKey
  readonly b: SigningKey
  readonly c: SigningKey
  readonly ec: SigningKey
  readonly dsa: SigningKey
}

export function createVariantKeys(): VariantKeys {
  return {
    a: createSigningKey({ name: 'a' }),
    b: createSigningKey({ name: 'b' }),
    c: createSigningKey({ name: 'c', bits: 3072 }),
    ec: createSigningKey({ kind: 'ec', name: 'ec' }),
    dsa: createSigningKey({ kind: 'dsa', bits: 1024, name: 'dsa' }),
  }
}

export const MANIFEST: ManifestOptions = {
  packageName: 'com.example.app',
  versionCode: 42,
  versionName: '1.0.42',
  minSdk: 24,
  targetSdk: 34,
}
export const OLD: ManifestOptions = { ...MANIFEST, minSdk: 18, targetSdk: 29 }
export const OLDEST: ManifestOptions = { ...MANIFEST, minSdk: 9, targetSdk: 29 }
export const ENTRIES: readonly ZipEntry[] = [
  { name: 'classes.dex', bytes: Buffer.alloc(3_000_000, 'dex '), isDeflated: true },
  { name: 'assets/stored.bin', bytes: Buffer.alloc(1_100_000, 'stored') },
  { name: 'assets/empty', bytes: Buffer.alloc(0) },
  {
    name: 'META-INF/services/a.long.enough.name.of.a.service.that.it.must.be.wrapped.Provider',
    bytes: Buffer.from('x'),
  },
]

export function make(name: string, options: SignedApkOptions): Variant {
  return { name, bytes: makeSignedApk({ manifest: MANIFEST, entries: ENTRIES, ...options }) }
}
