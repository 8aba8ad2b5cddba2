/** POST /v1/heartbeat: what a phone may send, and what is kept of it. */
import { readdirSync, readFileSync } from 'node:fs'
import t from 'tap'
import { connect } from '../helpers/database.ts'
import { type Enrolled, startService } from '../helpers/service.ts'
import { BOUNDS, FIXTURES, KEPT, NOTHING, UNKNOWN_DEEP, VALUES } from './payloads.ts'

// Window 0: every heartbeat is stored, so that each test reads back what it sent.
const service = await startService(t, { env: { HEARTBEAT_DEDUP_WINDOW_S: '0' } })
const db = await connect(t, service.databaseUrl)
let enrolled = 0
const enroll = () => service.enroll(`H${++enrolled}`)

function post(device: Pick<Enrolled, 'token'>, raw: string | Uint8Array, requestId?: string) {
  return service.call('POST', '/v1/heartbeat', {
    token: device.token,
    raw,
    headers: {
      'content-type': 'application/json',
      ...(requestId !== undefined && { 'x-request-id': requestId }),
    },
  })
}

const beat = (device: Pick<Enrolled, 'token'>, body: object, requestId?: string) =>
  post(device, JSON.stringify(body), requestId)

async function lastStatus({ deviceId }: Enrolled) {
  const text = `select ${VALUES} from device_status where device_id = $1`
  return (await db.query(text, [deviceId])).rows[0]
}

async function history({ deviceId }: Enrolled) {
  const text = `select ${VALUES} from heartbeats where device_id = $1 order by received_at`
  return (await db.query(text, [deviceId])).rows
}

t.test('every payload of the fielded agent is stored with its values', async (t) => {
  const files = readdirSync(FIXTURES).filter((name) => name.startsWith('heartbeat-'))
  t.same(files.sort(), Object.keys(KEPT).sort())
  for (const [name, { values, ignored }] of Object.entries(KEPT)) {
    const device = await enroll()
    const raw = readFileSync(new URL(name, FIXTURES), 'utf8')
    const response = await post(
      device,
      raw.replace('REPLACE-WITH-REQUEST-ID', 'nobody-asked'),
      name,
    )
    t.match(response, { status: 200, body: { ok: true, deduped: false, commands: [] } }, name)
    t.same([...response.body.ignored].sort(), [...ignored].sort(), `${name}: what was ignored`)
    const kept = { ...NOTHING, ...values }
    t.same(await lastStatus(device), kept, `${name}: last status`)
    t.same(await history(device), [kept], `${name}: history`)
    const line = await service.lines.terminalOf(name)
    const beats = service.lines.of('heartbeat.ingest')
    if (beats.every(({ latency_ms }) => Number(latency_ms) < 500))
      t.equal(response.body.next_heartbeat_s, 300) // later where the machine makes heartbeats slow
    t.same(line['ignored'], ignored.length === 0 ? null : response.body.ignored, `${name}: line`)
  }
})

t.test('the flat shape is read whole', async (t) => {
  const device = await enroll()
  const body = {
    status: 'warn',
    battery_pct: 0,
    network_type: 'x'.repeat(32),
    uptime_s: 4_000_000_000,
    plugged: false,
    temp_c: -12.5,
    signal_dbm: -113,
    ram_used_mb: 1_024,
    app_version: '2.0',
    agent_version: '1.0',
    version_code: 2_100_000_042,
  }
  t.same((await beat(device, body)).body.ignored, [])
  t.same(await lastStatus(device), {
    ...body,
    uptime_s: '4000000000',
    version_code: '2100000042',
  })
})

t.test('an unusable value is null and named, the others are kept', async (t) => {
  const odd: Readonly<Record<string, readonly unknown[]>> = {
    status: [
      'OK!',
      'critical',
      'sleepy',
      ' ok',
      'ok ',
      'o\u212a',
      '',
      1,
      true,
      {},
      ['error'],
      null,
    ],
    battery_pct: [-1, 101, '85', true, [85], 0.87, 1e-300],
    network_type: ['x'.repeat(33), 5, {}, 'a\0b', '\ud800'],
    uptime_s: [-1, 1e300, 'long'],
    plugged: ['true', 1],
    temp_c: [1e308, -300, 'hot'],
    signal_dbm: [-70_000, 70_000],
    ram_used_mb: [-1, 1e10],
    app_version: ['v'.repeat(65), 7],
    agent_version: ['\udc00'],
    version_code: [-1, '42', 2 ** 53, true, 42.9, 0.5],
    app_versions: [7, 'x', [], [{ 'a.b': { version_code: 1 } }]],
    fcm_token: ['t'.repeat(4_097), 7],
    ts: ['yesterday', 12, '2026-02-30T00:00:00Z', '2026-01-01'],
    is_ping_response: ['true', 1],
  }
  const device = await enroll()
  for (const [name, values] of Object.entries(odd)) {
    for (const value of values) {
      const response = await beat(device, { app_version: '1', agent_version: '2', [name]: value })
      const title = `${name}: ${JSON.stringify(value).slice(0, 20)}`
      t.same([response.status, response.body.ignored], [200, [name]], title)
      const kept = { ...NOTHING, app_version: '1', agent_version: '2' }
      const expected = Object.hasOwn(kept, name) ? { ...kept, [name]: null } : kept
      t.same(await lastStatus(device), expected, title)
      t.same((await history(device)).at(-1), expected, title)
    }
  }
})

t.test('a value is taken up to its bounds, and not beyond', async (t) => {
  const device = await enroll()
  for (const [name, { most, nested = name }] of Object.entries(BOUNDS)) {
    for (const path of new Set([name, nested])) {
      const [outer = '', inner] = path.split('.')
      const of = (value: unknown) => ({ [outer]: inner === undefined ? value : { [inner]: value } })
      for (const value of most) {
        t.same((await beat(device, of(value))).body.ignored, [], `${path}: ${value}`)
        const kept = await lastStatus(device)
        if (name !== 'fcm_token') t.equal(String(kept[name]), String(value))
        const step = value === most[0] ? -1 : 1
        const beyond = typeof value === 'number' ? value + step : `${value}x`
        t.same((await beat(device, of(beyond))).body.ignored, [path], `${path}: ${beyond}`)
      }
    }
  }
  const memory = (total_ram_mb: number, avail_ram_mb: number) => ({
    memory: { total_ram_mb, avail_ram_mb },
  })
  t.same((await beat(device, memory(10_000_000, 0))).body.ignored, [])
  t.match(await lastStatus(device), { ram_used_mb: 10_000_000 })
  t.same((await beat(device, memory(7, 7))).body.ignored, [])
  t.match(await lastStatus(device), { ram_used_mb: 0 })
})

t.test('a status is read in any case, and is ok where there is none', async (t) => {
  const device = await enroll()
  const shown = async () =>
    (await service.call('GET', `/admin/devices/${device.deviceId}`)).body.last_status.status
  t.equal(await shown(), null, 'before its first heartbeat')
  for (const status of ['ok', 'OK', 'Ok', 'warn', 'WARN', 'Warn', 'error', 'ERROR', 'Error']) {
    t.same((await beat(device, { status })).body.ignored, [], status)
    t.equal(await shown(), status.toLowerCase(), status)
  }
  t.same((await beat(device, { battery_pct: 5 })).body.ignored, [])
  t.equal(await shown(), 'ok')
  const response = await beat(device, { status: 'critical' }, 'critical-1')
  t.same(response.body.ignored, ['status'])
  t.equal(await shown(), null)
  t.match(await service.lines.terminalOf('critical-1'), { status: null, ignored: ['status'] })
})

t.test('whole numbers may be doubles; only a version code must be whole', async (t) => {
  const device = await enroll()
  const apps = '"app_versions":{"com.a":{"version_code":7.0}}'
  const raw = `{"battery_pct":85.5,"uptime_s":1.2345678E7,"version_code":4.2E1,${apps}}`
  t.same((await post(device, raw)).body.ignored, [])
  t.match(await lastStatus(device), { battery_pct: 85, uptime_s: '12345678', version_code: '42' })
  const memory = { total_ram_mb: 0.5, avail_ram_mb: 0.25 }
  const fractions = { uptime_s: 0.5, signal_dbm: 0.5, memory }
  const ignored = ['uptime_s', 'signal_dbm', 'memory.total_ram_mb', 'memory.avail_ram_mb']
  t.same((await beat(device, fractions)).body.ignored, ignored)
})

t.test('numbers that no column holds never fail the heartbeat', async (t) => {
  const device = await enroll()
  for (const number of [
    '1e999',
    '-1e999',
    '1e-300',
    '1e-46',
    '-0',
    '99999999999999999999',
    '0.1',
  ]) {
    const raw = `{"battery_pct":${number},"uptime_s":${number},"temp_c":${number},"signal_dbm":${number},
      "ram_used_mb":${number},"battery":{"temperature_c":${number}}}`
    t.equal((await post(device, raw)).status, 200, number)
  }
})

t.test('memory that does not add up is named', async (t) => {
  const device = await enroll()
  const response = await beat(device, { memory: { total_ram_mb: 100, avail_ram_mb: 200 } })
  t.same(response.body.ignored, ['memory.avail_ram_mb'])
})

t.test('what stands where an object belongs is named', async (t) => {
  const device = await enroll()
  const body = { battery: 5, system: 'x', network: [], memory: null }
  t.same((await beat(device, body)).body.ignored, ['battery', 'system', 'network'])
})

t.test('the time that was used is the one that is named', async (t) => {
  const device = await enroll()
  const response = await beat(device, { ts: 'yesterday', timestamp_utc: '2020-01-01T00:00:00Z' })
  t.same(response.body.ignored, ['ts', 'timestamp_utc'])
})

t.test('unknown, deep and polluted keys are dropped', async (t) => {
  const device = await enroll()
  const bodies = [
    '{"__proto__":{"battery_pct":5},"constructor":{"prototype":{"status":"error"}}}',
    '{"battery":{"__proto__":{"pct":5}},"network":{"transport":{"transport":"wifi"}}}',
    `{"unknown":${UNKNOWN_DEEP},"battery.pct":5}`,
    '{"toString":1,"hasOwnProperty":2,"battery":[{"pct":5}],"system":"up","memory":null}',
  ]
  for (const raw of bodies) {
    t.equal((await post(device, raw)).status, 200, raw.slice(0, 40))
    t.same(await lastStatus(device), NOTHING)
  }
})

t.test('only a body that is no JSON object is refused, and nothing is stored', async (t) => {
  const device = await enroll()
  const bodies = ['', '{', '[]', '[{}]', 'null', '12', '"x"', 'true', '{"a":1}{', '\ufeff{}']
  for (const raw of [...bodies, Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d)]) {
    const response = await post(device, raw)
    t.match(response, { status: 400, body: { code: 'bad_json' } }, String(raw))
  }
  t.same(await history(device), [])
  const { rows } = await db.query('select last_seen_at from device_status where device_id = $1', [
    device.deviceId,
  ])
  t.same(rows, [{ last_seen_at: null }])
})

t.test('X-Device-Token means the same, and an empty device_id is no identity', async (t) => {
  const device = await enroll()
  const response = await service.call('POST', '//v1//heartbeat', {
    token: null,
    headers: { 'x-device-token': device.token },
    body: { device_id: '', alias: 'another', status: 'error' },
  })
  t.match(response, { status: 200, body: { ok: true, ignored: [] } })
  t.same(await lastStatus(device), { ...NOTHING, status: 'error' })
})

t.test('the line has the common fields, then its own, in order', async (t) => {
  const device = await enroll()
  const body = { status: 'warn', battery_pct: 12.9, network_type: 'cell', uptime_s: 7, temp_c: 'x' }
  await beat(device, body, 'line-1')
  const line = await service.lines.terminalOf('line-1')
  t.same(Object.keys(line).slice(11), [
    'status',
    'battery_pct',
    'network_type',
    'uptime_s',
    'ignored',
  ])
  t.match(line, {
    level: 'INFO',
    event: 'heartbeat.ingest',
    request_id: 'line-1',
    route: '/v1/heartbeat',
    ip: '127.0.0.1',
    device_id: device.deviceId,
    alias: `H${enrolled}`,
    status_code: 200,
    latency_ms: Number,
    status: 'warn',
    battery_pct: 12,
    network_type: 'cell',
    uptime_s: 7,
    ignored: ['temp_c'],
  })
  const { rows } = await db.query('select request_id from heartbeats where device_id = $1', [
    device.deviceId,
  ])
  t.same(rows, [{ request_id: 'line-1' }])
})
