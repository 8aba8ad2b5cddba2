/** What an APK says of itself and who signed it, beside its versions. */

/** As Android's FrameworkParsingPackageUtils.validateName has it, with the length of a file name on its disk. */
export const PACKAGE_NAME = /^[A-Za-z][A-Za-z0-9_]*(?:\.[A-Za-z][A-Za-z0-9_]*)+$/
export const MAX_PACKAGE_NAME_LENGTH = 223
/** UTF-16 code units. */
export const MAX_VERSION_NAME_LENGTH = 255

/** What targets this API level needs a signature of scheme v2 or v3, and resources that can be mapped, on Android 11 and later. */
export const ANDROID_11 = 30

export interface ApkFacts {
  readonly packageName: string
  /** API levels. */
  readonly minSdk: number
  readonly targetSdk: number
  readonly isDebuggable: boolean
  readonly signing: 'v1' | 'v2' | 'v3' | 'none'
  /** SHA-256 of the signers' certificates, hex, sorted; empty with `none`. */
  readonly signers: readonly string[]
}

/** As src/apk/package reads them. */
export interface ReadFacts extends Omit<ApkFacts, 'signing' | 'signers'> {
  readonly signing:
    | {
        readonly kind: 'verified'
        readonly scheme: 'v1' | 'v2' | 'v3'
        readonly signers: readonly string[]
      }
    | { readonly kind: 'unsigned' }
}

export function toApkFacts({
  packageName,
  minSdk,
  targetSdk,
  isDebuggable,
  signing,
}: ReadFacts): ApkFacts {
  const isSigned = signing.kind === 'verified'
  return {
    packageName,
    minSdk,
    targetSdk,
    isDebuggable,
    signing: isSigned ? signing.scheme : 'none',
    signers: isSigned ? signing.signers.toSorted() : [],
  }
}
