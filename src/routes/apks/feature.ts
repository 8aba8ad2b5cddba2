/** What the endpoints of APKs use. */
import type { PackageVerdict } from '../../apk/package/read-package.ts'
import type { Spool, SpooledFile } from '../../apk/spool.ts'
import type { ApkStore, Build } from '../../db/apks/apks.ts'
import type { ApkLimits } from '../../security/apk-limits.ts'
import type { DownloadResponseDeps } from './download-response.ts'

export interface Apks extends DownloadResponseDeps, ApkLimits {
  readonly apks: ApkStore
  readonly apksForAdmins: Pick<ApkStore, 'latest'>
  readonly spool: Pick<Spool, 'receive'>
  /** Moves the published file into the cache, if that works. Never rejects. */
  readonly cacheUpload: (build: Build, path: string) => Promise<void>
  readonly readPackage: (source: SpooledFile['source']) => Promise<PackageVerdict>
  /** False: an APK without any signature is accepted too. */
  readonly isSignatureRequired: boolean
  readonly defaultBuildType: string
  /** undefined: the package of the first build. */
  readonly defaultPackage: string | undefined
}
