/**
 * Request bodies of phones: heartbeats flat or nested, the nested ones as Gson prints them (docs/develop/device-
 * protocol.md).
 */
import { type PushId, WIRE_NAMES } from '../../src/domain/delivery/push-id.ts'
import type { CommandData, RunResult } from './commands.ts'
import type { PushReport } from './push.ts'

export interface HeartbeatFacts {
  readonly alias: string
  readonly deviceId: string
  readonly at: Date
  readonly batteryPct: number
  readonly isPlugged: boolean
  readonly tempC: number
  readonly uptimeS: number
  readonly networkType: string
  readonly queueLength: number
  readonly pushId: PushId | null
  /** The ping command that this heartbeat answers. */
  readonly pingRequestId: string | null
  /** How that ping came by push. */
  readonly push: PushReport | null
}

/** Of simulated APKs, unless they name another. */
export const APP_PACKAGE = 'com.example.app'
const AGENT_VERSION = '1.0.252'
const APP_VERSION = '1.0.252-52638d7'

/** Of APP_PACKAGE on the phone: one of three, which stays. */
export function appVersionCode(alias: string): number {
  return 40 + (Buffer.from(alias).reduce((sum, byte) => sum + byte, 0) % 3)
}

export function heartbeatBody(shape: 'flat' | 'nested', facts: HeartbeatFacts): string {
  const both = {
    ...pushIdBody(facts.pushId),
    push: pushBody(facts.push),
    is_ping_response: facts.pingRequestId === null ? null : true,
    ping_request_id: facts.pingRequestId,
  }
  if (shape === 'flat') {
    return gson({
      status: 'ok',
      battery_pct: facts.batteryPct,
      network_type: facts.networkType,
      uptime_s: facts.uptimeS,
      plugged: facts.isPlugged,
      temp_c: facts.tempC,
      unity_running: true,
      version_code: appVersionCode(facts.alias),
      agent_version: AGENT_VERSION,
      ts: facts.at.toISOString(),
      ...both,
    })
  }
  return gson({
    device_id: facts.deviceId,
    alias: facts.alias,
    app_version: APP_VERSION,
    timestamp_utc: facts.at.toISOString(),
    app_versions: {
      [APP_PACKAGE]: {
        installed: true,
        version_name: '1.0.0',
        version_code: appVersionCode(facts.alias),
      },
    },
    battery: { pct: facts.batteryPct, charging: facts.isPlugged, temperature_c: facts.tempC },
    system: { uptime_seconds: facts.uptimeS, android_version: '13', sdk_int: 33 },
    memory: { total_ram_mb: 3745, avail_ram_mb: 1502, pressure_pct: 59 },
    network: { transport: facts.networkType, ssid: 'Depot' },
    is_device_owner: true,
    doze_whitelisted: true,
    queue_depth: facts.queueLength,
    speedtest_running_signals: { foreground_recent_seconds: -1 },
    ...both,
  })
}

/** Derives the hardware id from the alias, so that a phone keeps it. */
export function registrationBody(alias: string, pushId: PushId | null): string {
  return gson({
    alias,
    hardware_id: `SIM-${alias}`,
    ...pushIdBody(pushId),
    model: 'R4S',
    manufacturer: 'Example',
    android_version: '13',
    sdk_int: 33,
  })
}

/** For POST /v1/action-result. */
export function resultBody(
  command: CommandData,
  result: RunResult,
  finishedAt: Date,
  push: PushReport | null,
): string {
  const { request_id, action } = command
  const { outcome, message } = result
  const finished_at = finishedAt.toISOString()
  return gson({ request_id, action, outcome, message, finished_at, push: pushBody(push) })
}

/** For POST /v1/devices/{device_id}/ack, as the fielded agent sends it. */
export function ackBody(
  command: CommandData,
  { outcome, message }: RunResult,
  _finishedAt: Date,
  push: PushReport | null,
): string {
  const { request_id, action = '' } = command
  const status = outcome === 'success' ? 'OK' : outcome === 'timeout' ? 'TIMEOUT' : 'FAILED'
  const type = `${action.toUpperCase()}_ACK`
  return gson({ correlation_id: request_id, type, status, message, push: pushBody(push) })
}

/** Either kind, never both. */
export function pushIdBody(pushId: PushId | null) {
  return pushId === null ? {} : { [WIRE_NAMES[pushId.kind]]: pushId.value }
}

function pushBody(push: PushReport | null) {
  if (push === null) return null
  const { receivedAt, priority, originalPriority: original_priority } = push
  return { received_at: receivedAt.toISOString(), priority, original_priority }
}

/** As Gson writes a map: without nulls; a number inside an inner map is a Java double (85.0, 1.2345678E7). */
export function gson(value: unknown, depth = 0): string {
  if (typeof value === 'number' && depth > 1) return javaDouble(value)
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  const members = Object.entries(value)
    .filter(([, member]) => member !== null && member !== undefined)
    .map(([name, member]) => `${JSON.stringify(name)}:${gson(member, depth + 1)}`)
  return `{${members.join(',')}}`
}

/** Java's Double.toString in a phone's range of values. */
function javaDouble(value: number): string {
  const [digits = '', exponent] = (
    Math.abs(value) >= 1e7 ? value.toExponential() : String(value)
  ).split('e+')
  const mantissa = digits.includes('.') ? digits : `${digits}.0`
  return exponent === undefined ? mantissa : `${mantissa}E${exponent}`
}
