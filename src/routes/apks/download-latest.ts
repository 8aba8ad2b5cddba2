/** GET /v1/apk/download-latest: the newest build, for enrollment tokens, devices and admins. Never consumes a use of a token. */

import type { ApkStore } from '../../db/apks/apks.ts'
import { AppError } from '../../domain/errors.ts'
import { isConditional } from '../../http/range/preconditions.ts'
import type { Endpoint } from '../../http/route.ts'
import type { ApkLimits } from '../../security/apk-limits.ts'
import { buildUnknown, readBuildType, readPackage } from './build-json.ts'
import { downloadFailLine } from './download-log.ts'
import { type DownloadResponseDeps, respondWithApk } from './download-response.ts'

export function downloadLatestEndpoint(
  deps: DownloadResponseDeps & {
    readonly apks: Pick<ApkStore, 'latest'>
    readonly apksForAdmins: Pick<ApkStore, 'latest'>
    readonly defaultBuildType: string
    /** undefined: the package of the first build that went live. */
    readonly defaultPackage: string | undefined
    readonly limitDownloads: ApkLimits['limitDownloads']
    readonly requirePlace: ApkLimits['requirePlace']
  },
): Endpoint<'downloader'> {
  return {
    async handle(request) {
      const { downloader, context } = request
      // A HEAD is no download.
      const isDownload = request.method !== 'HEAD'
      if (isDownload) deps.limitDownloads(downloader, context.ip)
      const buildType = readBuildType(request.query) ?? deps.defaultBuildType
      const packageName = readPackage(request.query)
      // Spares a query for each of those that are refused. A 304, 412 or 416 takes no place.
      if (isDownload && !isConditional(request.headers)) deps.requirePlace(downloader, context.ip)

      const apks = downloader.source === 'manual' ? deps.apksForAdmins : deps.apks
      const build = await apks.latest(buildType, packageName, deps.defaultPackage)
      if (build === undefined) {
        const name = packageName ?? deps.defaultPackage ?? 'the default package'
        throw new AppError(
          'apk_none',
          `No build of ${name} of type ${buildType} is live, or none with its bytes. GET /admin/apk/builds lists them; package= selects another package.`,
        )
      }

      // Publications may overlap, and then a date does not tell their builds apart.
      const modified = { modifiedAt: build.latestSince, isDateStrong: false }
      return await respondWithApk(deps, request, build, downloader, modified)
    },
    failLine: downloadFailLine,
  }
}

/** GET /v1/apk/builds/{build_id}: a build that was offered to this phone; today none is. */
export function downloadOfferedEndpoint(): Endpoint<'device'> {
  return {
    async handle() {
      throw buildUnknown()
    },
    failLine: downloadFailLine,
  }
}
