/** Owner of `devices` beyond enrollment: push tokens, lists for admins, deletion. */

import type { LiveDevice } from '../core/identity.ts'
import { type AuditEntry, type ListPage, timeText, writeAudit } from './audit.ts'
import { cancelAllOf, requestPush } from './command-queue.ts'
import { killDeviceTokens } from './device-tokens.ts'
import type { Database, Query, Queryable } from './pool.ts'
import { NEXT_DUE_AT } from './push-token-limit.ts'

/** A device with its last status, as an admin sees it: never a secret. Times are RFC 3339. */
export interface DeviceRow {
  readonly deviceId: string
  readonly alias: string
  readonly hardwareId: string | null
  readonly enrollmentNo: number
  readonly createdAt: string
  readonly enrolledAt: string
  readonly deletedAt: string | null
  readonly model: string | null
  readonly manufacturer: string | null
  readonly androidVersion: string | null
  readonly sdkInt: number | null
  readonly hasPushToken: boolean
  readonly isPushTokenDead: boolean
  readonly lastSeenAt: string | null
  readonly status: string | null
  readonly batteryPct: number | null
  readonly networkType: string | null
  /** bigint: a string, as pg gives it. */
  readonly uptimeS: string | null
  readonly isPlugged: boolean | null
  readonly tempC: number | null
  readonly signalDbm: number | null
  readonly ramUsedMb: number | null
  readonly appVersion: string | null
  readonly agentVersion: string | null
}

export interface DeviceFilter {
  readonly alias: string | null
  /** Not seen for so many seconds, or never; null: all. */
  readonly offlineForS: number | null
}

export interface DeviceStore {
  list(page: ListPage, filter: DeviceFilter): Promise<readonly DeviceRow[]>
  /** Deleted devices are found too. */
  find(deviceId: string): Promise<DeviceRow | undefined>
  /**
   * A token given by its own route replaces another one, or itself where it is dead; open commands become due for push
   * again, as soon as the limit of changes allows. `superseded`: the device was enrolled anew or deleted since its token
   * was judged. Only `changed` writes anything.
   */
  setPushToken(
    device: Pick<LiveDevice, 'deviceId' | 'enrollmentNo'>,
    fcmToken: string,
    requestId: string,
  ): Promise<'changed' | 'unchanged' | 'superseded'>
  /**
   * A token that a heartbeat brought replaces another one unless that is newer than the heartbeat's `effective_at`, which
   * the group statement gave; open commands become due as by setPushToken. False: it changed nothing, or the device's used
   * and live token is another one by now.
   */
  offerPushToken(
    device: { readonly deviceId: string; readonly tokenHash: Buffer },
    offer: { readonly fcmToken: string; readonly effectiveAt: string },
    requestId: string,
  ): Promise<boolean>
  delete(deviceId: string, by: DeletedBy): Promise<DeleteOutcome>
  /** Whether any device was ever enrolled here. */
  exist(): Promise<boolean>
}

export type DeletedBy = Omit<AuditEntry, 'what' | 'subject' | 'detail'> & {
  readonly instance: string
}

export type DeleteOutcome =
  | { readonly kind: 'deleted'; readonly alias: string; readonly cancelled: readonly Cancelled[] }
  | { readonly kind: 'already_deleted' }
  | { readonly kind: 'unknown' }

export interface Cancelled {
  readonly requestId: string
  readonly action: string
}

const COLUMNS = /* sql */ `
  d.device_id as "deviceId", d.alias as "alias", d.hardware_id as "hardwareId",
  d.enrollment_no as "enrollmentNo", ${timeText('d.created_at')} as "createdAt",
  ${timeText('d.enrolled_at')} as "enrolledAt", ${timeText('d.deleted_at')} as "deletedAt",
  d.model as "model", d.manufacturer as "manufacturer", d.android_version as "androidVersion",
  d.sdk_int as "sdkInt", d.fcm_token is not null as "hasPushToken",
  d.fcm_token_died_at is not null as "isPushTokenDead", ${timeText('s.last_seen_at')} as "lastSeenAt",
  s.status as "status", s.battery_pct as "batteryPct", s.network_type as "networkType",
  s.uptime_s as "uptimeS", s.plugged as "isPlugged", s.temp_c as "tempC",
  s.signal_dbm as "signalDbm", s.ram_used_mb as "ramUsedMb",
  coalesce(s.app_version, d.app_version) as "appVersion", s.agent_version as "agentVersion"`

const LIST = /* sql */ `
  select ${COLUMNS} from devices d join device_status s using (device_id)
  where d.deleted_at is null
    and (d.created_at, d.device_id) <
      (coalesce($2::timestamptz, 'infinity'), coalesce($3::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
    and ($4::text is null or d.alias = $4)
    and ($5::int is null or s.last_seen_at is null or s.last_seen_at < now() - make_interval(secs => $5))
  order by d.created_at desc, d.device_id desc
  limit $1`

const FIND = /* sql */ `
  select ${COLUMNS} from devices d join device_status s using (device_id) where d.device_id = $1`

const SET_PUSH_TOKEN = /* sql */ `
  update devices set fcm_token = $2, fcm_token_at = now(), fcm_token_died_at = null, request_id = $3,
    fcm_token_due_at = ${NEXT_DUE_AT}
  where device_id = $1 and enrollment_no = $4 and deleted_at is null
    and (fcm_token is distinct from $2 or fcm_token_died_at is not null)`

const IS_ENROLLED = /* sql */ `
  select from devices where device_id = $1 and enrollment_no = $2 and deleted_at is null`

/** The number too: after a wait for a re-enrollment the row is judged anew, and the status is still the snapshot's. */
const OFFER_PUSH_TOKEN = /* sql */ `
  update devices set fcm_token = $2, fcm_token_at = $3, fcm_token_died_at = null, request_id = $4,
    fcm_token_due_at = ${NEXT_DUE_AT}
  where device_id = $1 and deleted_at is null and fcm_token is distinct from $2
    and $3 >= coalesce(fcm_token_at, '-infinity')
    and exists (
      select from device_status s
      where s.device_id = $1 and s.token_hash = $5 and s.enrollment_no = devices.enrollment_no)`

const EXIST = /* sql */ `select exists (select from devices) as "doExist"`

const LOCK_STATUS = /* sql */ `
  select from device_status where device_id = $1 for no key update`

const DELETE = /* sql */ `
  update devices set deleted_at = now(), fcm_token = null, fcm_token_died_at = null, request_id = $2
  where device_id = $1 and deleted_at is null
  returning alias as "alias"`

export function deviceStore(database: Database): DeviceStore {
  return {
    async list(page, filter) {
      const { rows } = await database.query<DeviceRow>({
        name: 'devices.list',
        text: LIST,
        values: [
          page.limit,
          page.after?.at ?? null,
          page.after?.id ?? null,
          filter.alias,
          filter.offlineForS,
        ],
      })
      return rows
    },

    find: (deviceId) => find(database, deviceId),

    setPushToken({ deviceId, enrollmentNo }, fcmToken, requestId) {
      return database.transaction(async (tx) => {
        const isChanged = await replacePushToken(tx, deviceId, {
          name: 'devices.set_push_token',
          text: SET_PUSH_TOKEN,
          values: [deviceId, fcmToken, requestId, enrollmentNo],
        })
        if (isChanged) return 'changed'
        const name = 'devices.is_enrolled'
        const values = [deviceId, enrollmentNo]
        const { rowCount } = await tx.query({ name, text: IS_ENROLLED, values })
        return rowCount === 0 ? 'superseded' : 'unchanged'
      })
    },

    offerPushToken({ deviceId, tokenHash }, { fcmToken, effectiveAt }, requestId) {
      const update = {
        name: 'devices.offer_push_token',
        text: OFFER_PUSH_TOKEN,
        values: [deviceId, fcmToken, effectiveAt, requestId, tokenHash],
      }
      return database.transaction((tx) => replacePushToken(tx, deviceId, update))
    },

    delete(deviceId, by) {
      return database.transaction(async (tx) => {
        await tx.query({ name: 'devices.lock_status', text: LOCK_STATUS, values: [deviceId] })
        const { rows } = await tx.query<{ alias: string }>({
          name: 'devices.delete',
          text: DELETE,
          values: [deviceId, by.requestId],
        })
        const alias = rows[0]?.alias
        if (alias === undefined) {
          const kind = (await find(tx, deviceId)) === undefined ? 'unknown' : 'already_deleted'
          return { kind }
        }
        await killDeviceTokens(tx, deviceId, 'device_deleted')
        const cancelled = await cancelAllOf(tx, deviceId, by)
        const { admin, requestId, ip } = by
        const detail = { alias, cancelled_commands: cancelled.length }
        await writeAudit(tx, {
          admin,
          requestId,
          ip,
          what: 'device.delete',
          subject: deviceId,
          detail,
        })
        return { kind: 'deleted', alias, cancelled }
      })
    },

    async exist() {
      const { rows } = await database.query<{ doExist: boolean }>({
        name: 'devices.exist',
        text: EXIST,
      })
      return rows[0]?.doExist === true
    },
  }
}

async function replacePushToken(tx: Queryable, deviceId: string, update: Query): Promise<boolean> {
  const { rowCount } = await tx.query(update)
  if (rowCount === 0) return false
  await requestPush(tx, deviceId)
  return true
}

async function find(database: Queryable, deviceId: string): Promise<DeviceRow | undefined> {
  const values = [deviceId]
  const { rows } = await database.query<DeviceRow>({ name: 'devices.find', text: FIND, values })
  return rows[0]
}
