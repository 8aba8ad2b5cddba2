/** Fields that several events share, in the order of their keys: parts of events.ts. */

export const HEARTBEAT = {
  status: 'string',
  battery_pct: 'integer',
  network_type: 'string',
  uptime_s: 'integer',
  ignored: 'strings',
} as const
export const REGISTER = { token_id: 'string', result: 'string' } as const
export const JOB = {
  action: 'string',
  devices: 'integer',
  completed: 'integer',
  failed: 'integer',
  expired: 'integer',
  cancelled: 'integer',
  reason: 'string',
  admin: 'string',
} as const
export const COMMAND_END = { action: 'string', admin: 'string', reason: 'string' } as const
/** For events about a failed database call. */
export const FAILED_CALL = { statement: 'optional', cause: 'optional' } as const
export const TOKEN_LIFE = { reason: 'string', token_id: 'string', admin: 'string' } as const
export const DENIAL = { reason: 'string', token_id: 'string' } as const
export const PARTITION = { partition: 'string', error: 'string' } as const
export const PARTITIONS = { ...PARTITION, last: 'optional' } as const

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

export const DOWNLOAD = {
  build_id: 'string',
  version_code: 'integer',
  version_name: 'string',
  build_type: 'string',
  token_id: 'string',
  source: 'string',
  bytes_sent: 'integer',
} as const

/** A build, with what its APK says of itself. */
export const BUILD = {
  build_id: 'string',
  version_code: 'integer',
  version_name: 'string',
  build_type: 'string',
  package: 'string',
  min_sdk: 'integer',
  target_sdk: 'integer',
  debuggable: 'boolean',
  signing: 'string',
  signer_sha256: 'string',
  state: 'string',
  admin: 'string',
  source: 'string',
} as const
