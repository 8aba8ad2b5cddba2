/**
 * The record of one download: its count towards the limits of downloads at once, its row in
 * apk_download_events, its counter and its terminal line.
 *
 * begun (the row stands, before the first byte) → ended (row completed, counted no more). `completed`
 * means that the client now has the file's last byte: 412, 416, a part before the end and a broken
 * connection are not.
 */

import type { Build } from '../../db/apks/apks.ts'
import type { DownloadStore } from '../../db/apks/downloads.ts'
import { AppError } from '../../domain/errors.ts'
import { failedCallOf } from '../../domain/failed-call.ts'
import type { Downloader } from '../../domain/identity.ts'
import type { BaseRequest, StreamEnding, StreamReply } from '../../http/route.ts'
import type { ApkLimits } from '../../security/apk-limits.ts'
import { CLIENT_CLOSED, endLine, type Failure } from './download-log.ts'

export interface DownloadRecordDeps {
  readonly downloads: DownloadStore
  /** Makes the id of a row: a UUID. */
  readonly newId: () => string
  /** Throws 429 `rate_limited` or 503 `overloaded` where too many downloads run. */
  readonly admitDownload: ApkLimits['admitDownload']
  /** The cell of apk_download_total. */
  readonly apkDownload: (buildType: string, source: Downloader['source']) => { add(): void }
}

/** What is about to be answered. */
export interface DownloadResponse {
  readonly status: number
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>
  /** Starts the body; null where the status has none. */
  readonly body: (() => AsyncIterable<Uint8Array>) | null
  /** Length of the body; null where the status has none. */
  readonly sizeBytes: number | null
  /** How much of the body is the file's: all of it, or nothing. */
  readonly fileBytes: number
  /** First byte of a 206; null with any other. */
  readonly rangeStart: number | null
  /** A whole answer leaves the client with the file's last byte. */
  readonly reachesEnd: boolean
  /** Why the download fails although the answer is given. */
  readonly reason: string | null
}

/** Writes the row; from then on `ended` completes it. Throws where too many downloads run. A 412 or 416 takes no place. */
export async function beginDownload(
  deps: DownloadRecordDeps,
  { context }: BaseRequest,
  build: Build,
  downloader: Downloader,
  response: DownloadResponse & { readonly body: NonNullable<DownloadResponse['body']> },
): Promise<Pick<StreamReply, 'stream' | 'started' | 'ended'>> {
  const eventId = deps.newId()
  const live = response.fileBytes > 0 ? deps.admitDownload(downloader, context.ip) : undefined
  let fault: unknown

  async function ended({ bytesSent, isWhole }: StreamEnding) {
    live?.end()
    const isCompleted = isWhole && response.reachesEnd
    const fileBytesSent = response.fileBytes > 0 ? bytesSent : 0
    const failure = failureOf(response, isWhole, live?.gaveWay ?? false, fault)
    const reason = failure?.reason ?? null
    const isRecorded = await complete(deps.downloads, eventId, fileBytesSent, isCompleted, reason)
    // The counter equals the number of completed rows: a row that could not be completed is not counted.
    if (isCompleted && isRecorded) deps.apkDownload(build.buildType, downloader.source).add()
    return endLine(build, downloader, context, fileBytesSent, failure)
  }

  try {
    await deps.downloads.begin({
      eventId,
      buildId: build.buildId,
      downloader,
      ip: context.ip,
      requestId: context.requestId,
      statusCode: response.status,
      rangeStart: response.rangeStart,
    })
  } catch (error) {
    live?.end()
    throw error
  }
  const stream = noticing(response.body, (error) => {
    fault = error
  })
  return { stream, started: (recipient) => live?.started(recipient), ended }
}

/** False where the database stayed away; the pool has told of it then. */
async function complete(
  downloads: DownloadStore,
  eventId: string,
  bytesSent: number,
  isCompleted: boolean,
  reason: string | null,
): Promise<boolean> {
  try {
    await downloads.complete(eventId, bytesSent, isCompleted, reason)
    return true
  } catch (error) {
    if (error instanceof AppError) return false
    throw error
  }
}

function failureOf(
  response: DownloadResponse,
  isWhole: boolean,
  gaveWay: boolean,
  fault: unknown,
): Failure | undefined {
  if (fault !== undefined) {
    const reason = fault instanceof AppError ? fault.code : 'internal'
    return { reason, isOurs: true, failedCall: failedCallOf(fault) }
  }
  if (!isWhole) return gaveWay ? { reason: 'too_slow', isOurs: false } : CLIENT_CLOSED
  return response.reason === null ? undefined : { reason: response.reason, isOurs: false }
}

/** Tells of what the source fails with: to the connection it looks like a client that left. */
async function* noticing(
  start: () => AsyncIterable<Uint8Array>,
  onFault: (error: unknown) => void,
): AsyncGenerator<Uint8Array> {
  try {
    yield* start()
  } catch (error) {
    onFault(error)
    throw error
  }
}
