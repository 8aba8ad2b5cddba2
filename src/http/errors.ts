/** The one table of codes and statuses, and the one place where a thrown value becomes an answer (RFC 9457). */
import { STATUS_CODES } from 'node:http'
import { AppError, type ErrorCode } from '../domain/errors.ts'

export const STATUS = {
  bad_json: 400,
  bad_path: 400,
  bad_request: 400,
  unauthenticated: 401,
  wrong_credential: 401,
  token_unknown: 401,
  token_expired: 401,
  token_revoked: 401,
  token_exhausted: 401,
  token_superseded: 401,
  signature_invalid: 401,
  forbidden: 403,
  https_required: 403,
  not_found: 404,
  device_unknown: 404,
  command_unknown: 404,
  token_not_found: 404,
  apk_none: 404,
  build_unknown: 404,
  method_not_allowed: 405,
  request_timeout: 408,
  alias_mismatch: 409,
  alias_taken: 409,
  token_not_active: 409,
  request_id_conflict: 409,
  command_ended: 409,
  build_conflict: 409,
  device_deleted: 410,
  precondition_failed: 412,
  body_too_large: 413,
  unsupported_media: 415,
  range_not_satisfiable: 416,
  expectation_failed: 417,
  invalid_field: 422,
  action_unknown: 422,
  apk_invalid: 422,
  checksum_mismatch: 422,
  rate_limited: 429,
  headers_too_large: 431,
  internal: 500,
  transfer_encoding: 501,
  overloaded: 503,
  db_unavailable: 503,
  not_provisioned: 503,
  shutting_down: 503,
  insufficient_storage: 507,
} as const satisfies Record<ErrorCode, number>

export interface Problem {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: Readonly<Record<string, unknown>>
}

export const PROBLEM_CONTENT_TYPE = 'application/problem+json'

/** What was thrown, as a refusal. Anything unexpected is 500 `internal`; its text stays in the log. */
export function toAppError(thrown: unknown): AppError {
  if (thrown instanceof AppError) return thrown
  return new AppError('internal', 'Something went wrong on our side. Try again later.', {
    cause: thrown,
  })
}

/** `random` in [0, 1): spreads the return of many clients where the error names no wait of its own. */
export function problemOf(error: AppError, requestId: string, random: () => number): Problem {
  const status = STATUS[error.code]
  const needsRetryAfter = status === 429 || status === 503
  const retryAfterS = error.retryAfterS ?? 1 + Math.floor(random() * 5)
  return {
    status,
    headers: {
      ...error.headers,
      ...(needsRetryAfter && { 'retry-after': String(retryAfterS) }),
      ...(status === 401 && { 'www-authenticate': 'Bearer' }), // RFC 9110, section 15.5.2
    },
    body: {
      type: 'about:blank',
      title: STATUS_CODES[status] ?? 'Error',
      status,
      code: error.code,
      detail: error.message,
      request_id: requestId,
      ...(error.errors.length > 0 && { errors: error.errors }),
      ...error.extra,
    },
  }
}
