/** Fields that the events of builds and downloads share. */

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
