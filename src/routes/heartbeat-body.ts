/**
 * What a phone may send as a heartbeat, flat or nested, read leniently: an unusable value is null and its
 * name goes into `ignored`; a phone is never refused for one odd field (http-api.md, heartbeat).
 */
import { HEARTBEAT_STATUSES, type Heartbeat } from '../core/heartbeat.ts'
import { isRequestId, MAX_FCM_TOKEN_LENGTH } from '../core/ids.ts'
import { parseInstant } from '../core/instant.ts'
import { type Fields, field, isObject, isStorable } from '../http/fields.ts'

export interface ReadHeartbeat {
  readonly heartbeat: Heartbeat
  /** Wire names, such as `battery.pct`. */
  readonly ignored: readonly string[]
  /** The wire name of the time that `reportedAt` was read from. */
  readonly reportedAtField: string
}

/** A usable value, or undefined. */
type Reader<T> = (value: unknown) => T | undefined

/** The nested shape's objects. */
const CONTAINERS = ['battery', 'system', 'network', 'memory']
const MAX_VERSION_LENGTH = 64
const MAX_NETWORK_TYPE_LENGTH = 32
const MAX_UPTIME_S = 4_000_000_000
const MAX_RAM_MB = 10_000_000
const TIME_FIELDS = ['ts', 'timestamp_utc'] as const

export function readHeartbeat(body: Fields): ReadHeartbeat {
  const ignored: string[] = []

  /** The first usable one of several places; unusable ones before it are named. */
  function first<T>(read: Reader<T>, ...paths: readonly string[]): T | null {
    for (const path of paths) {
      const value = at(body, path)
      if (value === undefined) continue
      const usable = read(value)
      if (usable !== undefined) return usable
      ignored.push(path)
    }
    return null
  }

  for (const name of CONTAINERS) {
    const value = field(body, name)
    if (value !== undefined && !isObject(value)) ignored.push(name)
  }
  const heartbeat: Heartbeat = {
    status: first(readStatus, 'status') ?? 'ok',
    batteryPct: first(whole(0, 100), 'battery_pct', 'battery.pct'),
    networkType: first(text(MAX_NETWORK_TYPE_LENGTH), 'network_type', 'network.transport'),
    uptimeS: first(whole(0, MAX_UPTIME_S), 'uptime_s', 'system.uptime_seconds'),
    isPlugged: first(readBoolean, 'plugged', 'battery.charging'),
    tempC: first(decimal(-100, 200), 'temp_c', 'battery.temperature_c'),
    signalDbm: first(whole(-200, 100), 'signal_dbm'),
    ramUsedMb: first(whole(0, MAX_RAM_MB), 'ram_used_mb') ?? ramUsedMb(first),
    appVersion: first(text(MAX_VERSION_LENGTH), 'app_version'),
    agentVersion: first(text(MAX_VERSION_LENGTH), 'agent_version'),
    fcmToken: first(text(MAX_FCM_TOKEN_LENGTH), 'fcm_token'),
    reportedAt: first(readInstant, ...TIME_FIELDS),
    pingRequestId:
      field(body, 'is_ping_response') === true ? first(readRequestId, 'ping_request_id') : null,
  }
  const reportedAtField = TIME_FIELDS.find((path) => readInstant(at(body, path)) !== undefined)
  return { heartbeat, ignored, reportedAtField: reportedAtField ?? TIME_FIELDS[0] }
}

function ramUsedMb(first: (read: Reader<number>, path: string) => number | null): number | null {
  const total = first(whole(0, MAX_RAM_MB), 'memory.total_ram_mb')
  const available = first(whole(0, total ?? MAX_RAM_MB), 'memory.avail_ram_mb')
  return total !== null && available !== null ? total - available : null
}

/** `battery.pct` reads one level down; own keys only, so that no prototype is ever reached. */
function at(body: Fields, path: string): unknown {
  const dot = path.indexOf('.')
  if (dot === -1) return field(body, path)
  const inner = field(body, path.slice(0, dot))
  return isObject(inner) ? field(inner, path.slice(dot + 1)) : undefined
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
    typeof value === 'string' && value !== '' && value.length <= maxLength && isStorable(value)
      ? value
      : undefined
}

const readStatus: Reader<Heartbeat['status']> = (value) =>
  HEARTBEAT_STATUSES.find((status) => status === value)

const readBoolean: Reader<boolean> = (value) => (typeof value === 'boolean' ? value : undefined)

const readInstant: Reader<Date> = (value) =>
  typeof value === 'string' ? parseInstant(value) : undefined

const readRequestId: Reader<string> = (value) =>
  typeof value === 'string' && isRequestId(value) ? value : undefined
