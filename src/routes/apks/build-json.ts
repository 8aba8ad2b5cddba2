/** A build on the wire: its JSON, and the parts of a request that name one. */

import type { AuditedBy, Build } from '../../db/apks/apks.ts'
import { type ApkFacts, MAX_PACKAGE_NAME_LENGTH, PACKAGE_NAME } from '../../domain/apk-facts.ts'
import { AppError, invalidField } from '../../domain/errors.ts'
import { BUILD_TYPE, buildTypeMeant, isRequestId } from '../../domain/ids.ts'
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
    ...factsJson(build.facts),
    unreadable: build.unreadable,
    state: build.state,
    sha256: build.sha256.toString('hex'),
    size_bytes: build.sizeBytes,
    published_at: build.publishedAt,
    published_by: build.publishedBy,
    released_at: build.releasedAt,
    withdrawn_at: build.withdrawnAt,
    withdrawn_by: build.withdrawnBy,
    has_bytes: build.hasBytes,
  }
}

/** What the APK says of itself; all null where nobody has read it. Also fields of a log line. */
function factsJson(facts: ApkFacts | null) {
  return {
    package: facts?.packageName ?? null,
    min_sdk: facts?.minSdk ?? null,
    target_sdk: facts?.targetSdk ?? null,
    debuggable: facts?.isDebuggable ?? null,
    signing: facts?.signing ?? null,
    signer_sha256: facts === null ? null : signerText(facts.signers),
  }
}

/** SHA-256 of the signer's certificate, of several signers in order, with commas; null where it is not signed. */
export function signerText(signers: readonly string[]): string | null {
  return signers.length === 0 ? null : signers.join()
}

export function readPackage(query: URLSearchParams): string | undefined {
  return queryString(query, 'package', MAX_PACKAGE_NAME_LENGTH, PACKAGE_NAME)
}

/** undefined where it is absent. */
export function readBuildType(query: URLSearchParams): string | undefined {
  return queryString(query, 'build_type', 32, BUILD_TYPE)
}

/** 422 for `Debug`: it would be a type of its own, which no phone asks for. */
export function requireMeant(buildType: string | undefined): void {
  const meant = buildType === undefined ? undefined : buildTypeMeant(buildType)
  if (meant !== undefined) throw invalidField('build_type', `case matters. Did you mean ${meant}?`)
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

/** 409. `advice`: a sentence about what to do. */
export function signerChanged(
  { packageName, signers }: ApkFacts,
  pinned: readonly string[],
  advice: string,
): AppError {
  return new AppError(
    'signer_changed',
    `${packageName} is signed by ${signers.join()}, its builds before by ${pinned.join()}: every phone would refuse the update. ${advice}`,
  )
}

export function auditedBy(request: BaseRequest & { readonly admin: string }): AuditedBy {
  const { requestId, ip } = request.context
  return { admin: request.admin, requestId, ip }
}

/** `apk.publish`, `apk.release` and `apk.withdraw`. */
export function buildLine(
  event: 'apk.publish' | 'apk.release' | 'apk.withdraw',
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
      ...factsJson(build.facts),
      state: build.state,
      admin,
      source: 'manual', // the word for an admin token, as of downloads
    },
  }
}
