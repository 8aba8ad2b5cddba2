/**
 * The error codes that callers can receive, and the error that carries one. Any other error is a bug and becomes 500
 * `internal`. http/errors.ts maps codes to statuses.
 */
export type ErrorCode =
  | 'bad_json'
  | 'bad_path'
  | 'bad_request'
  | 'unauthenticated'
  | 'wrong_credential'
  | 'token_unknown'
  | 'token_expired'
  | 'token_revoked'
  | 'token_exhausted'
  | 'token_superseded'
  | 'signature_invalid'
  | 'forbidden'
  | 'https_required'
  | 'not_found'
  | 'device_unknown'
  | 'command_unknown'
  | 'token_not_found'
  | 'apk_none'
  | 'build_unknown'
  | 'job_unknown'
  | 'method_not_allowed'
  | 'request_timeout'
  | 'alias_mismatch'
  | 'alias_taken'
  | 'token_not_active'
  | 'request_id_conflict'
  | 'command_ended'
  | 'build_conflict'
  | 'signer_changed'
  | 'selection_changed'
  | 'job_ended'
  | 'device_deleted'
  | 'cursor_gone'
  | 'precondition_failed'
  | 'body_too_large'
  | 'unsupported_media'
  | 'range_not_satisfiable'
  | 'expectation_failed'
  | 'invalid_field'
  | 'action_unknown'
  | 'apk_invalid'
  | 'apk_mismatch'
  | 'apk_signature'
  | 'checksum_mismatch'
  | 'selection_empty'
  | 'rate_limited'
  | 'headers_too_large'
  | 'internal'
  | 'transfer_encoding'
  | 'overloaded'
  | 'db_unavailable'
  | 'not_provisioned'
  | 'shutting_down'
  | 'insufficient_storage'

/** An invalid field of a request; `field` is its wire name. */
export interface FieldError {
  readonly field: string
  readonly message: string
}

export interface AppErrorOptions {
  readonly cause?: unknown
  /** The invalid fields. Only for 422, and then never empty. */
  readonly errors?: readonly FieldError[]
  /** Further members of the problem JSON, such as the `reasons` of /readyz. */
  readonly extra?: Readonly<Record<string, unknown>>
  /** Further response headers, such as `allow` for 405. Lower-case names. */
  readonly headers?: Readonly<Record<string, string>>
  /** Whole seconds. 429 and 503 have a default. */
  readonly retryAfterS?: number
}

/** An error for the caller. `message` becomes `detail`: it says what to do and reveals no internals. */
export class AppError extends Error {
  override readonly name: string = 'AppError'
  readonly code: ErrorCode
  readonly errors: readonly FieldError[]
  readonly extra: Readonly<Record<string, unknown>>
  readonly headers: Readonly<Record<string, string>>
  readonly retryAfterS: number | undefined

  constructor(code: ErrorCode, message: string, options: AppErrorOptions = {}) {
    // No stack: the fault is the caller's, or the cause has its own. Capturing one takes 16 µs.
    const { stackTraceLimit } = Error
    Error.stackTraceLimit = 0
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    Error.stackTraceLimit = stackTraceLimit
    this.code = code
    this.errors = options.errors ?? []
    this.extra = options.extra ?? {}
    this.headers = options.headers ?? {}
    this.retryAfterS = options.retryAfterS
  }
}

export function shuttingDown(): AppError {
  return new AppError('shutting_down', 'This server is stopping. Try again.')
}

/** 422 `invalid_field` about one field. */
export function invalidField(field: string, message: string): AppError {
  return new AppError('invalid_field', `${field}: ${message}`, { errors: [{ field, message }] })
}

/** 422 about the bytes that were sent. */
export function apkRefused(code: 'apk_invalid' | 'apk_signature', message: string): AppError {
  return new AppError(code, message, { errors: [{ field: 'body', message }] })
}
