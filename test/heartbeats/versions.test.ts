/** Version codes in heartbeats: what is kept of them, and the phones that a build counts. */
import t from 'tap'
import { makeApk } from '../../sim/apk.ts'
import { connect } from '../helpers/database.ts'
import { type Enrolled, startService } from '../helpers/service.ts'

const service = await startService(t)
const db = await connect(t, service.databaseUrl)

const beat = ({ token }: Enrolled, body: object) =>
  service.call('POST', '/v1/heartbeat', { token, body })

/** Minutes from now, as a phone writes it. */
const inMinutes = (minutes: number) => new Date(Date.now() + minutes * 60_000).toISOString()

/** Builds of those packages, as far as heartbeats look at them. */
const publish = (...packages: readonly string[]) =>
  db.query(
    `insert into apk_builds (build_id, build_type, version_code, sha256, size_bytes, chunk_count, published_by, request_id,
       package)
     select package, 'debug', 1, sha256('b'), 1, 1, 'order', 'r', package from unnest($1::text[]) package`,
    [packages],
  )

const versions = (codes: Readonly<Record<string, unknown>>) => ({
  app_versions: Object.fromEntries(
    Object.entries(codes).map(([name, version_code]) => [name, { version_code }]),
  ),
})

async function shown({ deviceId }: Enrolled) {
  const { body } = await service.call('GET', `/admin/devices/${deviceId}`)
  return body.app_versions
}

t.test('version codes are kept of packages that have a build, as last reported', async (t) => {
  await publish('com.kept.one', 'com.kept.Two')
  await db.query("update apk_builds set withdrawn_at = now() where package = 'com.kept.Two'")
  const device = await service.enroll('versions')
  t.equal(await shown(device), null, 'none was reported')
  await beat(device, { ts: inMinutes(-9), version_code: 7 })
  t.equal(await shown(device), null)
  const ten = { installed: true, version_name: '1.0.0', version_code: 10 }
  const body = { app_versions: { 'com.kept.one': ten, 'com.kept.two': ten, 'com.none': ten } }
  t.same((await beat(device, { ts: inMinutes(-8), ...body })).body.ignored, [])
  t.same(await shown(device), { 'com.kept.one': { version_code: 10 } })

  await beat(device, { ts: inMinutes(-7), battery_pct: 50 })
  await beat(device, { ts: inMinutes(-6), app_versions: 'x' })
  t.same(await shown(device), { 'com.kept.one': { version_code: 10 } }, 'it names none')
  const more = versions({ 'com.kept.Two': 2 ** 53 - 1, 'com.kept.one': 0 })
  await beat(device, { ts: inMinutes(-5), ...more })
  const all = more.app_versions
  t.same(await shown(device), all)
  await beat(device, { ts: inMinutes(-8), ...versions({ 'com.kept.one': 9 }) })
  t.same(await shown(device), all, 'an older one')
  const { body: list } = await service.call('GET', '/admin/devices?alias=versions')
  t.match(list.devices, [{ app_versions: all, last_status: { version_code: null } }])

  await beat(device, { ts: inMinutes(-4), ...versions({ 'com.kept.Two': 3 }) })
  t.same(await shown(device), { 'com.kept.Two': { version_code: 3 } }, 'the other one is gone')
  const again = await service.enroll('versions')
  t.equal(await shown(again), null, 'another phone may have it')
  await beat(again, { app_versions: {} })
  t.same(await shown(again), {})
})

t.test(
  'of more packages than 16 the first in byte order are kept, of more than 128 none',
  async (t) => {
    const names = Array.from({ length: 18 }, (_, n) => `com.many.${n % 2 ? 'a' : 'Z'}${n}`)
    await publish(...names)
    const device = await service.enroll('many')
    const codes = (count: number) => ({
      ...Object.fromEntries(Array.from({ length: count - 18 }, (_, n) => [`com.other.x${n}`, n])),
      ...Object.fromEntries(names.map((name) => [name, 1])),
    })
    t.same((await beat(device, versions(codes(128)))).body.ignored, [])
    const kept = Object.keys(await shown(device))
    t.same(kept.toSorted(), names.toSorted().slice(0, 16))
    const tooMany = await beat(device, versions({ ...codes(128), 'com.other.last': 1 }))
    t.same([tooMany.status, tooMany.body.ignored], [200, ['app_versions']])
    t.same(Object.keys(await shown(device)), kept)
  },
)

t.test('a version code that is unusable is named once, and costs no other', async (t) => {
  await publish('com.odd', 'com.odd.other')
  const other = { version_code: 5 }
  for (const odd of [
    ...['-1', '42.9', '"10"', '9007199254740992', '1e999', 'true', '{}', '[1]'].map(
      (code) => `"com.odd":{"version_code":${code}}`,
    ),
    ...['7', '"x"', '[]', '[{"version_code":1}]'].map((app) => `"com.odd":${app}`),
    ...[
      '__proto__',
      'constructor',
      'com',
      'com.',
      '.com.odd',
      'com.odd ',
      'com.1',
      '',
      'com.ödd',
    ].map((name) => `"${name}":{"version_code":1}`),
    `"com.${'x'.repeat(220)}":{"version_code":1}`,
    '"com.odd":7,"com.none":8,"no":9',
  ]) {
    const device = await service.enroll('odd')
    const raw = `{${odd},"com.odd.other":${JSON.stringify(other)}}`
    const response = await service.call('POST', '/v1/heartbeat', {
      token: device.token,
      raw: `{"app_versions":${raw}}`,
      headers: { 'content-type': 'application/json' },
    })
    t.same([response.status, response.body.ignored], [200, ['app_versions']], odd)
    t.same(await shown(device), { 'com.odd.other': other }, odd)
  }
  const device = await service.enroll('odd')
  const absent = { 'com.odd': null, 'com.odd.other': { ...other, installed: false } }
  const silent = await beat(device, { app_versions: { ...absent, 'com.none': {} } })
  t.same(silent.body.ignored, [], 'what is not there is no mistake')
  t.same(await shown(device), {})
})

t.test('a phone counts by package and version code, else by version name', async (t) => {
  const put = (id: string, raw: Uint8Array) =>
    service.call('PUT', `/admin/apk/builds/${id}`, { raw })
  const named = { packageName: 'com.example.count', versionName: 'count' }
  await put('count-1', makeApk({ ...named, versionCode: 1 }))
  await put('count-2', makeApk({ ...named, versionCode: 2 }))
  await put('count-x', makeApk({ ...named, packageName: 'com.example.countx', versionCode: 1 }))
  const codes = (version_code: number) => ({ 'com.example.count': { version_code } })
  for (const [n, body] of [
    { app_version: 'count' },
    { app_version: 'count', version_code: 2 },
    { app_version: 'count', app_versions: codes(1) },
    { app_version: 'count', app_versions: codes(9) },
    { app_version: 'other', app_versions: codes(1) },
    { app_version: 'other', version_code: 1 },
  ].entries()) {
    t.equal((await beat(await service.enroll(`count-${n}`), body)).status, 200)
  }
  const { body } = await service.call('GET', '/admin/apk/builds?limit=3')
  t.match(body.builds, [
    { build_id: 'count-x', devices: 3 },
    { build_id: 'count-2', devices: 2 },
    { build_id: 'count-1', devices: 3 },
  ])
  const sql =
    "update apk_builds set package = null, unreadable = 'damaged', version_name = null where build_id = 'count-x'"
  await db.query(sql)
  const { body: again } = await service.call('GET', '/admin/apk/builds?limit=1')
  t.match(again.builds, [{ build_id: 'count-x', devices: null }])
})

t.test('builds are listed though counting their phones takes long', async (t) => {
  await db.query('alter table device_status rename to real_status')
  await db.query(`create view device_status as
    select s.* from real_status s cross join (select pg_sleep(1.5)) slow`)
  const list = await service.call('GET', '/admin/apk/builds?limit=3')
  await db.query('drop view device_status')
  await db.query('alter table real_status rename to device_status')
  t.match(list, { status: 200, body: { builds: [{}, { build_id: 'count-2', devices: 2 }, {}] } })
})
