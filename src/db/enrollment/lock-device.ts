/** Finds and locks the live device that a registration is for. */
import { type PushId, pushIdText } from '../../domain/delivery/push-id.ts'
import type { PhoneFacts } from '../../domain/same-phone.ts'
import { PUSH_ID } from '../devices/push-id.ts'
import type { Queryable } from '../postgres/pool.ts'

export interface LockedDevice extends PhoneFacts {
  readonly deviceId: string
  readonly enrollmentNo: number
  readonly enrolledBy: string
  readonly reissues: number
  readonly hmacSecretId: string
  /** The registration's push identity differs from the device's, or that one is dead. */
  readonly isPushIdNew: boolean
}

/** Locks device_status before devices, as heartbeats do. */
const LOCK_DEVICE = /* sql */ `
  with status as materialized (
    select device_id from device_status
    where device_id = (select device_id from devices where alias = $1 and deleted_at is null)
    for no key update)
  select d.device_id as "deviceId", d.enrollment_no as "enrollmentNo", d.enrolled_by as "enrolledBy",
    d.hardware_id as "hardwareId", d.model as "model", d.manufacturer as "manufacturer",
    d.android_version as "androidVersion", d.reissues as "reissues", d.hmac_secret_id as "hmacSecretId",
    $2::text is not null and (${PUSH_ID} is distinct from $2 or d.fcm_token_died_at is not null) as "isPushIdNew"
  from devices d
  where d.device_id = (select device_id from status) and d.alias = $1 and d.deleted_at is null
  for update of d`

export async function lockDevice(
  tx: Queryable,
  alias: string,
  pushId: PushId | null,
): Promise<LockedDevice | undefined> {
  const { rows } = await tx.query<LockedDevice>({
    name: 'registration.lock_device',
    text: LOCK_DEVICE,
    values: [alias, pushId && pushIdText(pushId)],
  })
  return rows[0]
}
