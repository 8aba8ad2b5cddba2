/** Lists devices, newest first. Each question has its own statement, so that a page costs its rows, not the table. */
import type { AppVersions } from '../../domain/app-versions.ts'
import type { PushKind } from '../../domain/delivery/push-id.ts'
import { STATUS_FIELDS, STATUS_NAMES } from '../../domain/heartbeat.ts'
import type { Labels } from '../../domain/labels.ts'
import type { StatusRow } from '../heartbeats/history.ts'
import { type ListPage, timeText } from '../list-page.ts'
import type { Query } from '../postgres/pool.ts'
import { HAS_PUSH_ID, PUSH_KIND } from './push-id.ts'

/** A device with its last status for admins, without secrets. Times are RFC 3339. */
export interface DeviceRow extends StatusRow {
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
  readonly labels: Labels
  readonly hasPushToken: boolean
  readonly pushKind: PushKind | null
  readonly isPushTokenDead: boolean
  readonly pushLoweredAt: string | null
  readonly lastSeenAt: string | null
  /** null: never reported. */
  readonly appVersions: AppVersions | null
}

export interface DeviceFilter {
  readonly alias: string | null
  /** Silent for this many seconds, or never seen; null: all. */
  readonly offlineForS: number | null
}

/** The version that the app registered with counts until a heartbeat says another. */
export const APP_VERSION = 'coalesce(s.app_version, d.app_version)'
const STATUS_COLUMNS = STATUS_NAMES.map((name) => {
  const source = name === 'appVersion' ? APP_VERSION : `s.${STATUS_FIELDS[name].column}`
  return `${source} as "${name}"`
}).join(', ')

export const COLUMNS = /* sql */ `
  d.device_id as "deviceId", d.alias as "alias", d.hardware_id as "hardwareId",
  d.enrollment_no as "enrollmentNo", ${timeText('d.created_at')} as "createdAt",
  ${timeText('d.enrolled_at')} as "enrolledAt", ${timeText('d.deleted_at')} as "deletedAt",
  d.model as "model", d.manufacturer as "manufacturer", d.android_version as "androidVersion",
  d.sdk_int as "sdkInt", d.labels as "labels", ${HAS_PUSH_ID} as "hasPushToken", ${PUSH_KIND} as "pushKind",
  d.fcm_token_died_at is not null as "isPushTokenDead", ${timeText('s.push_lowered_at')} as "pushLoweredAt",
  ${timeText('s.last_seen_at')} as "lastSeenAt", s.app_versions as "appVersions",
  ${STATUS_COLUMNS}`

export const JOINED = /* sql */ `devices d join device_status s using (device_id)`
/** Of the live devices those after the page's key. */
export const beforeKey = (time: string) => /* sql */ `
  d.deleted_at is null and (${time}, d.device_id) <
    (coalesce($2::timestamptz, 'infinity'), coalesce($3::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))`
const BEFORE = beforeKey('d.created_at')
const NEWEST = /* sql */ `order by d.created_at desc, d.device_id desc limit $1`
/**
 * Live devices in index order (sql/0018). Only a statement with created_at > -infinity can use that index; the sort
 * by liveness excludes all others.
 */
export const LIVE_BEFORE = /* sql */ `
  ${BEFORE} and (d.deleted_at is null) = any (array[true]) and d.created_at > '-infinity'
  order by (d.deleted_at is null), d.created_at desc, d.device_id desc`
const SILENT_SINCE = /* sql */ `now() - make_interval(secs => $4)`
const IS_OFFLINE = /* sql */ `(s.last_seen_at is null or s.last_seen_at < ${SILENT_SINCE})`

const LIST = /* sql */ `select ${COLUMNS} from ${JOINED} where ${LIVE_BEFORE} limit $1`
/** $4 null: online or offline. Finds at most one live device by its alias, whatever the cursor is. */
const LIST_OF_ALIAS = /* sql */ `
  with named as materialized (select * from devices where alias = $5 and deleted_at is null)
  select ${COLUMNS} from named d join device_status s using (device_id)
  where ${BEFORE} and ($4::int is null or ${IS_OFFLINE}) ${NEWEST}`

/** Up to this many silent devices are sorted for a page. */
const SILENT_LIMIT = 3_000
/** With more, this many of the newest devices are scanned, which fills a page of 50 if one in 20 is offline. */
const SCAN_LIMIT = 1_000
/**
 * Three strategies, each only if the previous one does not suffice. `few`: the devices that heard_after (sql/0020)
 * allows to be silent that long, while they are few. `near`: in list order past online devices, if the page fills
 * soon. `many`: all statuses, in one join. The arrays keep each lookup on its index, since no limit makes the list's
 * order look cheaper; `limit 1` keeps a status a lookup.
 */
const LIST_OFFLINE = /* sql */ `
  with silent as materialized (
    select s.device_id, s.last_seen_at from device_status s
    where not s.is_deleted and s.heard_after < ${SILENT_SINCE}
    order by s.heard_after limit ${SILENT_LIMIT + 1}),
  known as materialized (
    select d.device_id, d.created_at, d.deleted_at from devices d
    where (select count(*) from silent) <= ${SILENT_LIMIT}
      and d.device_id = any (array(select s.device_id from silent s where ${IS_OFFLINE}))),
  few as materialized (select d.device_id from known d where ${BEFORE} ${NEWEST}),
  near as materialized (
    select d.device_id
    from (
      select d.device_id, d.created_at, d.deleted_at is null as is_live from devices d
      where ${LIVE_BEFORE} limit ${SCAN_LIMIT}) d
    cross join lateral (
      select from device_status s where s.device_id = d.device_id and ${IS_OFFLINE} limit 1) s
    where (select count(*) from silent) > ${SILENT_LIMIT}
    order by d.is_live, d.created_at desc, d.device_id desc limit $1),
  offline as materialized (
    select s.device_id from device_status s
    where (select count(*) from silent) > ${SILENT_LIMIT} and (select count(*) from near) < $1
      and not s.is_deleted and ${IS_OFFLINE}),
  many as materialized (
    select d.device_id from offline join devices d using (device_id) where ${BEFORE} ${NEWEST})
  select ${COLUMNS} from ${JOINED}
  where d.device_id = any (array(
    select device_id from few union all select device_id from near union all select device_id from many))
  order by d.created_at desc, d.device_id desc`

export function listQuery(page: ListPage, { alias, offlineForS }: DeviceFilter): Query {
  const from = [page.limit, page.after?.at ?? null, page.after?.id ?? null]
  if (alias !== null) {
    return {
      name: 'devices.list_of_alias',
      text: LIST_OF_ALIAS,
      values: [...from, offlineForS, alias],
    }
  }
  return offlineForS === null
    ? { name: 'devices.list', text: LIST, values: from }
    : { name: 'devices.list_offline', text: LIST_OFFLINE, values: [...from, offlineForS] }
}
