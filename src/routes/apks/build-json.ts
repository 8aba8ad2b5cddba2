/** A build on the wire: its JSON, and the parts of a request that name one. */

import type { AuditedBy, Build } from '../../db/apks/apks.ts'
import { AppError } from '../../domain/errors.ts'
import { BUILD_TYPE, isRequestId } from '../../domain/ids.ts'
import { queryString } from '../../http/fields.ts'
import type { BaseRequest } from '../../http/route.ts'

export function buildJson(build: Build) {
  return {
    build_id: build.buildId,
    build_type: build.buildType,
    version_code: build.versionCode,
    version_name: build.versionName,
    git_sha: build.gitSha,
    ci_run_id: build.ciRunId,
    signer_fingerprint: build.signerFingerprint,
    sha256: build.sha256.toString('hex'),
    size_bytes: build.sizeBytes,
    published_at: build.publishedAt,
    published_by: build.publishedBy,
    withdrawn_at: build.withdrawnAt,
    withdrawn_by: build.withdrawnBy,
    has_bytes: build.hasBytes,
  }
}

/** undefined where it is absent. */
export function readBuildType(query: URLSearchParams): string | undefined {
  return queryString(query, 'build_type', 32, BUILD_TYPE)
}

/** The build that the path names; what can be no id is as unknown as one that is not there. */
export function pathBuildId(params: BaseRequest['params']): string {
  const { build_id: buildId = '' } = params
  if (!isRequestId(buildId)) throw buildUnknown()
  return buildId
}

export function buildUnknown(): AppError {
  return new AppError('build_unknown', 'There is no such build. GET /admin/apk/builds lists them.')
}

export function auditedBy(request: BaseRequest & { readonly admin: string }): AuditedBy {
  const { requestId, ip } = request.context
  return { admin: request.admin, requestId, ip }
}

/** `apk.publish` and `apk.withdraw`. */
export function buildLine(
  event: 'apk.publish' | 'apk.withdraw',
  build: Build,
  admin: string,
): Parameters<BaseRequest['log']>[0] {
  return {
    event,
    fields: {
      build_id: build.buildId,
      version_code: build.versionCode,
      version_name: build.versionName,
      build_type: build.buildType,
      admin,
      source: 'manual', // the word for an admin token, as of downloads
    },
  }
}
