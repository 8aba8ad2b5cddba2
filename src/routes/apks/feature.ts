/** What the endpoints of APKs use. */
import type { Spool } from '../../apk/spool.ts'
import type { ApkStore, Build } from '../../db/apks/apks.ts'
import type { ApkLimits } from '../../security/apk-limits.ts'
import type { DownloadResponseDeps } from './download-response.ts'

export interface Apks extends DownloadResponseDeps, ApkLimits {
  readonly apks: ApkStore
  readonly spool: Pick<Spool, 'receive'>
  /** Moves the published file into the cache, if that works. Never rejects. */
  readonly cacheUpload: (build: Build, path: string) => Promise<void>
  readonly defaultBuildType: string
}
