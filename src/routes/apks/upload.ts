/** PUT /admin/apk/builds/{build_id}: an APK as the raw body, spooled, checked, then stored whole or not at all. */
import type { Spool } from '../../apk/spool.ts'
import type { ApkStore, Build, NewBuild } from '../../db/apks/apks.ts'
import { AppError, apkInvalid, invalidField } from '../../domain/errors.ts'
import { isRequestId, REQUEST_ID } from '../../domain/ids.ts'
import { checkApk } from '../../domain/zip.ts'
import { queryString } from '../../http/fields.ts'
import { type BaseRequest, type Endpoint, json } from '../../http/route.ts'
import { auditedBy, buildJson, buildLine, readBuildType } from './build-json.ts'

const MAX_TEXT_LENGTH = 128
const GIT_SHA = /^[0-9a-f]{7,64}$/i
const FINGERPRINT = /^[0-9a-f:]{1,128}$/i

export interface ApkBuildUploadDeps {
  readonly spool: Pick<Spool, 'receive'>
  readonly apks: Pick<ApkStore, 'publish'>
  /** Moves the published file into the cache, if that works. Never rejects. */
  readonly cacheUpload: (build: Build, path: string) => Promise<void>
  readonly defaultBuildType: string
}

export function uploadBuildEndpoint(deps: ApkBuildUploadDeps): Endpoint<'admin'> {
  return {
    async handle(request) {
      const described = readDescription(request, deps.defaultBuildType)
      const promised = readChecksum(request.headers['x-apk-sha256'])

      const outcome = await deps.spool.receive(
        request.upload,
        declaredBytes(request.headers['content-length']),
        async ({ sizeBytes, sha256, readAt, path }) => {
          if (promised !== undefined && !promised.equals(sha256)) throw checksumMismatch(sha256)
          const check = await checkApk(readAt, sizeBytes)
          if (check.kind === 'invalid') {
            throw apkInvalid(`This is no APK: ${check.reason}.`)
          }
          const build = { ...described, sizeBytes, sha256 }
          const published = await deps.apks.publish(build, readAt, auditedBy(request))
          if (published.kind === 'published' || published.kind === 'restored') {
            await deps.cacheUpload(published.build, path)
          }
          return published
        },
      )

      if (outcome.kind === 'conflict') {
        throw new AppError('build_conflict', CONFLICT[outcome.reason])
      }
      if (outcome.kind !== 'already_published') {
        request.log(buildLine('apk.publish', outcome.build, request.admin))
      }
      return json(outcome.kind === 'published' ? 201 : 200, buildJson(outcome.build))
    },
  }
}

const CONFLICT = {
  other_bytes: 'This build id is taken by other bytes. Publish these under another id.',
  withdrawn: 'This build was withdrawn, and its id stays taken. Publish under another id.',
} as const

function readDescription(
  { params, query }: BaseRequest,
  defaultBuildType: string,
): Omit<NewBuild, 'sha256' | 'sizeBytes'> {
  const { build_id: buildId = '' } = params
  if (!isRequestId(buildId)) {
    throw invalidField('build_id', `must match ${REQUEST_ID.source}`)
  }
  return {
    buildId,
    buildType: readBuildType(query) ?? defaultBuildType,
    versionCode: readVersionCode(query.get('version_code')),
    versionName: optionalText(query, 'version_name'),
    gitSha: optionalText(query, 'git_sha', GIT_SHA),
    ciRunId: optionalText(query, 'ci_run_id'),
    signerFingerprint: optionalText(query, 'signer_fingerprint', FINGERPRINT),
  }
}

/** Android's longVersionCode, as far as JSON numbers hold it exactly. */
function readVersionCode(text: string | null): number {
  if (text === null || text === '') throw invalidField('version_code', 'is required')
  const versionCode = /^\d{1,16}$/.test(text) ? Number(text) : 0
  if (versionCode < 1 || !Number.isSafeInteger(versionCode)) {
    throw invalidField('version_code', `must be a whole number, 1 to ${Number.MAX_SAFE_INTEGER}`)
  }
  return versionCode
}

/** Empty means absent: CI scripts pass on variables that are not set. */
function optionalText(query: URLSearchParams, name: string, pattern?: RegExp): string | null {
  if (query.get(name) === '') return null
  return queryString(query, name, MAX_TEXT_LENGTH, pattern) ?? null
}

function readChecksum(header: string | string[] | undefined): Buffer | undefined {
  if (header === undefined) return undefined
  if (typeof header !== 'string' || !/^[0-9a-f]{64}$/i.test(header)) {
    throw invalidField('x-apk-sha256', 'must be the SHA-256 of the body in hex')
  }
  return Buffer.from(header, 'hex')
}

function checksumMismatch(sha256: Buffer): AppError {
  const received = sha256.toString('hex')
  const message = `differs from what arrived: ${received}`
  return new AppError('checksum_mismatch', `X-APK-SHA256 ${message}.`, {
    errors: [{ field: 'x-apk-sha256', message }],
  })
}

function declaredBytes(contentLength: string | undefined): number | undefined {
  return contentLength === undefined ? undefined : Number(contentLength)
}
