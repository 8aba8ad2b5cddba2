/** GET /v1/apk/download-latest: the newest build, for enrollment tokens, devices and admins. Never consumes a use of a token. */

import type { ApkStore } from '../../db/apks/apks.ts'
import { AppError } from '../../domain/errors.ts'
import type { Endpoint } from '../../http/route.ts'
import type { ApkLimits } from '../../security/apk-limits.ts'
import { readBuildType } from './build-json.ts'
import { downloadFailLine } from './download-log.ts'
import { type DownloadResponseDeps, respondWithApk } from './download-response.ts'

export function downloadLatestEndpoint(
  deps: DownloadResponseDeps & {
    readonly apks: Pick<ApkStore, 'latest'>
    readonly defaultBuildType: string
    readonly limitDownloads: ApkLimits['limitDownloads']
  },
): Endpoint<'downloader'> {
  return {
    async handle(request) {
      // A HEAD is no download.
      if (request.method !== 'HEAD') deps.limitDownloads(request.downloader, request.context.ip)
      const buildType = readBuildType(request.query) ?? deps.defaultBuildType

      const build = await deps.apks.latest(buildType)
      if (build === undefined) {
        throw new AppError(
          'apk_none',
          `No build of type ${buildType} is published, or none with its bytes. GET /admin/apk/builds lists them.`,
        )
      }

      // Publications may overlap, and then a date does not tell their builds apart.
      const modified = { modifiedAt: build.latestSince, isDateStrong: false }
      return await respondWithApk(deps, request, build, request.downloader, modified)
    },
    failLine: downloadFailLine,
  }
}
