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
  requireMeant,
  signerChanged,
} from './build-json.ts'
import { downloadFailLine } from './download-log.ts'
import { type DownloadResponseDeps, respondWithApk } from './download-response.ts'
import { type WarningDeps, warningsOf } from './warnings.ts'

/** GET /admin/apk/builds: newest first, staged and withdrawn ones too, each with the phones that report its version. */
export function listBuildsEndpoint(deps: {
  readonly apks: Pick<ApkStore, 'list' | 'countReported'>
}): Endpoint<'admin'> {
  return {
    async handle({ query }) {
      const page = readPage(query, 'builds')
      const buildType = readBuildType(query)

      const read = await deps.apks.list(page, buildType)
      if (read.length === 0) requireMeant(buildType) // a former release took such types

      const shown = pageOf(read, page, (build) => ({ at: build.publishedAt, id: build.buildId }))
      const reported = await deps.apks.countReported(shown.rows)
      const builds = shown.rows.map((build) => ({
        ...buildJson(build),
        devices: reported.get(build.buildId) ?? null,
      }))
      return json(200, { builds, next_cursor: shown.nextCursor })
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
      if (build === undefined || build.state === 'withdrawn') throw buildUnknown()
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

/** POST /admin/apk/builds/{build_id}/release: a staged build goes live. Repeatable. */
export function releaseBuildEndpoint(
  deps: WarningDeps & { readonly apks: Pick<ApkStore, 'release'> },
): Endpoint<'admin'> {
  return {
    async handle(request) {
      const outcome = await deps.apks.release(pathBuildId(request.params), auditedBy(request))
      if (outcome.kind === 'unknown') throw buildUnknown()
      if (outcome.kind === 'withdrawn') {
        throw new AppError('build_conflict', 'This build was withdrawn. Publish under another id.')
      }
      if (outcome.kind === 'signer_changed') {
        const advice = 'Publish it under another id with accept_signer= if that is meant.'
        throw signerChanged(outcome.facts, outcome.pinned, advice)
      }
      const { build } = outcome
      if (outcome.kind === 'released') {
        request.log(buildLine('apk.release', build, request.admin))
      }
      return json(200, { ...buildJson(build), warnings: await warningsOf(deps, build) })
    },
  }
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
