/** The own fields of the events of a push, in the order of their keys. */

export const DISPATCH = {
  action: 'string',
  fcm_http_code: 'integer',
  fcm_status: 'string',
  dispatch_latency_ms: 'number',
} as const

/** A later field goes to the end: `push_kind` came last. */
export const DISPATCH_SENT = { ...DISPATCH, attempt: 'integer', push_kind: 'string' } as const

export const DISPATCH_FAIL = {
  ...DISPATCH,
  attempt: 'integer',
  final: 'boolean',
  retry_in_ms: 'integer',
  push_kind: 'string',
} as const
