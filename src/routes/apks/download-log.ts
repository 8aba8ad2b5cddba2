/** The terminal lines of a download: how it went, or why there was none. */

import type { Build } from '../../db/apks/apks.ts'
import { type FailedCall, NO_CALL } from '../../domain/failed-call.ts'
import type { Downloader } from '../../domain/identity.ts'
import type { BaseRequest, RequestContext, StreamEnding } from '../../http/route.ts'

type Line = Parameters<BaseRequest['log']>[0]

/** Why a download failed. */
export interface Failure {
  readonly reason: string
  readonly isOurs: boolean
  /** The database call that failed. */
  readonly failedCall?: FailedCall
}

export const CLIENT_CLOSED: Failure = { reason: 'client_closed', isOurs: false }

/** `failure` undefined: the answer ended normally. */
export function endLine(
  build: Build,
  { source }: Downloader,
  { tokenId }: RequestContext,
  bytesSent: number,
  failure: Failure | undefined,
): Line {
  const fields = {
    build_id: build.buildId,
    version_code: build.versionCode,
    version_name: build.versionName,
    build_type: build.buildType,
    token_id: tokenId,
    source,
    bytes_sent: bytesSent,
  }
  if (failure === undefined) return { event: 'apk.download', fields }
  const level = failure.isOurs ? 'ERROR' : 'WARN'
  const { reason, failedCall = NO_CALL } = failure
  return { event: 'apk.download.fail', fields: { ...fields, reason, ...failedCall }, level }
}

/** The line of a download that was refused before there was an answer to give. */
export function downloadFailLine(
  reason: string,
  statusCode: number,
  { admin, deviceId, tokenId }: RequestContext,
  failedCall: FailedCall,
): Line {
  return {
    event: 'apk.download.fail',
    fields: {
      build_id: null,
      version_code: null,
      version_name: null,
      build_type: null,
      token_id: tokenId,
      source: admin ? 'manual' : deviceId ? 'ota' : tokenId ? 'enrollment' : null,
      bytes_sent: null,
      reason,
      ...failedCall,
    },
    level: statusCode >= 500 ? 'ERROR' : 'WARN',
  }
}

/** Of a HEAD, which downloads nothing. */
export function headLine({ isWhole }: StreamEnding, { admin }: RequestContext): Line {
  return {
    event: 'http.request',
    fields: {
      method: 'HEAD',
      reason: isWhole ? null : 'client_closed',
      admin,
      http_request_id: null,
    },
    level: isWhole ? 'INFO' : 'WARN',
  }
}
