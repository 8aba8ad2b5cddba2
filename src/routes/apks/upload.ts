/** PUT /admin/apk/builds/{build_id}: an APK as the raw body, spooled, read, then stored whole or not at all. */
import type { PackageVerdict } from '../../apk/package/read-package.ts'
import type { Spool, SpooledFile } from '../../apk/spool.ts'
import type { ApkStore, Build, Upload } from '../../db/apks/apks.ts'
import { MAX_VERSION_NAME_LENGTH, toApkFacts } from '../../domain/apk-facts.ts'
import { AppError, apkRefused, invalidField } from '../../domain/errors.ts'
import { isRequestId, REQUEST_ID } from '../../domain/ids.ts'
import { queryString } from '../../http/fields.ts'
import { type BaseRequest, type Endpoint, json } from '../../http/route.ts'
import { replaceUnsafe } from '../../lib/text.ts'
import {
  auditedBy,
  buildJson,
  buildLine,
  readBuildType,
  requireMeant,
  signerChanged,
  signerText,
} from './build-json.ts'
import { packageWarnings, type WarningDeps, warningsOf } from './warnings.ts'

const MAX_TEXT_LENGTH = 128
const GIT_SHA = /^[0-9a-f]{7,64}$/i
/** SHA-256 digests as keytool prints them, or without colons; of up to 10 signers, with commas. */
const FINGERPRINTS = /^[0-9a-f:]{1,128}(?:,[0-9a-f:]{1,128}){0,9}$/i
const SIGNERS = /^[0-9a-f]{64}(?:,[0-9a-f]{64}){0,9}$/i
const MAX_SIGNERS_LENGTH = 1_289

export interface ApkBuildUploadDeps extends WarningDeps {
  readonly spool: Pick<Spool, 'receive'>
  readonly apks: Pick<ApkStore, 'publish' | 'latest'>
  readonly readPackage: (source: SpooledFile['source']) => Promise<PackageVerdict>
  /** False: an APK without any signature is taken too. */
  readonly isSignatureRequired: boolean
  /** Moves the published file into the cache, if that works. Never rejects. */
  readonly cacheUpload: (build: Build, path: string) => Promise<void>
}

export function uploadBuildEndpoint(deps: ApkBuildUploadDeps): Endpoint<'admin'> {
  return {
    async handle(request) {
      const claims = readClaims(request)
      const promised = readChecksum(request.headers['x-apk-sha256'])

      const { outcome, facts, advice } = await deps.spool.receive(
        request.upload,
        declaredBytes(request.headers['content-length']),
        async ({ sizeBytes, sha256, source, path }) => {
          if (promised !== undefined && !promised.equals(sha256))
            throw checksumMismatch(promised, sha256)
          const verdict = await deps.readPackage(source)
          const upload = toUpload(claims, verdict, deps.isSignatureRequired, { sizeBytes, sha256 })
          const published = await deps.apks.publish(upload, source, auditedBy(request))
          if (published.kind === 'published' || published.kind === 'restored') {
            await deps.cacheUpload(published.build, path)
          }
          return { outcome: published, facts: upload.facts, advice: packageWarnings(verdict) }
        },
      )

      if (outcome.kind === 'conflict') {
        throw new AppError('build_conflict', CONFLICT[outcome.reason])
      }
      if (outcome.kind === 'signer_changed') {
        const advice = `If that is meant, repeat with accept_signer=${facts.signers.join()}.`
        throw signerChanged(facts, outcome.pinned, advice)
      }
      if (outcome.kind !== 'already_published') {
        request.log(buildLine('apk.publish', outcome.build, request.admin))
      }
      const warnings = [...advice, ...(await warningsOf(deps, outcome.build))]
      return json(outcome.kind === 'published' ? 201 : 200, {
        ...buildJson(outcome.build),
        warnings,
      })
    },
  }
}

const CONFLICT = {
  other_bytes: 'This build id is taken by other bytes. Publish these under another id.',
  withdrawn: 'This build was withdrawn, and its id stays taken. Publish under another id.',
} as const

/** What the publisher says; undefined where it says nothing. */
interface Claims {
  readonly buildId: string
  readonly versionCode: number | undefined
  readonly versionName: string | undefined
  readonly buildType: string | undefined
  readonly gitSha: string | undefined
  readonly ciRunId: string | undefined
  readonly signerFingerprint: string | undefined
  readonly acceptSigner: string | undefined
  readonly isStaged: boolean
}

function readClaims({ params, query }: BaseRequest): Claims {
  const { build_id: buildId = '' } = params
  if (!isRequestId(buildId)) {
    throw invalidField('build_id', `must match ${REQUEST_ID.source}`)
  }
  // Empty is refused: a variable that is not set would send a staged build to every phone.
  const release = query.get('release')
  if (release !== null && release !== 'staged') {
    throw invalidField('release', 'must be staged, or left out')
  }
  const buildType = readBuildType(query)
  requireMeant(buildType)
  return {
    buildId,
    versionCode: readVersionCode(query.get('version_code')),
    versionName: optionalText(query, 'version_name', undefined, MAX_VERSION_NAME_LENGTH),
    buildType,
    gitSha: optionalText(query, 'git_sha', GIT_SHA),
    ciRunId: optionalText(query, 'ci_run_id'),
    signerFingerprint: optionalSigners(query, 'signer_fingerprint', FINGERPRINTS),
    acceptSigner: optionalSigners(query, 'accept_signer', SIGNERS),
    isStaged: release === 'staged',
  }
}

/** What the APK says, if the claims agree. Throws 422 `apk_invalid`, `apk_signature` and `apk_mismatch`. */
function toUpload(
  claims: Claims,
  verdict: PackageVerdict,
  isSignatureRequired: boolean,
  file: { readonly sizeBytes: number; readonly sha256: Buffer },
): Upload {
  if (verdict.kind === 'invalid') {
    throw apkRefused('apk_invalid', `This is no APK that Android installs: ${verdict.reason}.`)
  }
  const { signing, facts } = verdict
  if (signing.kind === 'broken') {
    throw apkRefused('apk_signature', `Android would not install this APK: ${signing.reason}.`)
  }
  if (signing.kind === 'unsigned' && isSignatureRequired) {
    const advice = 'Sign it (apksigner sign), or set APK_REQUIRE_SIGNATURE=false'
    throw apkRefused('apk_signature', `This APK is not signed. ${advice}.`)
  }
  const apk = toApkFacts({ ...facts, signing })
  const signer = signerText(apk.signers)
  const buildType = facts.isDebuggable ? 'debug' : 'release'
  check('version_code', claims.versionCode, facts.versionCode)
  const versionName = facts.versionName === null ? null : onOneLine(facts.versionName)
  check('version_name', claims.versionName, versionName)
  // Other names, such as a flavor's, say nothing of what the APK shows.
  if (claims.buildType === 'debug' || claims.buildType === 'release') {
    check('build_type', claims.buildType, buildType)
  }
  check('signer_fingerprint', claims.signerFingerprint, signer)
  check('accept_signer', claims.acceptSigner, signer)
  return {
    build: {
      ...file,
      buildId: claims.buildId,
      buildType: claims.buildType ?? buildType,
      versionCode: facts.versionCode,
      versionName,
      gitSha: claims.gitSha ?? null,
      ciRunId: claims.ciRunId ?? null,
      signerFingerprint: signer,
    },
    facts: apk,
    replaced: signing.kind === 'verified' ? signing.replaced : [],
    isSignerAccepted: claims.acceptSigner !== undefined,
    isStaged: claims.isStaged,
  }
}

/** As a terminal may show it. */
function onOneLine(text: string): string {
  return replaceUnsafe(text).replace(/[\n\t]/g, ' ')
}

function check<T>(field: string, claimed: T | undefined, actual: T | null): void {
  if (claimed === undefined || claimed === actual) return
  const message = `is ${claimed}, but the APK says ${actual ?? 'nothing'}`
  throw new AppError('apk_mismatch', `${field} ${message}.`, { errors: [{ field, message }] })
}

/** Android's longVersionCode, as far as JSON numbers hold it exactly. */
function readVersionCode(text: string | null): number | undefined {
  if (text === null || text === '') return undefined
  const versionCode = /^\d{1,16}$/.test(text) ? Number(text) : -1
  if (versionCode < 0 || !Number.isSafeInteger(versionCode)) {
    throw invalidField('version_code', `must be a whole number, 0 to ${Number.MAX_SAFE_INTEGER}`)
  }
  return versionCode
}

/** Empty means absent: CI scripts pass on variables that are not set. */
function optionalText(
  query: URLSearchParams,
  name: string,
  pattern?: RegExp,
  maxLength = MAX_TEXT_LENGTH,
): string | undefined {
  if (query.get(name) === '') return undefined
  return queryString(query, name, maxLength, pattern)
}

/** In the form of `signerText`, whatever the order of the digests. */
function optionalSigners(
  query: URLSearchParams,
  name: string,
  pattern: RegExp,
): string | undefined {
  const text = optionalText(query, name, pattern, MAX_SIGNERS_LENGTH)
  return text?.replaceAll(':', '').toLowerCase().split(',').sort().join()
}

function readChecksum(header: string | string[] | undefined): Buffer | undefined {
  if (header === undefined) return undefined
  if (typeof header !== 'string' || !/^[0-9a-f]{64}$/i.test(header)) {
    throw invalidField('x-apk-sha256', 'must be the SHA-256 of the body in hex')
  }
  return Buffer.from(header, 'hex')
}

function checksumMismatch(promised: Buffer, sha256: Buffer): AppError {
  const [wanted, received] = [promised, sha256].map((one) => one.toString('hex'))
  const message = `is ${wanted}, but ${received} arrived`
  return new AppError('checksum_mismatch', `X-APK-SHA256 ${message}.`, {
    errors: [{ field: 'x-apk-sha256', message }],
  })
}

function declaredBytes(contentLength: string | undefined): number | undefined {
  return contentLength === undefined ? undefined : Number(contentLength)
}
