/** Responses to input that never became a request; Node would send plain ones without an id. */
import { STATUS_CODES } from 'node:http'
import { AppError } from '../../domain/errors.ts'
import type { RequestLog } from '../../telemetry/log/log.ts'
import type { RouteMetrics } from '../../telemetry/metrics/metrics.ts'
import { peerAddress } from '../client-address.ts'
import { PROBLEM_CONTENT_TYPE, problemOf } from '../errors.ts'
import { writeRefusal } from '../request-lines.ts'
import { jsonText } from '../respond.ts'
import { newContext, UNMATCHED } from '../route.ts'
import type { Connection } from './connection.ts'

export interface RawResponseDeps {
  readonly log: RequestLog
  readonly metrics: RouteMetrics
  readonly newId: () => string
  readonly random: () => number
}

/** Writes one refusal to the socket and closes it. The input is never logged: it may hold a token. */
export function respondRaw(
  error: NodeJS.ErrnoException,
  connection: Connection,
  deps: RawResponseDeps,
): void {
  const { socket } = connection
  if (!socket.writable || error.code === 'ECONNRESET') {
    // After its last response a connection is closing already.
    if (isCutOff(error) || !socket.writableEnded) socket.destroy()
    return
  }
  const requestId = deps.newId()
  const refusal = rawRefusal(error)
  const { status, body } = problemOf(refusal, requestId, deps.random)
  const text = jsonText(body)
  socket.write(
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n` +
      `x-request-id: ${requestId}\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\n` +
      `connection: close\r\ncontent-type: ${PROBLEM_CONTENT_TYPE}\r\n` +
      `content-length: ${Buffer.byteLength(text)}\r\n\r\n${text}`,
  )
  connection.lingeringClose()
  deps.metrics.ended('OTHER', status, 0)
  const ip = peerAddress(socket.remoteAddress)
  writeRefusal(deps.log, {
    code: refusal.code,
    caller: newContext(requestId, UNMATCHED, false, ip, null),
    ending: { statusCode: status, latencyMs: 0 },
    line: () => ({
      event: 'http.request',
      fields: { method: null, reason: refusal.code, admin: null, http_request_id: null },
      level: 'WARN',
    }),
  })
}

/** Node finds timeouts with a timer; every other error follows input. */
export function isTimeout({ code }: NodeJS.ErrnoException): boolean {
  return code === 'ERR_HTTP_REQUEST_TIMEOUT'
}

/** No response can arrive: the client has left, or half-closed within a request. */
export function isCutOff({ code }: NodeJS.ErrnoException): boolean {
  return code === 'HPE_INVALID_EOF_STATE' || code === 'ECONNRESET'
}

/** Input for which Node reports no error: a body in too many small chunks, or a request that must not begin. */
export type RefusedInput = 'SMALL_CHUNKS' | 'NO_REQUEST'

/** In place of the parser's error. */
export function refusedInput(code: RefusedInput): NodeJS.ErrnoException {
  return Object.assign(new Error('input that is not served'), { code })
}

/** The refusal for an error of the parser. */
export function rawRefusal(error: NodeJS.ErrnoException): AppError {
  switch (error.code) {
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return new AppError('request_timeout', 'The request did not arrive in time. Send it again.')
    case 'HPE_HEADER_OVERFLOW':
      return new AppError('headers_too_large', 'The request head may have at most 8192 bytes.')
    case 'HPE_CHUNK_EXTENSIONS_OVERFLOW':
      return new AppError('body_too_large', 'Chunk extensions are too large.')
    case 'SMALL_CHUNKS' satisfies RefusedInput:
      return new AppError('body_too_large', 'The body has too many small chunks. Send larger ones.')
    default:
      return new AppError('bad_request', 'This is no valid HTTP/1.1 request.')
  }
}
