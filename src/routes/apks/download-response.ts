/**
 * The response to a download by any kind of caller: 200, 206, 304, 412 or 416 with their headers. A HEAD gets the
 * headers of its GET but is no download: no row, no counter, and its line is `http.request`. A 304
 * is no download either, but its line is `apk.download`: phones poll with If-None-Match.
 */
import type { ReadApk } from '../../apk/cache.ts'
import type { Build } from '../../db/apks/apks.ts'
import { AppError } from '../../domain/errors.ts'
import type { Downloader } from '../../domain/identity.ts'
import { PROBLEM_CONTENT_TYPE, problemOf } from '../../http/errors.ts'
import { lastModified } from '../../http/range/preconditions.ts'
import {
  contentRange,
  type Selection,
  selectBytes,
  unsatisfiedRange,
} from '../../http/range/range.ts'
import { jsonText } from '../../http/respond.ts'
import type { BaseRequest, RequestContext, StreamEnding, StreamReply } from '../../http/route.ts'
import { CLIENT_CLOSED, endLine, headLine } from './download-log.ts'
import { beginDownload, type DownloadRecordDeps, type DownloadResponse } from './download-record.ts'

export interface DownloadResponseDeps extends DownloadRecordDeps {
  /** The bytes of a build. */
  readonly readApk: ReadApk
  readonly now: () => Date
}

/** When the resource, a build or the latest build of a type, last became what it is. */
export interface Modified {
  /** RFC 3339. */
  readonly modifiedAt: string
  /** See Representation. */
  readonly isDateStrong: boolean
}

/** Throws 429 `rate_limited` or 503 `overloaded` where too many downloads run. */
export async function respondWithApk(
  deps: DownloadResponseDeps,
  request: BaseRequest,
  build: Build,
  downloader: Downloader,
  { modifiedAt, isDateStrong }: Modified,
): Promise<StreamReply> {
  const etag = `"${build.sha256.toString('hex')}"`
  const modifiedAtMs = Date.parse(modifiedAt)
  const file = { etag, sizeBytes: build.sizeBytes, modifiedAtMs, isDateStrong }
  const nowS = Math.floor(deps.now().getTime() / 1000)
  const selection = selectBytes(request.method, request.headers, file, nowS)
  const headers = buildHeaders(build, etag, lastModified(file, nowS))
  if (request.method === 'HEAD' && selection.kind === 'precondition_failed') {
    throw preconditionFailed(headers)
  }
  const response = responseOf(deps, build, headers, selection, request.context)
  const reply = {
    kind: 'stream',
    status: response.status,
    headers: response.headers,
    sizeBytes: response.sizeBytes,
  } as const
  if (request.method === 'HEAD') {
    return { ...reply, stream: null, ended: async (ending) => headLine(ending, request.context) }
  }
  const { body } = response
  if (body === null) {
    const ended = async ({ isWhole }: StreamEnding) =>
      endLine(build, downloader, request.context, 0, isWhole ? undefined : CLIENT_CLOSED)
    return { ...reply, stream: null, ended }
  }

  return {
    ...reply,
    ...(await beginDownload(deps, request, build, downloader, { ...response, body })),
  }
}

function responseOf(
  deps: DownloadResponseDeps,
  build: Build,
  headers: Readonly<Record<string, string>>,
  selection: Selection,
  context: RequestContext,
): DownloadResponse {
  const { sizeBytes } = build
  switch (selection.kind) {
    case 'not_modified':
      return { ...NOTHING, status: 304, headers, body: null, sizeBytes: null, reason: null }
    case 'precondition_failed':
      return refusal(preconditionFailed(headers), context)
    case 'unsatisfiable': {
      const range = { ...headers, 'content-range': unsatisfiedRange(sizeBytes) }
      const message = `The file has ${sizeBytes} bytes.`
      return refusal(new AppError('range_not_satisfiable', message, { headers: range }), context)
    }
    case 'whole':
    case 'part': {
      const isPart = selection.kind === 'part'
      const { firstByte, lastByte } = isPart ? selection : { firstByte: 0, lastByte: sizeBytes - 1 }
      const fileBytes = lastByte - firstByte + 1
      return {
        status: isPart ? 206 : 200,
        headers: {
          ...headers,
          ...fileHeaders(build),
          ...(isPart && { 'content-range': contentRange(firstByte, lastByte, sizeBytes) }),
        },
        body: () => deps.readApk(build, firstByte, lastByte),
        sizeBytes: fileBytes,
        fileBytes,
        rangeStart: isPart ? firstByte : null,
        reachesEnd: lastByte === sizeBytes - 1,
        reason: null,
      }
    }
  }
}

const NOTHING = { fileBytes: 0, rangeStart: null, reachesEnd: false } as const

/** A problem in the place of the file; a download all the same, with its row and line. */
function refusal(error: AppError, context: RequestContext): DownloadResponse {
  const { status, headers, body } = problemOf(error, context.ingressId, () => 0)
  const bytes = Buffer.from(jsonText(body))
  return {
    ...NOTHING,
    status,
    headers: { ...headers, 'content-type': PROBLEM_CONTENT_TYPE },
    body: () => once(bytes),
    sizeBytes: bytes.length,
    reason: error.code,
  }
}

function preconditionFailed(headers: Readonly<Record<string, string>>): AppError {
  return new AppError(
    'precondition_failed',
    'If-Match or If-Unmodified-Since does not hold: another build is here now. Download it from its first byte.',
    { headers },
  )
}

/** With every answer that is about this build. */
function buildHeaders(
  build: Build,
  etag: string,
  modified: string | undefined,
): Record<string, string> {
  return {
    etag,
    ...(modified !== undefined && { 'last-modified': modified }),
    'x-apk-sha256': build.sha256.toString('hex'),
    'x-apk-version-code': String(build.versionCode),
    'x-apk-build-id': build.buildId,
    'accept-ranges': 'bytes',
  }
}

/** With its bytes. */
function fileHeaders(build: Build): Record<string, string> {
  // A build id may hold a colon, which Windows does not take in a file name.
  const fileName = `${build.buildId.replaceAll(':', '_')}.apk`
  return {
    'content-type': 'application/vnd.android.package-archive',
    'content-disposition': `attachment; filename="${fileName}"`,
  }
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes
}
