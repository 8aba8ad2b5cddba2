/**
 * The answer to a download, whoever asks: 200, 206, 304 or 416 with their headers. A HEAD gets the
 * headers of its GET but is no download: no row, no counter, and its line is `http.request`.
 */
import type { ReadApk } from '../apk/cache.ts'
import { AppError } from '../core/errors.ts'
import type { Downloader } from '../core/identity.ts'
import type { Build } from '../db/apks.ts'
import { PROBLEM_CONTENT_TYPE, problemOf, STATUS } from '../http/errors.ts'
import { contentRange, type Selection, selectBytes, unsatisfiedRange } from '../http/range.ts'
import { jsonText } from '../http/respond.ts'
import type { RequestContext, RouteRequest, StreamReply } from '../http/route.ts'
import { headLine } from './apk-download-line.ts'
import { type Answer, beginDownload, type DownloadRecordDeps } from './apk-download-record.ts'

export interface ApkAnswerDeps extends DownloadRecordDeps {
  /** The bytes of a build. */
  readonly readApk: ReadApk
}

/** Throws 429 `rate_limited` or 503 `overloaded` where too many downloads run. */
export async function answerApk(
  deps: ApkAnswerDeps,
  request: RouteRequest,
  build: Build,
  downloader: Downloader,
): Promise<StreamReply> {
  const file = { etag: `"${build.sha256.toString('hex')}"`, sizeBytes: build.sizeBytes }
  const selection = selectBytes(request.method, request.headers, file)
  const answer = answerOf(deps, build, selection, request.context)
  const reply = {
    kind: 'stream',
    status: answer.status,
    headers: answer.headers,
    sizeBytes: answer.sizeBytes,
  } as const
  if (request.method === 'HEAD') {
    return { ...reply, stream: null, ended: async (ending) => headLine(ending, request.context) }
  }

  return { ...reply, ...(await beginDownload(deps, request, build, downloader, answer)) }
}

function answerOf(
  deps: ApkAnswerDeps,
  build: Build,
  selection: Selection,
  context: RequestContext,
): Answer {
  const { sizeBytes } = build
  const headers = buildHeaders(build)
  const nothing = { fileBytes: 0, rangeStart: null, reachesEnd: false }
  switch (selection.kind) {
    case 'not_modified':
      return { ...nothing, status: 304, headers, body: null, sizeBytes: null, reason: null }
    case 'unsatisfiable': {
      const range = unsatisfiedRange(sizeBytes)
      const error = new AppError('range_not_satisfiable', `The file has ${sizeBytes} bytes.`)
      const problem = Buffer.from(jsonText(problemOf(error, context.ingressId, () => 0).body))
      return {
        ...nothing,
        status: STATUS.range_not_satisfiable,
        headers: { ...headers, 'content-type': PROBLEM_CONTENT_TYPE, 'content-range': range },
        body: () => once(problem),
        sizeBytes: problem.length,
        reason: error.code,
      }
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

/** With every answer that is about this build. */
function buildHeaders(build: Build): Record<string, string> {
  const sha256 = build.sha256.toString('hex')
  return {
    etag: `"${sha256}"`,
    'x-apk-sha256': sha256,
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
