/** Heartbeats of many phones share a statement: each is judged, stored and answered as if it were alone. */
import { randomBytes } from 'node:crypto'
import t from 'tap'
import { createHeartbeats } from '../../src/app/parts/heartbeat-group.ts'
import { storeHeartbeats } from '../../src/db/heartbeats/heartbeats.ts'
import { Pool } from '../../src/db/postgres/pool.ts'
import { type Heartbeat, STATUS_FIELDS } from '../../src/domain/heartbeat.ts'
import { readHeartbeat } from '../../src/routes/devices/heartbeat-body.ts'
import { hashToken, issueDeviceToken } from '../../src/security/tokens.ts'
import { until } from '../../testkit/until.ts'
import { connect, PATIENT } from '../helpers/database.ts'
import { type Enrolled, HMAC_SECRET, startService } from '../helpers/service.ts'

const SECRET = { id: 'default', secret: HMAC_SECRET }

// Window 0: every heartbeat is stored, so that each test reads back what it sent.
const service = await startService(t, { env: { HEARTBEAT_DEDUP_WINDOW_S: '0' } })
const db = await connect(t, service.databaseUrl)
let enrolled = 0
const enroll = () => service.enroll(`G${++enrolled}`)

function beat({ token }: Pick<Enrolled, 'token'>, raw: string, requestId?: string) {
  return service.call('POST', '/v1/heartbeat', {
    token,
    raw,
    headers: {
      'content-type': 'application/json',
      ...(requestId !== undefined && { 'x-request-id': requestId }),
    },
  })
}

async function batteriesOf({ deviceId }: Enrolled): Promise<readonly (number | null)[]> {
  const text = 'select battery_pct from heartbeats where device_id = $1 order by battery_pct'
  return (await db.query(text, [deviceId])).rows.map((row) => row.battery_pct)
}

/** Each field of both shapes, names with slashes between them, with what PostgreSQL or JSON.parse could choke on. */
const FIELDS = [
  ...Object.values(STATUS_FIELDS).flatMap(({ places }) =>
    places.map(({ path }) => path.replaceAll('.', '/')),
  ),
  ...['fcm_token', 'ts', 'timestamp_utc', 'memory/total_ram_mb', 'memory/avail_ram_mb'],
  ...['ping_request_id', 'app_versions', 'app_versions/a.b', 'app_versions/a.b/version_code'],
  ...['app_versions/a\\u0000.b/version_code', 'app_versions/\\ud800/version_code'],
]
const ODD_VALUES = [
  '"a\\u0000b"',
  '"\\ud800"',
  '1e999',
  '-1e300',
  '1e-300',
  '"2026-02-30T00:00:00Z"',
]

function oddBody(field: string, value: string): string {
  const body = field.split('/').reduceRight((inner, name) => `{"${name}":${inner}}`, value)
  return `{"is_ping_response":true,${body.slice(1)}`
}

t.test('one phone’s odd value, in any field, never fails the heartbeat of another', async (t) => {
  const cases = FIELDS.flatMap((field) => ODD_VALUES.map((value) => oddBody(field, value)))
  const [odd, good]: [Enrolled[], Enrolled[]] = [[], []]
  for (let pair = 0; pair < 16; pair += 1) {
    odd.push(await enroll())
    good.push(await enroll())
  }
  for (let from = 0; from < cases.length; from += odd.length) {
    const raws = cases.slice(from, from + odd.length)
    const responses = await Promise.all(
      raws.flatMap((raw, i) => {
        const [one, other] = [odd[i], good[i]]
        return one && other ? [beat(one, raw), beat(other, '{"battery_pct":7}')] : []
      }),
    )
    for (const [i, response] of responses.entries()) {
      t.equal(response.status, 200, (i % 2 === 0 && raws[i / 2]) || 'the one beside it')
    }
  }
  const [first] = good
  const rows = first === undefined ? [] : await batteriesOf(first)
  t.same(new Set(rows), new Set([7]))
  t.equal(rows.length, Math.ceil(cases.length / odd.length))
})

t.test('a row that the database or its encoding refuses is refused alone', async (t) => {
  const devices: Enrolled[] = []
  while (devices.length < 9) devices.push(await enroll())
  for (const device of devices) t.equal((await beat(device, '{}')).status, 200)
  const pool = new Pool({
    ...PATIENT,
    url: service.databaseUrl,
    maxConnections: 1,
    isPrepared: true,
  })
  t.teardown(() => pool.close(1_000))
  const nowMs = () => performance.now()
  const heartbeats = createHeartbeats({
    store: storeHeartbeats(pool, 0, 300),
    failpoint: undefined,
    nowMs,
  })
  // What the route lets nobody send.
  const refused = new Map<number, Partial<Heartbeat>>([
    [2, { networkType: 'a\0b' }],
    [5, { batteryPct: 40_000 }],
    [6, { status: 'odd' as 'ok' }],
  ])
  const { heartbeat } = readHeartbeat({})
  const results = await Promise.allSettled(
    devices.map(({ token }, i) =>
      heartbeats.add({
        tokenHash: hashToken(token),
        requestId: `bad-${i}`,
        heartbeat: { ...heartbeat, ...refused.get(i) },
      }),
    ),
  )
  t.same(
    results.flatMap(({ status }, i) => (status === 'rejected' ? [i] : [])),
    [...refused.keys()],
  )
  for (const [i, device] of devices.entries()) {
    t.equal((await batteriesOf(device)).length, refused.has(i) ? 1 : 2, `${i}`)
  }
})

t.test(
  'a device that an operator renamed by hand is answered as itself, and so are the others',
  async (t) => {
    const devices = [await enroll(), await enroll(), await enroll()]
    const rename = 'update devices set alias = $2 where device_id = $1'
    await db.query(rename, [devices[1]?.deviceId, 'Truck 7, "north"'])
    for (let round = 0; round < 2; round += 1) {
      const responses = await Promise.all(devices.map((device) => beat(device, '{}')))
      for (const [i, { status, requestId }] of responses.entries()) {
        t.equal(status, 200)
        const { device_id, alias } = await service.lines.terminalOf(requestId)
        t.equal(device_id, devices[i]?.deviceId)
        t.equal(alias === 'Truck 7, "north"', i === 1)
      }
    }
  },
)

t.test(
  'without a window all heartbeats of one device are stored, also within one group',
  async (t) => {
    const device = await enroll()
    const sent = Array.from({ length: 30 }, (_, i) => beat(device, `{"battery_pct":${i}}`))
    for (const response of await Promise.all(sent)) t.equal(response.body.deduped, false)
    t.same(
      await batteriesOf(device),
      Array.from({ length: 30 }, (_, i) => i),
    )
  },
)

t.test('each token of a mixed group gets its own answer', async (t) => {
  const live = await service.enroll('mixed-live')
  const replaced = await service.enroll('mixed-replaced')
  const deleted = await service.enroll('mixed-deleted')
  await service.enroll('mixed-replaced')
  await service.call('DELETE', `/admin/devices/${deleted.deviceId}`)
  const forgotten = issueDeviceToken(SECRET, randomBytes)
  const expected: [token: string, status: number, code: string | undefined][] = [
    [live.token, 200, undefined],
    [replaced.token, 401, 'token_superseded'],
    [deleted.token, 410, 'device_deleted'],
    [forgotten.token, 503, 'not_provisioned'],
    [
      forgotten.token.replace(/_./, (start) => (start === '_A' ? '_B' : '_A')),
      401,
      'token_unknown',
    ],
    [live.enrollmentToken, 401, 'wrong_credential'],
  ]
  const sent = Array.from({ length: 4 }, () => expected).flat()
  const responses = await Promise.all(sent.map(([token], i) => beat({ token }, '{}', `mixed-${i}`)))
  for (const [i, response] of responses.entries()) {
    const [, status, code] = sent[i] ?? []
    t.same([response.status, response.body.code], [status, code], `mixed-${i}`)
    t.equal(response.headers.has('retry-after'), status === 503)
  }
  t.equal((await batteriesOf(live)).length, 4)
  t.same(await batteriesOf(replaced), [])
  t.same(await batteriesOf(deleted), [])
  t.match(await service.lines.terminalOf('mixed-1'), {
    event: 'sec.auth.denied',
    level: 'WARN',
    reason: 'superseded',
    device_id: replaced.deviceId,
    alias: 'mixed-replaced',
  })
  t.match(await service.lines.terminalOf('mixed-2'), {
    event: 'sec.auth.denied',
    reason: 'deleted',
    device_id: deleted.deviceId,
  })
  t.match(await service.lines.terminalOf('mixed-3'), { event: 'http.error', status_code: 503 })
  await service.lines.waitFor(
    (line) => line.event === 'device.unknown_to_database' && line['request_id'] === 'mixed-3',
  )
})

t.test('the first use of a re-issued token kills its siblings', async (t) => {
  const body = { hardware_id: 'H1' }
  const first = await service.enroll('reissued', body)
  const again = await service.call('POST', '/v1/register', {
    token: first.enrollmentToken,
    body,
  })
  t.equal(again.status, 200)
  t.match(await beat({ token: again.body.device_token }, '{}'), { status: 200 })
  t.match(await beat(first, '{}'), { status: 401, body: { code: 'token_superseded' } })
  t.match(await beat({ token: again.body.device_token }, '{}'), { status: 200 })
  const { rows } = await db.query(
    `select dead_reason, first_used_at is not null as used from device_tokens
     where device_id = $1 order by issued_at`,
    [first.deviceId],
  )
  t.same(rows, [
    { dead_reason: 'superseded', used: false },
    { dead_reason: null, used: true },
  ])
})

t.test(
  'a heartbeat that the database keeps waiting is refused for now, never as proven bad',
  async (t) => {
    const device = await service.enroll('blocked')
    t.equal((await beat(device, '{}')).status, 200)
    const holder = await connect(t, service.databaseUrl)
    await holder.query('begin')
    const lock = 'select from device_status where device_id = $1 for update'
    await holder.query(lock, [device.deviceId])
    const response = await beat(device, '{}')
    t.match(response, { status: 503, body: { code: 'overloaded' } })
    t.ok(response.headers.has('retry-after'))
    await holder.query('rollback')
    t.equal((await batteriesOf(device)).length, 1)
    t.match(await beat(device, '{}'), { status: 200 })
  },
)

t.test('a device that is locked is refused alone, and the others wait for it once', async (t) => {
  const devices: Enrolled[] = []
  while (devices.length < 64) devices.push(await enroll())
  await Promise.all(devices.map((device) => beat(device, '{}')))
  const blocked = new Set([devices[10], devices[11], devices[50]])
  const holder = await connect(t, service.databaseUrl)
  await holder.query('begin')
  const lock = 'select from device_status where device_id = any ($1) for update'
  await holder.query(lock, [[...blocked].map((device) => device?.deviceId)])
  for (let round = 0; round < 3; round += 1) {
    const responses = await Promise.all(devices.map((device) => beat(device, '{}')))
    for (const [i, device] of devices.entries()) {
      const response = responses[i]
      t.equal(response?.status, blocked.has(device) ? 503 : 200, `${i}`)
      if (blocked.has(device)) t.equal(response?.body.code, 'overloaded')
      t.equal(response?.headers.has('retry-after'), blocked.has(device))
    }
  }
  await holder.query('rollback')
  for (const device of devices) {
    t.equal((await batteriesOf(device)).length, blocked.has(device) ? 1 : 4)
    t.match(await beat(device, '{}'), { status: 200 })
  }
})

t.test('a table that is locked fails the group once, not each of its halves', async (t) => {
  const devices = [await enroll(), await enroll(), await enroll(), await enroll()]
  const holder = await connect(t, service.databaseUrl)
  for (const table of ['device_status', 'heartbeats', 'commands']) {
    await holder.query(`begin; lock table ${table} in access exclusive mode`)
    const responses = await Promise.all(devices.map((device) => beat(device, '{}')))
    for (const response of responses) {
      t.match(response, { status: 503, body: { code: 'db_unavailable' } }, table)
    }
    await holder.query('rollback')
  }
  t.match(await beat({ token: devices[0]?.token ?? '' }, '{}'), { status: 200 })
})

t.test('while the database is slow a phone is asked to come back later', async (t) => {
  const slow = await startService(t)
  const device = await slow.enroll('slow')
  const beatSlow = async (): Promise<number> => {
    const response = await slow.call('POST', '/v1/heartbeat', { token: device.token, body: {} })
    if (response.status === 503) return beatSlow() // on a busy machine it took even longer
    return response.body.next_heartbeat_s
  }
  await until(async () => (await beatSlow()) === 300, 'the usual interval', 60_000)
  const own = await connect(t, slow.databaseUrl)
  await own.query(`
    create function be_slow() returns trigger language plpgsql as
      $$ begin perform pg_sleep(0.51); return new; end $$;
    create trigger slow before update on device_status for each row execute function be_slow()`)
  const later = await beatSlow()
  t.ok(later >= 330 && later <= 1_125, `${later} s`)
})
