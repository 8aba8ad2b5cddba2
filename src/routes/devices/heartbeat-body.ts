/**
 * Reads the body of a heartbeat, flat or nested. An unusable value becomes null and its name goes into `ignored`: one odd
 * field never costs a heartbeat (docs/device-protocol.md).
 */
import { type AppVersions, isPackageName, MAX_REPORTED_APPS } from '../../domain/app-versions.ts'
import { FID, type PushId } from '../../domain/delivery/push-id.ts'
import { readPushReport } from '../../domain/delivery/push-report.ts'
import {
  CONTAINERS,
  EMPTY_HEARTBEAT,
  type Heartbeat,
  type LastStatus,
  readBoolean,
  readRamMb,
  readVersionCode,
  STATUS_FIELDS,
  STATUS_NAMES,
  type StatusName,
  text,
  type Value,
  valueAt,
} from '../../domain/heartbeat.ts'
import { isRequestId, MAX_FCM_TOKEN_LENGTH } from '../../domain/ids.ts'
import { parseInstant } from '../../domain/instants.ts'
import { type Fields, field, isObject } from '../../http/fields.ts'

export interface ReadHeartbeat {
  readonly heartbeat: Heartbeat
  /** Wire names, such as `battery.pct`. */
  readonly ignored: readonly string[]
  /** The wire name of the time that `reportedAt` was read from. */
  readonly reportedAtField: string
}

/** The body, then what it has of CONTAINERS. */
type Holders = readonly (Fields | undefined)[]

type Draft<T> = { -readonly [K in keyof T]: T[K] }

const RAM_TOTAL_MB = valueAt(readRamMb, 'memory.total_ram_mb')
const RAM_AVAILABLE_MB = valueAt(readRamMb, 'memory.avail_ram_mb')
const FCM_TOKEN = valueAt(text(MAX_FCM_TOKEN_LENGTH), 'fcm_token')
const FID_FIELD = valueAt(readFid, 'fid')
const REPORTED_AT = valueAt(parseInstant, 'ts', 'timestamp_utc')
const IS_PING_RESPONSE = valueAt(readBoolean, 'is_ping_response')
const PUSH_REPORT = valueAt(readPushReport, 'push')
const PING_REQUEST_ID = valueAt(readRequestId, 'ping_request_id')

export function readHeartbeat(body: Fields): ReadHeartbeat {
  const ignored: string[] = []
  const holders: (Fields | undefined)[] = [body]
  for (const name of CONTAINERS) holders.push(readContainer(body, name, ignored))
  const heartbeat: Draft<Heartbeat> = { ...EMPTY_HEARTBEAT }
  for (const name of STATUS_NAMES) {
    if (name === 'status') heartbeat.status = readStatus(body, ignored)
    else readInto(heartbeat, name, holders, ignored)
    if (name === 'ramUsedMb') heartbeat.ramUsedMb ??= ramUsedMb(holders, ignored)
  }
  heartbeat.appVersions = readAppVersions(body, ignored)
  heartbeat.pushId = readPushId(holders, ignored)
  heartbeat.reportedAt = first(REPORTED_AT, holders, ignored)
  if (first(IS_PING_RESPONSE, holders, ignored)) {
    heartbeat.pingRequestId = first(PING_REQUEST_ID, holders, ignored)
    heartbeat.push = first(PUSH_REPORT, holders, ignored)
  }
  const isTsRead = field(body, 'ts') !== undefined && !ignored.includes('ts')
  return { heartbeat, ignored, reportedAtField: isTsRead ? 'ts' : 'timestamp_utc' }
}

function readContainer(body: Fields, name: string, ignored: string[]): Fields | undefined {
  const inner = field(body, name)
  if (isObject(inner)) return inner
  if (inner !== undefined) ignored.push(name)
  return undefined
}

/** An absent status means ok. JSON's null, or a word that is none of the statuses, is unknown: never ok. */
function readStatus(body: Fields, ignored: string[]): LastStatus['status'] {
  if (!Object.hasOwn(body, 'status')) return 'ok'
  const status = STATUS_FIELDS.status.read(body['status'])
  if (status === undefined) ignored.push('status')
  return status ?? null
}

function readInto<N extends StatusName>(
  status: Draft<LastStatus>,
  name: N,
  holders: Holders,
  ignored: string[],
): void {
  status[name] = first(STATUS_FIELDS[name], holders, ignored)
}

/**
 * Unusable values before the first usable one are named in `ignored`. No name of a place is one of Object.prototype's, so
 * plain access finds own fields only; Object.hasOwn costs more than the rest.
 */
function first<T>({ read, places }: Value<T>, holders: Holders, ignored: string[]): T | null {
  for (const { path, holder, name } of places) {
    const found = holders[holder]?.[name]
    if (found === undefined || found === null) continue
    const usable = read(found)
    if (usable !== undefined) return usable
    ignored.push(path)
  }
  return null
}

/** `ignored` names `app_versions` once for all unusable apps, because phones choose the names of packages. */
function readAppVersions(body: Fields, ignored: string[]): AppVersions | null {
  const apps = readContainer(body, 'app_versions', ignored)
  if (apps === undefined) return null
  const names = Object.keys(apps)
  if (names.length > MAX_REPORTED_APPS) {
    ignored.push('app_versions')
    return null
  }
  const versions: Record<string, number> = {}
  let isAllUsable = true
  for (const name of names) {
    const code = readAppVersion(name, field(apps, name))
    if (code === null) isAllUsable = false
    else if (code !== undefined) versions[name] = code
  }
  if (!isAllUsable) ignored.push('app_versions')
  return versions
}

/** undefined: not installed, or without a version code; null: unusable. */
function readAppVersion(name: string, app: unknown = {}): number | null | undefined {
  if (!isPackageName(name) || !isObject(app)) return null
  const code = field(app, 'version_code')
  if (code === undefined || field(app, 'installed') === false) return undefined
  return readVersionCode(code) ?? null
}

/** A phone that names both has moved to the FID: the token no longer works. */
function readPushId(holders: Holders, ignored: string[]): PushId | null {
  const fid = first(FID_FIELD, holders, ignored)
  if (fid === null) {
    const value = first(FCM_TOKEN, holders, ignored)
    return value === null ? null : { kind: 'token', value }
  }
  if ((holders[0]?.['fcm_token'] ?? null) !== null) ignored.push('fcm_token')
  return { kind: 'fid', value: fid }
}

function ramUsedMb(holders: Holders, ignored: string[]): number | null {
  const total = first(RAM_TOTAL_MB, holders, ignored)
  const available = first(RAM_AVAILABLE_MB, holders, ignored)
  if (total === null || available === null) return null
  if (available <= total) return total - available
  ignored.push('memory.avail_ram_mb')
  return null
}

function readFid(value: unknown): string | undefined {
  return typeof value === 'string' && FID.test(value) ? value : undefined
}

function readRequestId(value: unknown): string | undefined {
  return typeof value === 'string' && isRequestId(value) ? value : undefined
}
