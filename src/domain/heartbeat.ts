/**
 * A heartbeat as it is stored, whichever shape the phone sent it in. STATUS_FIELDS is the list of what a phone says about
 * itself: the reader, the columns and parameters of the statements, and `last_status` derive from it. A new field needs a row
 * here and a migration that adds its column to `heartbeats` and `device_status`.
 */
import { isSafe } from '../lib/text.ts'
import { readWord } from '../lib/word.ts'
import type { AppVersions } from './app-versions.ts'
import type { PushId } from './delivery/push-id.ts'
import type { PushReport } from './delivery/push-report.ts'

/** Returns a usable value, or undefined. */
export type Reader<T> = (value: unknown) => T | undefined

/** The objects of the nested shape. */
export const CONTAINERS = ['battery', 'system', 'network', 'memory']

/** A field of the body, or of one of its containers. */
interface Place {
  /** As `ignored` names it, such as `battery.pct`. */
  readonly path: string
  /** 0: the body itself; n: the nth of CONTAINERS, counted from 1. */
  readonly holder: number
  readonly name: string
}

/** What is read, and from where: the first usable value counts. */
export interface Value<T> {
  readonly read: Reader<T>
  readonly places: readonly Place[]
}

/** The PostgreSQL types of the columns, and what their parameters are made from. */
export interface SqlValues {
  readonly text: string
  readonly bool: boolean
  readonly int2: number
  readonly int4: number
  readonly int8: number
  readonly float4: number
}

interface StatusField<T> extends Value<T> {
  /** The name of the column, which the field has in the flat shape and in `last_status` as well. */
  readonly column: string
  readonly type: keyof SqlValues
}

export const HEARTBEAT_STATUSES = ['ok', 'warn', 'error'] as const

/** 0 is Android's for an app without one. */
export const readVersionCode: Reader<number> = (value) =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? value : undefined

/** MB of memory. */
export const readRamMb = whole(0, 10_000_000)

/** The order of the rows is the order of the names in `ignored` and in `last_status`. */
const FIELDS = {
  status: field('status', 'text', (value) => readWord(value, HEARTBEAT_STATUSES)),
  batteryPct: field('battery_pct', 'int2', whole(0, 100), 'battery.pct'),
  networkType: field('network_type', 'text', text(32), 'network.transport'),
  uptimeS: field('uptime_s', 'int8', whole(0, 4_000_000_000), 'system.uptime_seconds'),
  isPlugged: field('plugged', 'bool', readBoolean, 'battery.charging'),
  tempC: field('temp_c', 'float4', decimal(-100, 200), 'battery.temperature_c'),
  signalDbm: field('signal_dbm', 'int2', whole(-200, 100)),
  ramUsedMb: field('ram_used_mb', 'int4', readRamMb),
  appVersion: field('app_version', 'text', text(64)),
  agentVersion: field('agent_version', 'text', text(64)),
  versionCode: field('version_code', 'int8', readVersionCode),
}

export type StatusName = keyof typeof FIELDS

/** null: not sent, or not usable. */
export type LastStatus = {
  readonly [N in StatusName]: Exclude<ReturnType<(typeof FIELDS)[N]['read']>, undefined> | null
}

export const STATUS_FIELDS: { readonly [N in StatusName]: StatusField<LastStatus[N]> } = FIELDS

export const STATUS_NAMES = keysOf(FIELDS)

export interface Heartbeat extends LastStatus {
  /** Of all apps that it names; null: it names none, and those of the heartbeat before it stay. */
  readonly appVersions: AppVersions | null
  readonly pushId: PushId | null
  /** The device's clock. */
  readonly reportedAt: Date | null
  /** The command whose PING this heartbeat responds to. */
  readonly pingRequestId: string | null
  /** How that PING came by push. */
  readonly push: PushReport | null
}

/** Says nothing. */
export const EMPTY_HEARTBEAT: Heartbeat = {
  ...Object.assign({}, ...STATUS_NAMES.map((name) => ({ [name]: null }))),
  appVersions: null,
  pushId: null,
  reportedAt: null,
  pingRequestId: null,
  push: null,
}

/** `type` must hold each value that `read` returns; PostgreSQL refuses the whole group otherwise. */
function field<S extends keyof SqlValues, T extends SqlValues[S]>(
  column: string,
  type: S,
  read: Reader<T>,
  ...nested: readonly string[]
): StatusField<T> {
  return { column, type, ...valueAt(read, column, ...nested) }
}

/** `paths`: names of fields in the body, or such as `battery.pct`. */
export function valueAt<T>(read: Reader<T>, ...paths: readonly string[]): Value<T> {
  const places = paths.map((path) => {
    const [container = '', name = path] = path.split('.')
    return { path, holder: CONTAINERS.indexOf(container) + 1, name }
  })
  return { read, places }
}

/** A whole number. Gson sends them as doubles, `85.0`; a fraction is cut off. 0.87 is of another unit: a battery is not at 0 %. */
function whole(min: number, max: number): Reader<number> {
  return (value) => {
    const isInRange = typeof value === 'number' && value >= min && value <= max
    return isInRange && !(value > 0 && value < 1) ? Math.trunc(value) : undefined
  }
}

/** Rounded to float4: PostgreSQL refuses 1e-300 as out of range, and the whole group with it. */
function decimal(min: number, max: number): Reader<number> {
  return (value) =>
    typeof value === 'number' && value >= min && value <= max ? Math.fround(value) : undefined
}

export function text(maxLength: number): Reader<string> {
  return (value) =>
    typeof value === 'string' && value !== '' && value.length <= maxLength && isSafe(value)
      ? value
      : undefined
}

export function readBoolean(value: unknown): boolean | undefined {
  return typeof value === 'boolean' ? value : undefined
}

function keysOf<T extends object>(table: T): readonly Extract<keyof T, string>[] {
  const keys: Extract<keyof T, string>[] = []
  for (const key in table) keys.push(key)
  return keys
}
