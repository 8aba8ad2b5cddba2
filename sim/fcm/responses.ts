/**
 * Responses of the fake FCM, with the bodies of the real one (firebase ErrorCode page;
 * google/rpc/error_details.proto).
 */

/** An HTTP response; its body is `json`, or `text` as HTML. */
export interface FakeResponse {
  readonly status: number
  readonly headers?: Readonly<Record<string, string>>
  readonly json?: unknown
  readonly text?: string
}

/** Responses to a correct send. `ok`: the registered devices decide. */
export const FCM_MODES = [
  'ok',
  'invalid_token', // 400 naming the token
  'invalid_argument', // 400 about anything else
  'unauthenticated', // 401
  'sender_id_mismatch', // 403
  'forbidden', // 403 without an FcmError
  'unregistered', // 404
  'not_found', // 404 without an FcmError
  'quota', // 429
  'internal', // 500
  'bad_gateway', // 502 with an HTML body
  'unavailable', // 503
  'gateway_timeout', // 504 with an HTML body
  'accept_then_reset', // delivered, and the connection is reset before the answer
  'hang', // not delivered, no answer
] as const

export type FcmMode = (typeof FCM_MODES)[number]

/** Responses of the token endpoint. */
export type TokenMode = 'ok' | 'error' | 'hang' | 'invalid_grant'

const FCM_ERROR = 'type.googleapis.com/google.firebase.fcm.v1.FcmError'

/** An error in Google's format; `errorCode` adds the FcmError detail, `badField` the BadRequest one. */
export function googleError(
  status: number,
  rpcStatus: string,
  message: string,
  extra: { readonly errorCode?: string; readonly badField?: string } = {},
): FakeResponse {
  const details: object[] = []
  if (extra.errorCode !== undefined) {
    details.push({ '@type': FCM_ERROR, errorCode: extra.errorCode })
  }
  if (extra.badField !== undefined) {
    const fieldViolations = [{ field: extra.badField, description: message }]
    details.push({ '@type': 'type.googleapis.com/google.rpc.BadRequest', fieldViolations })
  }
  return { status, json: { error: { code: status, message, status: rpcStatus, details } } }
}

export const UNAUTHENTICATED = googleError(
  401,
  'UNAUTHENTICATED',
  'Request had invalid authentication credentials. Expected OAuth 2 access token.',
)

export const INVALID_TOKEN = googleError(
  400,
  'INVALID_ARGUMENT',
  'The registration token is not a valid FCM registration token',
  { errorCode: 'INVALID_ARGUMENT' },
)

export const UNREGISTERED = googleError(404, 'NOT_FOUND', 'Requested entity was not found.', {
  errorCode: 'UNREGISTERED',
})

/** Without an FcmError: a wrong project or URL. */
export const NOT_FOUND = googleError(404, 'NOT_FOUND', 'Requested entity was not found.')

/** Modes with the same response to every message. */
export const CANNED: Readonly<
  Record<Exclude<FcmMode, 'ok' | 'accept_then_reset' | 'hang'>, FakeResponse>
> = {
  invalid_token: INVALID_TOKEN,
  invalid_argument: googleError(
    400,
    'INVALID_ARGUMENT',
    "Invalid value at 'message.data[0].value' (TYPE_STRING), 5",
    { badField: 'message.data[0].value' },
  ),
  unauthenticated: UNAUTHENTICATED,
  sender_id_mismatch: googleError(403, 'PERMISSION_DENIED', 'SenderId mismatch', {
    errorCode: 'SENDER_ID_MISMATCH',
  }),
  forbidden: googleError(
    403,
    'PERMISSION_DENIED',
    "Permission 'cloudmessaging.messages.create' denied on resource",
  ),
  unregistered: UNREGISTERED,
  not_found: NOT_FOUND,
  quota: googleError(429, 'RESOURCE_EXHAUSTED', 'Quota exceeded for quota metric', {
    errorCode: 'QUOTA_EXCEEDED',
  }),
  internal: googleError(500, 'INTERNAL', 'Internal error encountered.', { errorCode: 'INTERNAL' }),
  bad_gateway: {
    status: 502,
    text: '<!DOCTYPE html><title>Error 502 (Server Error)!!1</title><p>registration token</p>',
  },
  unavailable: googleError(503, 'UNAVAILABLE', 'The service is currently unavailable.', {
    errorCode: 'UNAVAILABLE',
  }),
  gateway_timeout: { status: 504, text: '<!DOCTYPE html><title>Error 504 (Timeout)!!1</title>' },
}
