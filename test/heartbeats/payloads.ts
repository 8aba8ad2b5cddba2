/** What is kept of each payload of the fielded agent, and the bounds of each value. */
import { STATUS_FIELDS } from '../../src/domain/heartbeat.ts'

export const FIXTURES = new URL('../../../test/fixtures/agent/', import.meta.url)
const COLUMNS = Object.values(STATUS_FIELDS).map(({ column }) => column)
export const VALUES = COLUMNS.join(', ')
export const NOTHING: Readonly<Record<string, unknown>> = {
  ...Object.fromEntries(COLUMNS.map((column) => [column, null])),
  status: 'ok',
}
export const UNKNOWN_DEEP = `${'{"a":'.repeat(5_000)}1${'}'.repeat(5_000)}`
export const KEPT: Readonly<
  Record<string, { readonly values: object; readonly ignored: string[] }>
> = {
  'heartbeat-flat.json': {
    values: {
      battery_pct: 87,
      network_type: 'wifi',
      uptime_s: '12345',
      agent_version: '1.0.252',
    },
    ignored: [],
  },
  'heartbeat-nested.json': {
    values: {
      battery_pct: 85,
      network_type: 'wifi',
      uptime_s: '539658',
      plugged: true,
      temp_c: 30.1,
      ram_used_mb: 2243,
      app_version: '1.0.252-52638d7',
    },
    ignored: ['timestamp_utc'], // a valid time, of long ago
  },
  'heartbeat-empty-device-id.json': {
    values: { battery_pct: 12, network_type: 'none', uptime_s: '12345678', plugged: false },
    ignored: [],
  },
  'heartbeat-odd-values.json': {
    values: { status: null },
    ignored: [
      'status',
      'battery_pct',
      'battery.pct',
      'network.transport',
      'system.uptime_seconds',
      'battery.charging',
      'battery.temperature_c',
      'timestamp_utc',
    ],
  },
  'heartbeat-ping-answer.json': {
    values: { battery_pct: 85, network_type: 'cell', uptime_s: '539700', plugged: true },
    ignored: ['ping_request_id'], // nobody asked: results.test.ts has the one that was asked
  },
}

/** Least and greatest value, or the longest text, and the value's path in the nested shape. */
export const BOUNDS: Readonly<
  Record<string, { readonly most: readonly unknown[]; nested?: string }>
> = {
  battery_pct: { most: [0, 100], nested: 'battery.pct' },
  uptime_s: { most: [0, 4_000_000_000], nested: 'system.uptime_seconds' },
  temp_c: { most: [-100, 200], nested: 'battery.temperature_c' },
  signal_dbm: { most: [-200, 100] },
  ram_used_mb: { most: [0, 10_000_000] },
  network_type: { most: ['x'.repeat(32)], nested: 'network.transport' },
  app_version: { most: ['x'.repeat(64)] },
  agent_version: { most: ['x'.repeat(64)] },
  version_code: { most: [0, Number.MAX_SAFE_INTEGER] },
  fcm_token: { most: ['x'.repeat(4_096)] },
}
