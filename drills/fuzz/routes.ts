/** What each endpoint reads, besides the route table: good values, as JSON text and as query text. */
import { FORGED_CURSORS } from './values.ts'

export type Fields = Readonly<Record<string, readonly string[]>>

const texts = (...values: readonly string[]) => values.map((value) => JSON.stringify(value))
const SOME_TEXT = texts('x', 'R4S', 'ünï 📱', 'a\\b"c')
const FIDS = texts('fid-1', 'fid-2', '')
const PUSH_REPORTS = [
  '{"received_at":"2026-01-31T09:15:27.042Z","priority":"normal","original_priority":"high"}',
  '{"received_at":"9999-12-31T23:59:59Z"}',
  '{}',
]
const RESULT: Fields = {
  request_id: texts('c1', 'c2', 'c3', 'c4', 'none'),
  correlation_id: texts('c1', 'c5'),
  action: texts('ping', 'ring'),
  outcome: texts('success', 'failure', 'timeout', 'rejected', 'OK', 'error'),
  status: texts('OK', 'ERROR', 'FAILED', 'TIMEOUT'),
  message: SOME_TEXT,
  output: SOME_TEXT,
  exit_code: ['0', '1', '-1'],
  push: PUSH_REPORTS,
  finished_at: texts('2026-01-31T09:15:27.042Z'),
}
const HEARTBEAT: Fields = {
  status: texts('ok', 'warn', 'error'),
  battery_pct: ['0', '55', '100', '85.0'],
  network_type: texts('wifi', 'cell'),
  uptime_s: ['1', '12345', '1.2345678E7'],
  plugged: ['true', 'false'],
  temp_c: ['31.5', '-4'],
  signal_dbm: ['-71'],
  ram_used_mb: ['1502'],
  app_version: SOME_TEXT,
  agent_version: SOME_TEXT,
  version_code: ['42', '0', '1.0E1', '9007199254740993'],
  app_versions: [
    '{"com.example.app":{"installed":true,"version_name":"1.0.0","version_code":10.0}}',
    '{"com.example.app":{"version_code":42},"com.example.none":{"version_code":1},"x":1}',
    '{"__proto__":{"version_code":1},"constructor":{"version_code":1},"a.b":{"installed":false}}',
    '{}',
  ],
  fcm_token: texts('push-1', 'push-2'),
  fid: FIDS,
  push: PUSH_REPORTS,
  ts: texts('2026-01-31T09:15:27.042Z'),
  timestamp_utc: texts('2026-01-31T09:15:27Z'),
  device_id: texts('', 'x'),
  battery: ['{"pct":85.0,"charging":true,"temperature_c":31.5}', '{"pct":null}'],
  system: ['{"uptime_seconds":1.2345678E7,"sdk_int":33}'],
  network: ['{"transport":"wifi","ssid":"Depot"}'],
  memory: ['{"total_ram_mb":3745.0,"avail_ram_mb":1502}'],
  is_ping_response: ['true', 'false'],
  ping_request_id: texts('c1', 'c2', 'none'),
}

/** Good ones and bad ones, for mutations to begin with. */
const WHERE = [
  ...['', 'alias:P*', 'label:site=zrh,"a b*" -label:old', 'sdk>=33 battery!=20,30 uptime<=7d'],
  ...['seen>30m -seen<36500d enrolled<7d online:false', 'push:live,none open:true status:ok'],
  ...[
    'package:com.example.app<42 version_code>=7',
    '-package:com.example.app',
    'model:"R4S 5G",x\\%_ -app:1.*',
    'device:P1',
    'alias:"',
  ],
]
const LABELS = ['{}', '{"site":"zrh"}', '{"old":null,"note":"a b"}', '{"Site":"x"}']

const COMMAND: Fields = {
  alias: texts('P1', 'P2', 'P3'),
  action: texts('ping', 'ring'),
  params: ['{}', '{"seconds":"5"}', '{"a":"1","b":"2"}', '{"from":"x"}'],
  request_id: texts('c1', 'c2', 'c3', 'c4', 'c5', 'c6'),
  ttl_s: ['30', '86400', '604800'],
}

const PUSH_ID: Fields = { fcm_token: texts('push-1', 'push-2', 'x'), fid: FIDS }
const JOB: Fields = {
  job_id: texts('j1', 'j2', 'c1'),
  action: COMMAND['action'] ?? [],
  params: COMMAND['params'] ?? [],
  ttl_s: COMMAND['ttl_s'] ?? [],
}

/** By the path of a POST or PATCH. */
export const BODIES: Readonly<Record<string, Fields>> = {
  '/v1/register': {
    alias: texts('F1', 'F2', 'F3', 'P1'),
    hardware_id: SOME_TEXT,
    fcm_token: texts('push-1'),
    fid: FIDS,
    app_version: SOME_TEXT,
    model: SOME_TEXT,
    manufacturer: SOME_TEXT,
    android_version: texts('13'),
    sdk_int: ['33', '0', 'null'],
  },
  '/v1/heartbeat': HEARTBEAT,
  '/v1/action-result': RESULT,
  '/v1/devices/{device_id}/ack': RESULT,
  '/v1/devices/ack': RESULT,
  '/v1/devices/fcm-token': PUSH_ID,
  '/v1/devices/push-id': PUSH_ID,
  '/v1/enroll-tokens': {
    aliases: ['["F1"]', '[null]', '["F2",null]', '["F1","F1"]'],
    expires_in_sec: ['60', '2700', '2592000'],
    uses_allowed: ['1', '1000'],
    note: SOME_TEXT,
    labels: LABELS,
  },
  '/admin/devices/{device_id}': { labels: LABELS },
  '/admin/devices/labels': {
    where: texts(...WHERE),
    labels: LABELS,
    expect_devices: ['0', '1', '2', '3'],
    dry_run: ['true', 'false'],
  },
  '/admin/jobs': {
    ...JOB,
    where: texts(...WHERE),
    per_minute: ['1', '600'],
    max_failed_pct: ['1', '5', '100'],
    min_results: ['1', '20'],
    not_before: texts(new Date().toISOString()),
    expect_devices: ['0', '1', '2', '3'],
    dry_run: ['true', 'false'],
    note: SOME_TEXT,
  },
  '/admin/jobs/{job_id}/abort': { cancel_open: ['true', 'false'] },
  '/admin/command': COMMAND,
  '/admin/commands': COMMAND,
}

const PAGE: Fields = { limit: ['1', '50'], cursor: FORGED_CURSORS }

/** By method and path. */
export const QUERIES: Readonly<Record<string, Fields>> = {
  'POST /admin/command': { wait_ms: ['0', '1'], wait_for: ['push'] },
  'POST /admin/commands': { wait_ms: ['0', '1'], wait_for: ['push'] },
  'GET /v1/enroll-tokens': { status: ['active', 'exhausted', 'expired', 'revoked'], ...PAGE },
  'GET /admin/commands': {
    status: ['queued', 'completed'],
    action: ['ping'],
    device_id: [],
    alias: ['P1'],
    outcome: ['success', 'rejected'],
    ...PAGE,
  },
  'GET /admin/commands/{request_id}': { wait_ms: ['0', '1'], wait_for: ['push', 'end'] },
  'GET /admin/jobs': { state: ['running', 'paused', 'done'], ...PAGE },
  'GET /admin/jobs/{job_id}': { wait_ms: ['0', '1'] },
  'GET /admin/jobs/{job_id}/commands': {
    status: ['waiting', 'queued', 'failed'],
    outcome: ['success', 'rejected'],
    ...PAGE,
  },
  'GET /admin/devices': {
    where: WHERE,
    order: ['created', 'alias', 'seen'],
    alias: ['P1'],
    offline_for_s: ['0', '1500'],
    ...PAGE,
  },
  'DELETE /admin/devices/{device_id}': { erase: ['true', 'false'] },
  'GET /admin/devices/{device_id}/heartbeats': {
    since: ['2026-01-31T09:15:27Z'],
    until: ['2126-01-31T09:15:27Z'],
    step_s: ['60', '300', '86400', '7'],
    ...PAGE,
  },
  'GET /admin/fleet': { where: WHERE },
  'GET /admin/apk/builds': { build_type: ['debug', 'release'], ...PAGE },
  'GET /admin/audit': {
    since: ['2026-01-31T09:15:27Z'],
    until: ['2126-01-31T09:15:27Z'],
    admin: ['fuzz'],
    what: ['device.label'],
    ...PAGE,
  },
  'GET /admin/events': {
    after: ['now', ...FORGED_CURSORS],
    types: ['token.created', 'device.enrolled,command.ended'],
    wait_ms: ['0', '1'],
    limit: ['1', '500'],
  },
  'GET /v1/apk/download-latest': { build_type: ['debug', 'release'] },
  'PUT /admin/apk/builds/{build_id}': {
    version_code: ['1', '7'],
    version_name: ['1.7'],
    build_type: ['debug', 'release'],
    git_sha: ['0123456789abcdef0123456789abcdef01234567'],
    ci_run_id: ['run-1'],
    signer_fingerprint: ['AA:BB'],
  },
}
