/** The parts that APK bytes go through, each bounded: uploads by the spool, downloads from the cache. */
import { join } from 'node:path'
import { createApkCache, type ReadApk } from '../apk/cache.ts'
import { cleanSpool, createSpool } from '../apk/spool.ts'
import type { Config } from '../config/config.ts'
import type { Line } from '../telemetry/log/log.ts'
import { spoolDirectory } from './data-directory.ts'
import { StartError } from './startup.ts'

/** Uploads spooled at once; with APK_MAX_BYTES it bounds the disk they take. */
export const MAX_UPLOADS = 4

export interface ApkPartsDeps {
  /** From the database. */
  readonly readStored: ReadApk
  readonly log: (line: Line) => void
}

export type ApkParts = Awaited<ReturnType<typeof createApkParts>>

/** Also removes what uploads of a process that died have left. Throws StartError where DATA_DIR cannot be used. */
export async function createApkParts(config: Config, { readStored, log }: ApkPartsDeps) {
  const spoolDir = spoolDirectory(config.dataDir)
  await cleanSpool(spoolDir).catch((cause: unknown) => {
    const advice = 'Give a directory that this user may write to.'
    throw new StartError(`DATA_DIR cannot be used: ${cause}. ${advice}`, { cause })
  })
  const { readApk, adopt } = createApkCache({
    dir: join(config.dataDir, 'apk-cache'),
    maxBytes: config.apkCacheBytes,
    readStored,
    log,
    nowMs: Date.now,
  })
  return {
    spool: createSpool({ dir: spoolDir, maxBytes: config.apkMaxBytes, maxUploads: MAX_UPLOADS }),
    readApk,
    cacheUpload: adopt,
  }
}
