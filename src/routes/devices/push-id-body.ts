/** Reads the push identity of a registration, or of its own route. Heartbeats are read leniently: heartbeat-body.ts. */
import { FID, type PushId } from '../../domain/delivery/push-id.ts'
import { MAX_FCM_TOKEN_LENGTH } from '../../domain/ids.ts'
import { type Fields, field, optionalString } from '../../http/fields.ts'

const MAX_FID_LENGTH = 255

export interface ReadPushId {
  readonly pushId: PushId | null
  /** `fcm_token` beside a FID: registering by a FID has ended the token. */
  readonly ignored: readonly string[]
}

/** Throws 422 `invalid_field`. An empty `fid` or `fcm_token` counts as absent. */
export function readPushId(body: Fields): ReadPushId {
  const fid =
    field(body, 'fid') === '' ? undefined : optionalString(body, 'fid', MAX_FID_LENGTH, FID)
  if (fid !== undefined) {
    const ignored = field(body, 'fcm_token') === undefined ? [] : ['fcm_token']
    return { pushId: { kind: 'fid', value: fid }, ignored }
  }
  const token = optionalString(body, 'fcm_token', MAX_FCM_TOKEN_LENGTH)
  return { pushId: token ? { kind: 'token', value: token } : null, ignored: [] }
}
