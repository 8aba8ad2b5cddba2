/** Made-up APKs that a phone would install if they had code: signed by scheme v2, of any size and content. Development code. */
import { createCipheriv, createHash } from 'node:crypto'
import { createSeededKey } from './apk/seeded-key.ts'
import { makeSignedApk } from './apk/signed-apk.ts'
import type { SigningKey } from './apk/signing-key.ts'

export interface ApkOptions {
  /** At least MIN_APK_BYTES. */
  readonly sizeBytes?: number
  /** Decides the content: the same options make the same bytes, in every process. */
  readonly seed?: string
  readonly packageName?: string
  readonly versionCode?: number
  readonly versionName?: string
  /** False: a release build. */
  readonly isDebuggable?: boolean
  readonly key?: SigningKey
}

const PADDING = 'assets/padding.bin'
const MIN_SDK = 24
const TARGET_SDK = 34
/** Enough for a package name and a version name of 60 characters. */
export const MIN_APK_BYTES = 3_072

let seededKey: SigningKey | undefined

/** The key of every APK that is made without one. */
export function simulationKey(): SigningKey {
  seededKey ??= createSeededKey('fleetloop simulation')
  return seededKey
}

/** An APK of exactly `sizeBytes`. */
export function makeApk(options: ApkOptions = {}): Buffer<ArrayBuffer> {
  const { sizeBytes = 4_096, seed = '' } = options
  if (sizeBytes < MIN_APK_BYTES) throw new RangeError(`an APK has at least ${MIN_APK_BYTES} bytes`)
  const bare = makePadded(options, Buffer.alloc(0))
  return makePadded(options, makeNoise(sizeBytes - bare.length, seed))
}

function makePadded(options: ApkOptions, bytes: Uint8Array): Buffer<ArrayBuffer> {
  const { packageName, versionCode = 1, versionName, isDebuggable = true } = options
  return makeSignedApk({
    manifest: {
      packageName,
      versionCode,
      versionName,
      isDebuggable,
      minSdk: MIN_SDK,
      targetSdk: TARGET_SDK,
    },
    entries: [{ name: PADDING, bytes }],
    block: { v2: [{ key: options.key ?? simulationKey() }] },
  })
}

/** Pseudo-random bytes, fast to make in any size. */
function makeNoise(sizeBytes: number, seed: string): Buffer {
  const key = createHash('sha256').update(seed).digest()
  return createCipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(sizeBytes))
}
