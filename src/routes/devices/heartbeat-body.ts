/**
 * What a phone may send as a heartbeat, flat or nested, read leniently: an unusable value is null and its
 * name goes into `ignored`; a phone is never refused for one odd field (http-api.md, heartbeat).
 */
import { HEARTBEAT_STATUSES, type Heartbeat, type HeartbeatStatus } from '../../domain/heartbeat.ts'
import { isRequestId, MAX_FCM_TOKEN_LENGTH } from '../../domain/ids.ts'
import { parseInstant } from '../../domain/instants.ts'
import { type Fields, field, isObject } from '../../http/fields.ts'
import { isSafe } from '../../lib/text.ts'
import { readWord } from '../../lib/word.ts'

export interface ReadHeartbeat {
  readonly heartbeat: Heartbeat
  /** Wire names, such as `battery.pct`. */
  readonly ignored: readonly string[]
  /** The wire name of the time that `reportedAt` was read from. */
  readonly reportedAtField: string
}

/** A usable value, or undefined. */
type Reader<T> = (value: unknown) => T | undefined

/** Where a value may stand in a body: a field, or a field of one of the nested shape's objects. */
interface FieldPath {
  /** As it is named in `ignored`, such as `battery.pct`. */
  readonly path: string
  readonly container: string | undefined
  readonly name: string
}

/** What is read, and from where: the first usable value of several places counts. */
interface Value<T> {
  readonly read: Reader<T>
  readonly paths: readonly FieldPath[]
}

const MAX_VERSION_LENGTH = 64
const MAX_NETWORK_TYPE_LENGTH = 32
const MAX_UPTIME_S = 4_000_000_000
const MAX_RAM_MB = 10_000_000
/** The nested shape's objects. */
const CONTAINERS = ['battery', 'system', 'network', 'memory']

const BATTERY_PCT = value(whole(0, 100), 'battery_pct', 'battery.pct')
const NETWORK_TYPE = value(text(MAX_NETWORK_TYPE_LENGTH), 'network_type', 'network.transport')
const UPTIME_S = value(whole(0, MAX_UPTIME_S), 'uptime_s', 'system.uptime_seconds')
const IS_PLUGGED = value(readBoolean, 'plugged', 'battery.charging')
const TEMP_C = value(decimal(-100, 200), 'temp_c', 'battery.temperature_c')
const SIGNAL_DBM = value(whole(-200, 100), 'signal_dbm')
const RAM_USED_MB = value(whole(0, MAX_RAM_MB), 'ram_used_mb')
const RAM_TOTAL_MB = value(whole(0, MAX_RAM_MB), 'memory.total_ram_mb')
const RAM_AVAILABLE_MB = value(whole(0, MAX_RAM_MB), 'memory.avail_ram_mb')
const APP_VERSION = value(text(MAX_VERSION_LENGTH), 'app_version')
const AGENT_VERSION = value(text(MAX_VERSION_LENGTH), 'agent_version')
const FCM_TOKEN = value(text(MAX_FCM_TOKEN_LENGTH), 'fcm_token')
const REPORTED_AT = value(readInstant, 'ts', 'timestamp_utc')
const IS_PING_RESPONSE = value(readBoolean, 'is_ping_response')
const PING_REQUEST_ID = value(readRequestId, 'ping_request_id')

export function readHeartbeat(body: Fields): ReadHeartbeat {
  const ignored: string[] = []
  for (const name of CONTAINERS) {
    const inner = field(body, name)
    if (inner !== undefined && !isObject(inner)) ignored.push(name)
  }
  const heartbeat: Heartbeat = {
    status: readStatus(body, ignored),
    batteryPct: first(BATTERY_PCT, body, ignored),
    networkType: first(NETWORK_TYPE, body, ignored),
    uptimeS: first(UPTIME_S, body, ignored),
    isPlugged: first(IS_PLUGGED, body, ignored),
    tempC: first(TEMP_C, body, ignored),
    signalDbm: first(SIGNAL_DBM, body, ignored),
    ramUsedMb: first(RAM_USED_MB, body, ignored) ?? ramUsedMb(body, ignored),
    appVersion: first(APP_VERSION, body, ignored),
    agentVersion: first(AGENT_VERSION, body, ignored),
    fcmToken: first(FCM_TOKEN, body, ignored),
    reportedAt: first(REPORTED_AT, body, ignored),
    pingRequestId: first(IS_PING_RESPONSE, body, ignored)
      ? first(PING_REQUEST_ID, body, ignored)
      : null,
  }
  const isTsRead = field(body, 'ts') !== undefined && !ignored.includes('ts')
  return { heartbeat, ignored, reportedAtField: isTsRead ? 'ts' : 'timestamp_utc' }
}

/** Absent means ok. What is there and is none of the words is unknown, JSON's null too: never ok. */
function readStatus(body: Fields, ignored: string[]): HeartbeatStatus | null {
  if (!Object.hasOwn(body, 'status')) return 'ok'
  const status = readWord(body['status'], HEARTBEAT_STATUSES)
  if (status === undefined) ignored.push('status')
  return status ?? null
}

/** Unusable values before the first usable one are named in `ignored`. */
function first<T>({ read, paths: places }: Value<T>, body: Fields, ignored: string[]): T | null {
  for (const { path, container, name } of places) {
    const holder = container === undefined ? body : field(body, container)
    const found = isObject(holder) ? field(holder, name) : undefined
    if (found === undefined) continue
    const usable = read(found)
    if (usable !== undefined) return usable
    ignored.push(path)
  }
  return null
}

function ramUsedMb(body: Fields, ignored: string[]): number | null {
  const total = first(RAM_TOTAL_MB, body, ignored)
  const available = first(RAM_AVAILABLE_MB, body, ignored)
  if (total === null || available === null) return null
  if (available <= total) return total - available
  ignored.push('memory.avail_ram_mb')
  return null
}

function value<T>(read: Reader<T>, ...paths: readonly string[]): Value<T> {
  const places = paths.map((path) => {
    const [container, name] = path.split('.')
    return name === undefined
      ? { path, container: undefined, name: path }
      : { path, container, name }
  })
  return { read, paths: places }
}

/** Gson sends whole numbers as doubles, `85.0`; a fraction is cut off. */
function whole(min: number, max: number): Reader<number> {
  return (value) =>
    typeof value === 'number' && value >= min && value <= max ? Math.trunc(value) : undefined
}

/** As the column holds it, float4: PostgreSQL refuses 1e-300 as out of range, and the whole heartbeat with it. */
function decimal(min: number, max: number): Reader<number> {
  return (value) =>
    typeof value === 'number' && value >= min && value <= max ? Math.fround(value) : undefined
}

function text(maxLength: number): Reader<string> {
  return (value) =>
    typeof value === 'string' && value !== '' && value.length <= maxLength && isSafe(value)
      ? value
      : undefined
}

function readBoolean(value: unknown): boolean | undefined {
  return typeof value === 'boolean' ? value : undefined
}

function readInstant(value: unknown): Date | undefined {
  return typeof value === 'string' ? parseInstant(value) : undefined
}

function readRequestId(value: unknown): string | undefined {
  return typeof value === 'string' && isRequestId(value) ? value : undefined
}
