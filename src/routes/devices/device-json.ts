/** A device as admins read it; never a secret. */
import type { DeviceRow } from '../../db/devices/lists.ts'
import type { StatusRow } from '../../db/heartbeats/history.ts'
import type { AppVersions } from '../../domain/app-versions.ts'
import { AppError } from '../../domain/errors.ts'
import { STATUS_FIELDS, STATUS_NAMES, type StatusName } from '../../domain/heartbeat.ts'
import { isUuid } from '../../domain/ids.ts'
import type { BaseRequest } from '../../http/route.ts'
import type { Devices } from './feature.ts'

/** Of the path. */
export function deviceId(request: BaseRequest): string {
  const id = request.params['device_id'] ?? ''
  if (!isUuid(id)) throw deviceUnknown()
  return id.toLowerCase()
}

export function deviceUnknown(): AppError {
  return new AppError('device_unknown', 'No device has this id.')
}

export function deviceJson(device: DeviceRow, { offlineAfterS }: Pick<Devices, 'offlineAfterS'>) {
  return {
    device_id: device.deviceId,
    alias: device.alias,
    hardware_id: device.hardwareId,
    enrollment_no: device.enrollmentNo,
    created_at: device.createdAt,
    enrolled_at: device.enrolledAt,
    deleted_at: device.deletedAt,
    model: device.model,
    manufacturer: device.manufacturer,
    android_version: device.androidVersion,
    sdk_int: device.sdkInt,
    labels: device.labels,
    push_token: device.isPushTokenDead ? 'dead' : device.hasPushToken ? 'live' : 'none',
    push_kind: device.pushKind,
    push_lowered_at: device.pushLoweredAt,
    last_seen_at: device.lastSeenAt,
    offline_after_s: offlineAfterS,
    last_status: statusJson(device),
    app_versions: appVersionsJson(device.appVersions),
  }
}

/** In the shape in which heartbeats carry them. */
function appVersionsJson(versions: AppVersions | null) {
  if (versions === null) return null
  const apps = Object.entries(versions).map(([name, code]) => [name, { version_code: code }])
  return Object.fromEntries(apps)
}

/** What a heartbeat says about the phone, under its wire names. */
export function statusJson(row: StatusRow) {
  return Object.fromEntries(STATUS_NAMES.map((name) => statusOf(row, name)))
}

function statusOf(row: StatusRow, name: StatusName) {
  const { column, type } = STATUS_FIELDS[name]
  const value = row[name]
  return [column, type === 'int8' && value !== null ? Number(value) : value]
}
