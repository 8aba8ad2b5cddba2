/**
 * The table of error codes with their statuses; turns a thrown value into a problem (RFC 9457). A row's comment says what the
 * code means, `@act` what to do about it; docs/reference/errors.md and RUNBOOK.md come from them (links start from
 * docs/reference/).
 */
import { STATUS_CODES } from 'node:http'
import { AppError, type ErrorCode } from '../domain/errors.ts'

export const STATUS = {
  /** The body is not a JSON object. @act Fix the client. */
  bad_json: 400,
  /** The path cannot be decoded. @act Fix the client, or nothing: it may be background noise from the internet. */
  bad_path: 400,
  /** Not valid HTTP/1.1, a header given twice, or two credentials that differ. @act Fix the client or the proxy. */
  bad_request: 400,
  /** The credential is missing or malformed. @act [Why 401?](../../RUNBOOK.md#why-401) */
  unauthenticated: 401,
  /** A credential of another kind. @act [Why 401?](../../RUNBOOK.md#why-401) */
  wrong_credential: 401,
  /** The service did not issue this token. @act [Why 401?](../../RUNBOOK.md#why-401) */
  token_unknown: 401,
  /** An enrollment token past its time. @act Create another. */
  token_expired: 401,
  /** An admin revoked it. @act Ask who: [Who changed that?](../../RUNBOOK.md#who-changed-that) */
  token_revoked: 401,
  /**
   * Its uses are consumed. A phone that asks for a lost response gets this too, unless it proves to be the same phone:
   * without a `hardware_id`, or with one that many phones share, its description must agree; another `model` or
   * `manufacturer` never does.
   * @act Create another; two phones may share one by mistake.
   */
  token_exhausted: 401,
  /** The phone enrolled again. @act Nothing, or find the copy. */
  token_superseded: 401,
  /** Wrong secret, clock, or order of the signed parts. @act `sec.hmac.invalid` has the reason. */
  signature_invalid: 401,
  /** The admin token lacks the scope. @act Add the scope, or use the right token. */
  forbidden: 403,
  /**
   * Plain HTTP, a proxy that is not trusted, or a proxy on this host that reports HTTP.
   * @act `TRUSTED_PROXIES`; for a host on your own network: `PLAINTEXT_OK_CIDRS`.
   */
  https_required: 403,
  /**
   * No such path, or a run of slashes outside `/v1/`.
   * @act A client of another version. `unmatched` in the metrics is background noise from the internet. `/metrics`:
   * `METRICS_ENABLED=false`.
   */
  not_found: 404,
  /** No such device, or not the caller's. @act Look the alias up: `GET /admin/devices?alias=`. */
  device_unknown: 404,
  /** No such command, not this phone's, or pruned after `COMMAND_RETENTION_DAYS`. @act Nothing; the phone drops the result. */
  command_unknown: 404,
  /** No such enrollment token. @act `GET /v1/enroll-tokens`. */
  token_not_found: 404,
  /**
   * No build of that `build_type` is live and has its bytes.
   * @act Publish one; after a restore: [builds without bytes](../operate/backup.md#builds-without-bytes)
   */
  apk_none: 404,
  /** No such build. @act `GET /admin/apk/builds`. */
  build_unknown: 404,
  /** No such job, or pruned after `COMMAND_RETENTION_DAYS`. @act `GET /admin/jobs`. */
  job_unknown: 404,
  /** The path exists, but not for this method. @act `Allow` lists the methods. */
  method_not_allowed: 405,
  /** The head or body arrived too slowly. @act Check the client's network, or a proxy that buffers. */
  request_timeout: 408,
  /** The enrollment token is for another alias. @act Use the right token for that phone. */
  alias_mismatch: 409,
  /**
   * An active phone has that alias, and the token is not bound to it.
   * @act A token bound to the alias re-enrolls the phone; or use another alias.
   */
  alias_taken: 409,
  /** The token is already expired or used up; there is nothing to revoke. @act Nothing. */
  token_not_active: 409,
  /**
   * Another command has that id, or another batch of enrollment tokens has that `Idempotency-Key`.
   * @act Use a new `X-Request-ID` or key; to repeat a call, send `Idempotency-Key`.
   */
  request_id_conflict: 409,
  /** The command can no longer be cancelled. @act Read its verdict. */
  command_ended: 409,
  /** That id has other bytes, or was withdrawn. @act Use another id. */
  build_conflict: 409,
  /**
   * The APK is signed by another key than the package's builds before; the message names both.
   * @act Sign with the same key, rotate it with a lineage (`apksigner rotate`), or repeat with `accept_signer=` if phones are
   * to be reinstalled.
   */
  signer_changed: 409,
  /** The selection has another number of devices than `expect_devices`. Nothing was done. @act Look at the selection again. */
  selection_changed: 409,
  /** The job is done or was aborted, and cannot be paused, resumed or aborted any more. @act Read its verdict. */
  job_ended: 409,
  /** An admin deleted the phone. @act To bring it back, enroll it again. */
  device_deleted: 410,
  /**
   * The event that the cursor names is not kept any more (`EVENTS_RETENTION_DAYS`), or the database was restored from a
   * backup older than it.
   * @act Read the fleet again (`GET /admin/devices`, …), then the events from `after=now` on: take that cursor first.
   */
  cursor_gone: 410,
  /**
   * `If-Match` or `If-Unmodified-Since` of a download does not hold: another build is the latest now, and its rest does
   * not fit the beginning of the first.
   * @act Delete the part and download from the first byte.
   */
  precondition_failed: 412,
  /** The body exceeds the limit of its route ([bounds](bounds.md)). @act Fix the client; for an APK: `APK_MAX_BYTES`. */
  body_too_large: 413,
  /** Not `application/json`. @act Fix the client. */
  unsupported_media: 415,
  /** There is nothing after these bytes. @act Nothing: the phone has the whole file. */
  range_not_satisfiable: 416,
  /** An expectation other than `100-continue`. @act Fix the client. */
  expectation_failed: 417,
  /**
   * `errors` lists the fields. Admin routes refuse what they do not know, so that a mistyped filter does not select the
   * whole fleet: an unknown query parameter or body field (the message suggests the nearest one), a parameter given twice
   * or not in UTF-8, a body where none is expected. `holds U+202E`: a control, direction or invisible character that could
   * make a terminal show something else.
   * @act Fix the client.
   */
  invalid_field: 422,
  /** The action is not in `COMMAND_ACTIONS`. @act Add it, on every replica. */
  action_unknown: 422,
  /**
   * Not an APK that Android installs: an AAR, an app bundle, a split without its base, a zip of APKs, a damaged manifest; the
   * message says which.
   * @act Check what CI uploaded: `aapt dump badging`.
   */
  apk_invalid: 422,
  /**
   * The query says something that the APK does not; the message names both values.
   * @act Correct the query, or leave the parameter out.
   */
  apk_mismatch: 422,
  /**
   * The signature does not hold, was stripped, or is missing; the message says which.
   * @act Check what CI uploaded: `apksigner verify`. For unsigned builds: `APK_REQUIRE_SIGNATURE=false`
   */
  apk_signature: 422,
  /** Not the bytes that `X-APK-SHA256` promised. @act Upload again. */
  checksum_mismatch: 422,
  /** No device is in the selection. @act List it: `GET /admin/devices?where=`. */
  selection_empty: 422,
  /**
   * A limit of `RATE_LIMIT_…` or `APK_MAX_DOWNLOADS_…`, or too many requests of one token at once ([bounds](bounds.md)).
   * @act `sec.token.ratelimit` names it; `detail` says how much of it is used and when there is room.
   */
  rate_limited: 429,
  /** More than 8 KiB or 64 headers. @act Fix the client or the proxy. */
  headers_too_large: 431,
  /**
   * A bug in the service. `http.error` has the stack; a failed download has no stack, its `apk.download.fail` says
   * `internal`.
   * @act Keep the line and the `request_id`, and report it. A restart does not help.
   */
  internal: 500,
  /** A client or proxy sends a transfer encoding other than chunked. @act Fix the client. */
  transfer_encoding: 501,
  /**
   * A [bound](bounds.md) was reached: queue, pool, complex bodies, uploads or downloads at once. `cause` `no_connection`:
   * the pool; `locked`: another transaction holds that phone's row; `complex_bodies`: phones, or an attacker, send JSON with
   * more than 1,536 names and values.
   * @act [Is it overloaded?](../../RUNBOOK.md#is-it-overloaded); add a replica or connections. For `complex_bodies`, block the
   * `ip` with the most such lines: phones of others get it as well. Phones retry on their own.
   */
  overloaded: 503,
  /**
   * The service is starting, the database is away, or one statement took too long.
   * @act `db.unavailable` at that time: [Database trouble](../../RUNBOOK.md#database-trouble). Otherwise: [One statement,
   * not the database](../../RUNBOOK.md#one-statement-not-the-database)
   */
  db_unavailable: 503,
  /**
   * The service issued this device token, but the database does not know it: ERROR `device.unknown_to_database`.
   * @act The database was restored from before that enrollment, or `DATABASE_URL` names another one. Restore the right
   * one, or enroll these phones again. It is never 401, because phones would wipe themselves.
   */
  not_provisioned: 503,
  /** This replica is stopping. @act Nothing: the client tries again, on another replica. */
  shutting_down: 503,
  /** The disk of `DATA_DIR` or of the database is full; the service kept nothing. @act Free some space. */
  insufficient_storage: 507,
} as const satisfies Record<ErrorCode, number>

export interface Problem {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: Readonly<Record<string, unknown>>
}

export const PROBLEM_CONTENT_TYPE = 'application/problem+json'

/** Anything unexpected becomes 500 `internal`; its text stays in the log. */
export function toAppError(thrown: unknown): AppError {
  if (thrown instanceof AppError) return thrown
  return new AppError('internal', 'Something went wrong on our side. Try again later.', {
    cause: thrown,
  })
}

/** `random` in [0, 1) spreads the retries of many clients, unless the error has a wait of its own. */
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
