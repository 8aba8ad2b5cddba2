/** Real APKs: a compiled manifest, entries, signatures of every scheme, with a fresh key where none is given. Development code. */

import { type JarOptions, signJar } from './jar.ts'
import { compileManifest, type ManifestOptions } from './manifest.ts'
import { compileResources, type ResourceOptions } from './resources.ts'
import { type BlockOptions, insertSigningBlock } from './signing-block.ts'
import type { SigningKey } from './signing-key.ts'
import { makeZip, type ZipEntry } from './zip.ts'

export interface SignedApkOptions {
  readonly manifest?: ManifestOptions
  readonly resources?: ResourceOptions
  /** Beside the manifest and the resources. */
  readonly entries?: readonly ZipEntry[]
  readonly comment?: string
  readonly v1?: { readonly keys: readonly SigningKey[] } & JarOptions
  readonly block?: BlockOptions
}

/** Unsigned where neither `v1` nor `block` is given. */
export function makeSignedApk(options: SignedApkOptions = {}): Buffer<ArrayBuffer> {
  const { manifest, resources, entries = [], comment = '', v1, block } = options
  const all: readonly ZipEntry[] = [
    { name: 'AndroidManifest.xml', bytes: compileManifest(manifest), isDeflated: true },
    ...(resources ? [{ name: 'resources.arsc', bytes: compileResources(resources) }] : []),
    ...entries,
  ]
  const zip = makeZip(v1 === undefined ? all : signJar(all, v1.keys, v1), comment)
  return block === undefined ? zip : insertSigningBlock(zip, block)
}
