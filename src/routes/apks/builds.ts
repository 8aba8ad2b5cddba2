/** /admin/apk/builds: what was published, the bytes of one build, and taking one out of service. */

import type { ApkStore } from '../../db/apks/apks.ts'
import { AppError } from '../../domain/errors.ts'
import { pageOf, readPage } from '../../http/page.ts'
import { type Endpoint, json } from '../../http/route.ts'
import {
  auditedBy,
  buildJson,
  buildLine,
  buildUnknown,
  pathBuildId,
  readBuildType,
} from './build-json.ts'
import { downloadFailLine } from './download-log.ts'
import { type DownloadResponseDeps, respondWithApk } from './download-response.ts'

/** GET /admin/apk/builds: newest first, withdrawn ones too. */
export function listBuildsEndpoint(deps: {
  readonly apks: Pick<ApkStore, 'list'>
}): Endpoint<'admin'> {
  return {
    async handle({ query }) {
      const page = readPage(query, 'builds')
      const buildType = readBuildType(query)

      const read = await deps.apks.list(page, buildType)

      const shown = pageOf(read, page, (build) => ({ at: build.publishedAt, id: build.buildId }))
      return json(200, { builds: shown.rows.map(buildJson), next_cursor: shown.nextCursor })
    },
  }
}

/** GET /admin/apk/builds/{build_id}/download: one build's bytes, also when a newer one is out; not a withdrawn one's. */
export function downloadBuildEndpoint(
  deps: DownloadResponseDeps & { readonly apks: Pick<ApkStore, 'find'> },
): Endpoint<'admin'> {
  return {
    async handle(request) {
      const build = await deps.apks.find(pathBuildId(request.params))
      if (build === undefined || build.withdrawnAt !== null) throw buildUnknown()
      if (!build.hasBytes) throw bytesLost()

      const downloader = { source: 'manual', admin: request.admin } as const
      // The bytes of an id never change.
      const modified = { modifiedAt: build.publishedAt, isDateStrong: true }
      return await respondWithApk(deps, request, build, downloader, modified)
    },
    failLine: downloadFailLine,
  }
}

function bytesLost(): AppError {
  return new AppError(
    'apk_none',
    'The database was restored without the bytes of this build. PUT the same APK under this id again.',
  )
}

/** DELETE /admin/apk/builds/{build_id}: no one is given it from now on. Its id stays taken, its rows stay for the record. */
export function withdrawBuildEndpoint(deps: {
  readonly apks: Pick<ApkStore, 'withdraw'>
}): Endpoint<'admin'> {
  return {
    async handle(request) {
      const outcome = await deps.apks.withdraw(pathBuildId(request.params), auditedBy(request))
      if (outcome.kind === 'unknown') throw buildUnknown()
      if (outcome.kind === 'withdrawn') {
        request.log(buildLine('apk.withdraw', outcome.build, request.admin))
      }
      return { kind: 'empty', status: 204 }
    },
  }
}
