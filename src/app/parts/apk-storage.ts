/** The parts that APK bytes go through, each bounded: uploads by the spool, downloads from the cache. */
import { join } from 'node:path'
import { createApkCache, type ReadApk } from '../../apk/cache.ts'
import { readApkPackage } from '../../apk/package/read-package.ts'
import { cleanSpool, createSpool } from '../../apk/spool.ts'
import { spoolDirectory } from '../data-directory.ts'
import type { ServiceContext } from '../service-context.ts'
import { StartError } from '../startup.ts'

/** Uploads spooled at once; with APK_MAX_BYTES it bounds the disk they take. */
export const MAX_UPLOADS = 4

export type ApkParts = Awaited<ReturnType<typeof createApkParts>>

/**
 * `readStored` reads from the database. Removes the files of uploads that a former process left behind. Throws StartError
 * if DATA_DIR cannot be used.
 */
export async function createApkParts({ config, logLine }: ServiceContext, readStored: ReadApk) {
  const spoolDir = spoolDirectory(config.dataDir)
  await cleanSpool(spoolDir).catch((cause: unknown) => {
    const advice = 'Give a directory that this user may write to.'
    throw new StartError(`DATA_DIR cannot be used: ${cause}. ${advice}`, { cause })
  })
  const { readApk, adopt } = createApkCache({
    dir: join(config.dataDir, 'apk-cache'),
    maxBytes: config.apkCacheBytes,
    readStored,
    log: logLine,
    nowMs: Date.now,
  })
  return {
    spool: createSpool({ dir: spoolDir, maxBytes: config.apkMaxBytes, maxUploads: MAX_UPLOADS }),
    readApk,
    cacheUpload: adopt,
    readPackage: readApkPackage,
  }
}
