/**
 * Classifies FCM's responses for the command and for the sender. Pure, except for `readBody`. Sources:
 * firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode, .../cloud-messaging/scale-fcm,
 * firebase-admin-node:src/messaging/messaging-errors-internal.ts (which treats any 404 as "unregistered"; here only
 * an FcmError marks a token dead, or a typo in the project id would mark the whole fleet's).
 */
import { parseRetryAfterMs } from '../domain/delivery/backoff.ts'

interface ResponseDetails {
  /** null: there was no HTTP response. */
  readonly fcmHttpCode: number | null
  /** The FcmError code; without one the google.rpc status; without a response `TIMEOUT` or `NETWORK`. */
  readonly fcmStatus: string
  /** One bounded line for people, without secrets. */
  readonly detail: string
}

export type FcmResult =
  | { readonly kind: 'sent'; readonly fcmHttpCode: number; readonly fcmStatus: 'OK' }
  /** The push identity, a token or a FID, will never work again. */
  | ({ readonly kind: 'token_dead' } & ResponseDetails)
  /** The message is invalid, which is a bug of ours; the token and the sender are fine. */
  | ({ readonly kind: 'rejected' } & ResponseDetails)
  /** FCM rejected the access token. */
  | ({ readonly kind: 'unauthenticated' } & ResponseDetails)
  /** Project, URL, API or permission is wrong: no message can be sent. Proves nothing about tokens. */
  | ({ readonly kind: 'misconfigured' } & ResponseDetails)
  /** Retryable. `retryAfterMs`: FCM's Retry-After, or 60 s for a 429 without one; null leaves it to the backoff. */
  | ({ readonly kind: 'retry'; readonly retryAfterMs: number | null } & ResponseDetails)

/** "Minimum initial delay of 1 minute" (ErrorCode page, QUOTA_EXCEEDED). */
const QUOTA_RETRY_MS = 60_000

/** The status of each HTTP code if the body has none (google/rpc/code.proto). */
const RPC_STATUS: Readonly<Record<number, string>> = {
  400: 'INVALID_ARGUMENT',
  401: 'UNAUTHENTICATED',
  403: 'PERMISSION_DENIED',
  404: 'NOT_FOUND',
  429: 'RESOURCE_EXHAUSTED',
  500: 'INTERNAL',
  502: 'UNAVAILABLE',
  503: 'UNAVAILABLE',
  504: 'DEADLINE_EXCEEDED',
}

export interface FcmHttpResponse {
  readonly httpCode: number
  /** Any text: JSON, HTML, truncated or empty. */
  readonly body: string
  /** The raw header. */
  readonly retryAfter: string | null
}

/** Uses the FcmError first, then the google.rpc status, then the HTTP code. Never throws. */
export function classifyFcmResponse(response: FcmHttpResponse, now: Date): FcmResult {
  const { httpCode } = response
  if (httpCode >= 200 && httpCode < 300) {
    return { kind: 'sent', fcmHttpCode: httpCode, fcmStatus: 'OK' }
  }
  const error = readError(response.body)
  const rpcStatus = error.rpcStatus ?? RPC_STATUS[httpCode] ?? 'UNKNOWN'
  const details: ResponseDetails = {
    fcmHttpCode: httpCode,
    fcmStatus: error.fcmError ?? rpcStatus,
    detail: safeText(error.message === '' ? `HTTP ${httpCode}` : error.message),
  }
  const kind =
    kindOfFcmError(error) ?? kindOfRpcStatus(error.rpcStatus, error) ?? kindOfHttpCode(httpCode)
  if (kind !== 'retry' && kind !== 'quota') return { kind, ...details }

  const askedMs = parseRetryAfterMs(response.retryAfter, now)
  return {
    kind: 'retry',
    retryAfterMs: askedMs ?? (kind === 'quota' ? QUOTA_RETRY_MS : null),
    ...details,
  }
}

/** Result of an attempt that timed out or failed in the network. FCM may have accepted the message. */
export function noResponse(fcmStatus: 'TIMEOUT' | 'NETWORK', detail: string): FcmResult {
  return {
    kind: 'retry',
    retryAfterMs: null,
    fcmHttpCode: null,
    fcmStatus,
    detail: safeText(detail),
  }
}

/**
 * Makes foreign text safe for a log line: one line, at most 300 characters, nothing long enough to be a secret.
 * Google's links and project ids (at most 30 characters) stay readable.
 */
export function safeText(text: string): string {
  return text
    .slice(0, 4096)
    .replace(/[^\x20-\x7e]+/g, ' ')
    .replace(/[\w~+=-]{32,}/g, '[cut]')
    .slice(0, 300)
    .trim()
}

/** Longest response that is read, bytes; FCM's are below 2 KiB. */
const MAX_BODY_BYTES = 64 * 1024

/** Reads the body to its end or its limit, since an unread body keeps its socket. The request's signal bounds the time. */
export async function readBody(body: AsyncIterable<Uint8Array> | null): Promise<string> {
  const chunks: Uint8Array[] = []
  let sizeBytes = 0
  for await (const chunk of body ?? []) {
    chunks.push(chunk)
    sizeBytes += chunk.byteLength
    if (sizeBytes >= MAX_BODY_BYTES) break
  }
  return Buffer.concat(chunks).subarray(0, MAX_BODY_BYTES).toString('utf8')
}

type Kind = Exclude<FcmResult['kind'], 'sent'> | 'quota'

interface GoogleError {
  readonly fcmError: string | null
  readonly rpcStatus: string | null
  readonly message: string
  /** Fields named by a google.rpc.BadRequest detail, such as `message.token` or `message.fid`. */
  readonly badFields: readonly string[]
}

function kindOfFcmError(error: GoogleError): Kind | null {
  switch (error.fcmError) {
    case 'UNREGISTERED':
    case 'SENDER_ID_MISMATCH':
      return 'token_dead'
    case 'INVALID_ARGUMENT':
      return namesTheAddress(error) ? 'token_dead' : 'rejected'
    case 'THIRD_PARTY_AUTH_ERROR': // APNs or web push: the token is not from an Android device
      return 'rejected'
    case 'QUOTA_EXCEEDED':
      return 'quota'
    case 'UNAVAILABLE':
    case 'INTERNAL':
      return 'retry'
    default:
      return null
  }
}

function kindOfRpcStatus(rpcStatus: string | null, error: GoogleError): Kind | null {
  switch (rpcStatus) {
    case 'INVALID_ARGUMENT':
      return namesTheAddress(error) ? 'token_dead' : 'rejected'
    case 'UNAUTHENTICATED':
      return 'unauthenticated'
    case 'PERMISSION_DENIED':
    case 'NOT_FOUND':
      return 'misconfigured'
    case 'RESOURCE_EXHAUSTED':
      return 'quota'
    case 'INTERNAL':
    case 'UNAVAILABLE':
    case 'DEADLINE_EXCEEDED':
      return 'retry'
    default:
      return null
  }
}

function kindOfHttpCode(httpCode: number): Kind {
  if (httpCode === 401) return 'unauthenticated'
  if (httpCode === 400 || httpCode === 413 || httpCode === 422) return 'rejected'
  if (httpCode === 429) return 'quota'
  if (httpCode === 408 || httpCode >= 500) return 'retry'
  return 'misconfigured' // 403, 404, and codes that only a wrong URL or a proxy returns: 3xx, 405, 407 …
}

const ADDRESSES = ['message.token', 'message.fid']

/** "The registration token is not a valid FCM registration token". Another invalid field is our bug, whatever the text. */
function namesTheAddress({ message, badFields }: GoogleError): boolean {
  if (badFields.length > 0) return badFields.every((field) => ADDRESSES.includes(field))
  return /registration token|installation id/i.test(message)
}

const CODE = /^[A-Z][A-Z0-9_]{0,63}$/

function readError(body: string): GoogleError {
  const root = parseJson(body)
  const error = field(Array.isArray(root) ? root[0] : root, 'error')
  const detailList = field(error, 'details')
  const details: readonly unknown[] = Array.isArray(detailList) ? detailList : []
  const message = field(error, 'message')
  return {
    fcmError: details.map(fcmErrorOf).find((code) => code !== null) ?? null,
    rpcStatus: code(field(error, 'status')),
    message: typeof message === 'string' ? message : '',
    badFields: details.flatMap(badFieldsOf),
  }
}

/** Ignores a detail whose type is not FcmError. */
function fcmErrorOf(detail: unknown): string | null {
  const type = field(detail, '@type')
  if (typeof type === 'string' && !type.endsWith('google.firebase.fcm.v1.FcmError')) return null
  return code(field(detail, 'errorCode'))
}

function badFieldsOf(detail: unknown): readonly string[] {
  const violations = field(detail, 'fieldViolations')
  if (!Array.isArray(violations)) return []
  return violations.map((violation) => String(field(violation, 'field') ?? ''))
}

function code(value: unknown): string | null {
  return typeof value === 'string' && CODE.test(value) ? value : null
}

/** The value's own property, or undefined. */
export function field(value: unknown, name: string): unknown {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return undefined
  return (value as Record<string, unknown>)[name] // an object that owns `name`, checked above
}

/** null if the text is not JSON. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}
