/** Builds by package: each package's own latest, staged builds, withdrawals, and builds of a former release. */
import t from 'tap'
import { makeSignedApk } from '../../sim/apk/signed-apk.ts'
import { createSigningKey } from '../../sim/apk/signing-key.ts'
import { makeApk, simulationKey } from '../../sim/apk.ts'
import { until } from '../../testkit/until.ts'
import { connect } from '../helpers/database.ts'
import { ADMIN, startService } from '../helpers/service.ts'

const LATEST = '/v1/apk/download-latest'
const service = await startService(t, { env: { RATE_LIMIT_APK_PER_TOKEN_PER_MIN: '1000' } })
const startedAtMs = Date.now()
const db = await connect(t, service.databaseUrl)
await put('early?release=staged', makeApk({ packageName: 'com.example.early' }))
await put('first', makeApk())

function put(path: string, raw: Uint8Array) {
  return service.call('PUT', `/admin/apk/builds/${path}`, { raw })
}

/** Statements that wait for another transaction's lock. */
async function waiting(count: number): Promise<boolean> {
  const sql =
    "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
  return (await db.query(sql)).rowCount === count
}

async function latest(query: string, token = ADMIN): Promise<string | null> {
  const answer = await service.call('HEAD', `${LATEST}?${query}`, { token })
  return answer.headers.get('x-apk-build-id')
}

t.test('each package and build type has a latest of its own', async (t) => {
  const other = { packageName: 'com.example.other' }
  t.equal((await put('other-9', makeApk({ ...other, versionCode: 9 }))).status, 201)
  const release = await put('other-r', makeApk({ ...other, isDebuggable: false }))
  t.match(release, { status: 201, body: { build_type: 'release', debuggable: false } })
  t.equal(await latest('build_type=debug'), 'first', 'that of the first build that went live')
  await service.call('DELETE', '/admin/apk/builds/early')
  t.equal(await latest('build_type=debug'), 'first', 'which one that was never live is not')
  const none = await service.call('GET', `${LATEST}?build_type=release`)
  t.match(none, { status: 404, body: { code: 'apk_none', detail: /package= selects another/ } })
  t.equal(await latest('package=com.example.other'), 'other-9')
  t.equal(await latest('package=com.example.other&build_type=release'), 'other-r')
  t.equal(await latest('package=com.example.none'), null)
  t.match(await service.call('GET', `${LATEST}?package=a%20b`), { status: 422 })
  const env = { APK_DEFAULT_PACKAGE: 'com.example.other' }
  const second = await startService(t, { databaseUrl: service.databaseUrl, env })
  const given = await second.call('HEAD', LATEST)
  t.equal(given.headers.get('x-apk-build-id'), 'other-9')
})

t.test("a staged build is nobody's but the admins'", async (t) => {
  const { token, enrollmentToken, deviceId } = await service.enroll('D01')
  const staged = await put('next?release=staged', makeApk({ versionCode: 50, versionName: '50' }))
  t.match(staged, { status: 201, body: { state: 'staged', withdrawn_at: null, warnings: [] } })
  t.equal(await latest('', token), 'first')
  t.equal(await latest('', enrollmentToken), 'first')
  const etag = `"${staged.body.sha256}"`
  for (const [headers, status] of [
    [{ range: 'bytes=0-9' }, 206],
    [{ range: 'bytes=0-9', 'if-range': etag }, 200],
    [{ 'if-match': etag }, 412],
    [{ 'if-none-match': etag }, 200],
  ] as const) {
    const given = await service.call('GET', LATEST, { token, headers })
    t.equal(given.status, status)
    t.not(given.headers.get('etag'), etag)
  }
  for (const method of ['GET', 'HEAD']) {
    for (const id of ['next', 'first', 'none', 'a%20b']) {
      const offered = await service.call(method, `/v1/apk/builds/${id}`, { token })
      t.equal(offered.status, 404, `${method} ${id}`)
    }
  }
  const refused = await service.call('GET', '/v1/apk/builds/next', { token })
  t.match(refused.body, { code: 'build_unknown' })
  t.match(await service.lines.terminalOf(refused.requestId), {
    event: 'apk.download.fail',
    source: 'ota',
    reason: 'build_unknown',
    device_id: deviceId,
  })
  for (const path of ['/admin/apk/builds', '/admin/apk/builds/next/download']) {
    t.equal((await service.call('GET', path, { token })).status, 401, path)
  }
  const { body } = await service.call('GET', '/admin/apk/builds?limit=1')
  t.match(body.builds, [{ build_id: 'next', state: 'staged', devices: 0 }])
  t.equal((await service.call('GET', '/admin/apk/builds/next/download')).status, 200)
  const former = 'select from apk_builds where withdrawn_at is null and build_id = $1'
  t.equal((await db.query(former, ['next'])).rowCount, 0, 'nor is it one for the release before')

  const release = () => service.call('POST', '/admin/apk/builds/next/release')
  const released = await release()
  t.match(released, { status: 200, body: { state: 'live', released_at: /Z$/ } })
  t.match(await service.lines.terminalOf(released.requestId), { event: 'http.request' })
  t.match(service.lines.of('apk.release'), [{ build_id: 'next', state: 'live', admin: 'tester' }])
  t.equal(await latest('', token), 'next')
  t.match(await release(), { status: 200, body: released.body }, 'again')
  const body50 = { device_id: deviceId, app_version: '50' }
  t.equal((await service.call('POST', '/v1/heartbeat', { token, body: body50 })).status, 200)
  const listed = await service.call('GET', '/admin/apk/builds?limit=1')
  t.match(listed.body.builds, [{ build_id: 'next', state: 'live', devices: 1 }])

  await put('gone?release=staged', makeApk({ versionCode: 51 }))
  t.equal((await service.call('DELETE', '/admin/apk/builds/gone')).status, 204)
  const gone = await service.call('POST', '/admin/apk/builds/gone/release')
  t.match(gone, { status: 409, body: { code: 'build_conflict' } })
  t.match(await service.call('POST', '/admin/apk/builds/none/release'), { status: 404 })
  t.match(await service.call('POST', '/admin/apk/builds/next/release?package=x'), { status: 422 })
  t.equal(await latest('', token), 'next')
})

t.test('the latest build is the one of the highest version that was not withdrawn', async (t) => {
  t.equal(await latest('build_type=line'), null)
  for (const code of [3, 10, 2]) {
    const published = await put(`line-${code}?build_type=line`, makeApk({ versionCode: code }))
    t.equal(published.status, 201)
    t.equal(published.body.warnings.length, code === 2 ? 1 : 0, 'only a lower one')
  }
  t.equal(await latest('build_type=line'), 'line-10')
  const tenth = makeApk({ versionCode: 10, seed: 'b' })
  t.equal((await put('line-10b?build_type=line', tenth)).status, 201)
  t.equal(await latest('build_type=line'), 'line-10', 'of one version, the first published')

  const withdraw = (id: string, requestId: string) =>
    service.call('DELETE', `/admin/apk/builds/${id}`, { headers: { 'x-request-id': requestId } })
  t.equal((await withdraw('line-10b', 'withdraw-1')).status, 204)
  t.equal(await latest('build_type=line'), 'line-10')
  t.equal((await withdraw('line-10', 'withdraw-2')).status, 204)
  t.equal((await withdraw('line-10', 'withdraw-3')).status, 204, 'again')
  t.equal(await latest('build_type=line'), 'line-3')
  t.match(await withdraw('line-99', 'withdraw-4'), { status: 404, body: { code: 'build_unknown' } })
  const gone = await service.call('GET', '/admin/apk/builds/line-10/download')
  t.match(gone, { status: 404, body: { code: 'build_unknown' } })
  t.match(await service.lines.terminalOf(gone.requestId), { event: 'apk.download.fail' })
  t.equal((await put('line-10?build_type=line', tenth)).status, 409, 'its id stays taken')

  const sql =
    "select request_id from audit_log where what = 'apk.withdraw' and subject like 'line-%' order by audit_id"
  const audited = (await db.query(sql)).rows.map((row) => row.request_id)
  t.same(audited, ['withdraw-1', 'withdraw-2'])
  const withdrawn = service.lines.of('apk.withdraw').map((line) => line['build_id'])
  const lines = withdrawn.filter((id) => String(id).startsWith('line-'))
  t.same(lines, ['line-10b', 'line-10'])
})

t.test(
  'a build whose bytes a restore left out is not the latest until it is published again',
  async (t) => {
    const lost = makeApk({ sizeBytes: 1_200_000, seed: 'lost', versionCode: 2 })
    t.equal((await put('kept-1?version_code=1&build_type=restore', makeApk())).status, 201)
    t.equal((await put('lost-2?version_code=2&build_type=restore', lost)).status, 201)
    await db.query("delete from apk_chunks where build_id = 'lost-2'") // pg_dump --exclude-table-data=apk_chunks
    t.equal(await latest('build_type=restore'), 'kept-1')
    const { body } = await service.call('GET', '/admin/apk/builds?build_type=restore')
    t.match(body.builds, [
      { build_id: 'lost-2', has_bytes: false },
      { build_id: 'kept-1', has_bytes: true },
    ])
    const named = '/admin/apk/builds/lost-2/download'
    t.match(await service.call('GET', named), { status: 404, body: { code: 'apk_none' } })
    t.equal((await put('lost-2?build_type=restore', makeApk())).status, 409, 'other bytes')

    const again = await put('lost-2?version_code=2&build_type=restore', lost)
    t.match(again, {
      status: 200,
      body: { has_bytes: true, published_at: body.builds[0].published_at },
    })
    t.equal(await latest('build_type=restore'), 'lost-2')
    t.ok(lost.equals((await service.call('GET', named)).bytes))
    const sql = "select count(*)::int as n from audit_log where subject = 'lost-2'"
    t.same((await db.query(sql)).rows, [{ n: 2 }])
    await service.lines.terminalOf(again.requestId)
    const lines = service.lines.of('apk.publish').filter((line) => line['build_id'] === 'lost-2')
    t.equal(lines.length, 2)
  },
)

t.test('of equal version codes the build that went live first stays the latest', async (t) => {
  const packageName = 'com.example.equal'
  const of = (seed: string) => makeApk({ packageName, versionCode: 7, seed })
  const query = `package=${packageName}`
  await put('equal-staged?release=staged', of('staged'))
  t.equal((await put('equal-1', of('1'))).status, 201)
  const second = await put('equal-2', of('2'))
  const warning = /^This is not the latest build: equal-1 has version code 7, this one 7\.$/
  t.match(second, { status: 201, body: { state: 'live', warnings: [warning] } })
  t.equal(await latest(query), 'equal-1')
  const staged = await put('equal-3?release=staged', of('3'))
  t.match(staged.body.warnings, [/^This will not be the latest build: equal-1/])
  const released = await service.call('POST', '/admin/apk/builds/equal-staged/release')
  t.match(released.body, { state: 'live', warnings: [/^This is not the latest build: equal-1/] })
  t.equal(await latest(query), 'equal-1', 'although it was stored before')
  await service.call('DELETE', '/admin/apk/builds/equal-1')
  t.equal(await latest(query), 'equal-2')
})

t.test('releases and withdrawals at once leave one state, which the latest follows', async (t) => {
  const packageName = 'com.example.both'
  const query = `package=${packageName}`
  t.equal((await put('both', makeApk({ packageName }))).status, 201)
  const calls = async (id: string) => [
    ...(await Promise.all([
      service.call('POST', `/admin/apk/builds/${id}/release`),
      service.call('DELETE', `/admin/apk/builds/${id}`),
      service.call('POST', `/admin/apk/builds/${id}/release`),
    ])),
  ]
  for (let n = 2; n < 8; n += 1) {
    const id = `both-${n}`
    await put(`${id}?release=staged`, makeApk({ packageName, versionCode: n }))
    for (const { status } of await calls(id)) t.ok([200, 204, 409].includes(status), `${status}`)
    const sql = `select what, count(*)::int as n from audit_log
      where subject = $1 and what <> 'apk.publish' group by what order by what`
    const { rows } = await db.query(sql, [id])
    const [last] = rows.slice(-1)
    t.same(last, { what: 'apk.withdraw', n: 1 }, 'withdrawn once')
    t.ok(rows.length === 1 || rows[0].n === 1, 'released once at most')
    t.equal(await latest(query), 'both')
  }
})

t.test('what is accepted with a warning says why', async (t) => {
  const v1 = makeSignedApk({
    manifest: { packageName: 'com.example.v1', minSdk: 24, targetSdk: 34, isTestOnly: true },
    v1: { keys: [simulationKey()] },
  })
  const { status, body } = await put('v1', v1)
  t.match({ status, body }, { status: 201, body: { signing: 'v1' } })
  t.match(body.warnings, [/TEST_ONLY/, /^Android 11 .* targets API level 34 and has no signature/])
  const unsigned = makeSignedApk({ manifest: { packageName: 'com.example.bare', versionCode: 1 } })
  t.match(await put('bare', unsigned), { status: 422, body: { code: 'apk_signature' } })
  const env = { APK_REQUIRE_SIGNATURE: 'false' }
  const lenient = await startService(t, { databaseUrl: service.databaseUrl, env })
  const taken = await lenient.call('PUT', '/admin/apk/builds/bare', { raw: unsigned })
  t.match(taken, { status: 201, body: { signing: 'none', signer_sha256: null } })
  t.match(taken.body.warnings, [/not signed/])
})

t.test('builds of a former release are read once, in the background', async (t) => {
  // The first service looks for such builds 5 s after its start, and then after 10 min: not in the midst of this.
  await until(() => Date.now() - startedAtMs > 10_000)
  const key = createSigningKey({ name: 'former' })
  const raw = makeApk({
    packageName: 'com.example.former',
    key,
    versionCode: 3,
    sizeBytes: 1_500_000,
  })
  await put('former-3', raw)
  await put(
    'former-9',
    makeApk({ packageName: 'com.example.former', key, versionCode: 9, seed: 'x' }),
  )
  // As the release before has left them.
  await db.query("delete from apk_signers where package = 'com.example.former'")
  await db.query(`update apk_builds set package = null, min_sdk = null, target_sdk = null,
    debuggable = null, signing = null, signers = null where build_id like 'former-%'`)
  await db.query("update apk_builds set version_code = 999999 where build_id = 'former-9'")
  const damage =
    "update apk_chunks set bytes = set_byte(bytes, 2000, 255) where build_id = 'former-3'"
  await db.query(damage)
  t.equal(await latest('build_type=debug'), 'former-9', 'still served, with the default package')
  const other = await connect(t, service.databaseUrl)
  await other.query('begin; lock table apk_chunks in access exclusive mode')
  const replica = await startService(t, { databaseUrl: service.databaseUrl })
  await until(() => waiting(1))
  t.equal((await replica.call('GET', '/readyz')).status, 200, 'while it wants to read them')
  await other.query('rollback')
  const lines = ['former-3', 'former-9'].map((id) =>
    // Whichever replica looks first.
    Promise.any(
      [service, replica].map(({ lines }) =>
        lines.waitFor((line) => line.event === 'apk.read.fail' && line['build_id'] === id),
      ),
    ),
  )
  t.match(await Promise.all(lines), [
    { reason: /changed after it was signed/ },
    { reason: 'the APK has version code 9' },
  ])
  const stranger = await put('former-10', makeApk({ packageName: 'com.example.former' }))
  t.match(stranger.body, { code: 'signer_changed', detail: RegExp(key.digest) })
  t.equal(await latest('build_type=debug'), 'next', 'former-9 has a package of its own now')
  const higher = "update apk_builds set version_code = 999999 where build_id = 'former-3'"
  await db.query(higher)
  t.equal(await latest('build_type=debug'), 'former-3', 'what cannot be read is still served')
  const env = { APK_DEFAULT_PACKAGE: 'com.example.app' }
  const named = await startService(t, { databaseUrl: service.databaseUrl, env })
  const given = await named.call('HEAD', LATEST)
  t.equal(given.headers.get('x-apk-build-id'), 'former-3')
  const after = await put('after', makeApk({ versionCode: 60 }))
  t.match(after.body.warnings, [/get former-3, which could not be read.* 999999\. Withdraw it/])

  const { body } = await service.call('GET', '/admin/apk/builds')
  const shown = body.builds.filter(({ build_id }: { build_id: string }) => /^former/.test(build_id))
  t.match(shown, [
    { build_id: 'former-9', package: 'com.example.former', version_code: 999999, state: 'live' },
    { build_id: 'former-3', package: null, unreadable: /changed after/, state: 'live' },
  ])
})
