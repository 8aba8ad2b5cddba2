/** Builds: published whole or not at all, listed, withdrawn, and which one is the latest. */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { readdir } from 'node:fs/promises'
import { request } from 'node:http'
import { connect as connectSocket } from 'node:net'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import { compileManifest } from '../../sim/apk/manifest.ts'
import { makeZip } from '../../sim/apk/zip.ts'
import { makeApk, simulationKey } from '../../sim/apk.ts'
import { until } from '../../testkit/until.ts'
import { connect } from '../helpers/database.ts'
import { ADMIN, startService } from '../helpers/service.ts'

const MAX_BYTES = 3_000_000
const service = await startService(t, {
  env: { APK_MAX_BYTES: String(MAX_BYTES), RATE_LIMIT_APK_PER_TOKEN_PER_MIN: '1000' },
})
const db = await connect(t, service.databaseUrl)
const sha256Of = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

/** makeApk(). */
const APK_SAYS = {
  version_code: '1',
  version_name: 'nothing',
  build_type: 'debug',
  signer_fingerprint: simulationKey().digest,
  accept_signer: simulationKey().digest,
}

function put(path: string, raw: Uint8Array | string = makeApk(), headers = {}) {
  return service.call('PUT', `/admin/apk/builds/${path}`, { raw, headers })
}

async function isUnknown(buildId: string): Promise<boolean> {
  const sql = `select 1 from apk_builds where build_id = $1 union all
    select 1 from apk_chunks where build_id = $1 union all select 1 from audit_log where subject = $1`
  return (await db.query(sql, [buildId])).rowCount === 0
}

/** Nothing of the build is stored, and no upload is left on disk: its file goes soon after its end. */
async function isNothingKept(buildId: string): Promise<boolean> {
  if (!(await isUnknown(buildId))) return false
  const deadlineAtMs = performance.now() + 10_000
  while ((await readdir(join(service.dataDir, 'spool'))).length > 0) {
    if (performance.now() > deadlineAtMs) return false
    await turn()
  }
  return true
}

/** Statements that wait for another transaction's lock. */
async function waiting(count: number): Promise<boolean> {
  const sql =
    "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
  return (await db.query(sql)).rowCount === count
}

t.test('a build is published with all that its publisher says of it', async (t) => {
  const apk = makeApk({ sizeBytes: 2_100_000, versionCode: 12, versionName: '1.2' })
  const signer = simulationKey().digest
  const about = 'version_code=12&version_name=1.2&build_type=about&git_sha=abc1234&ci_run_id=99'
  const fingerprint = signer.toUpperCase().replace(/..(?!$)/g, '$&:')
  const response = await put(`about:1?${about}&signer_fingerprint=${fingerprint}`, apk, {
    'x-apk-sha256': sha256Of(apk).toUpperCase(),
    'x-request-id': 'about-1',
  })
  t.equal(response.status, 201)
  const build = {
    build_id: 'about:1',
    build_type: 'about',
    version_code: 12,
    version_name: '1.2',
    git_sha: 'abc1234',
    ci_run_id: '99',
    signer_fingerprint: signer,
    package: 'com.example.app',
    min_sdk: 24,
    target_sdk: 34,
    debuggable: true,
    signing: 'v2',
    signer_sha256: signer,
    state: 'live',
    warnings: [],
    sha256: sha256Of(apk),
    size_bytes: apk.length,
    published_by: 'tester',
    withdrawn_at: null,
  }
  t.match(response.body, build)
  const list = await service.call('GET', '/admin/apk/builds?build_type=about')
  const { warnings: _, ...listed } = response.body
  t.same(list.body, { builds: [{ ...listed, devices: 0 }], next_cursor: null })
  await service.lines.terminalOf('about-1')
  const lines = service.lines.all.filter((line) => line['request_id'] === 'about-1')
  t.match(lines, [
    { event: 'apk.publish', build_id: 'about:1', version_code: 12, signer_sha256: signer },
    { event: 'http.request', status_code: 201, admin: 'tester' },
  ])
  const sql = 'select admin, what, subject from audit_log where request_id = $1'
  const { rows } = await db.query(sql, ['about-1'])
  t.same(rows, [{ admin: 'tester', what: 'apk.publish', subject: 'about:1' }])
  const fetched = await service.call('GET', '/admin/apk/builds/about:1/download')
  t.ok(apk.equals(Buffer.from(fetched.bytes)))
  t.ok(await isNothingKept('nothing'), 'the spool is empty')
})

t.test('the same id and bytes again are 200, other bytes are 409', async (t) => {
  const apk = makeApk({ seed: 'same' })
  t.equal((await put('same?version_code=1&build_type=same', apk)).status, 201)
  const again = await put('same?version_code=1&build_type=same', apk)
  t.match(again, { status: 200, body: { build_id: 'same', version_code: 1 } })
  const other = await put('same?version_code=1&build_type=same', makeApk({ seed: 'other' }))
  t.match(other, { status: 409, body: { code: 'build_conflict' } })
  const kept = await service.call('GET', '/admin/apk/builds/same/download')
  t.ok(apk.equals(kept.bytes))
  await service.lines.terminalOf(other.requestId)
  t.equal(service.lines.of('apk.publish').filter((line) => line['build_id'] === 'same').length, 1)
})

t.test('eight uploads of one build at once make one build', async (t) => {
  const apk = makeApk({ sizeBytes: 1_200_000, seed: 'parallel' })
  const path = 'parallel?version_code=1&build_type=parallel'
  const responses = await Promise.all(
    Array.from({ length: 8 }, async () => {
      for (;;) {
        const response = await put(path, apk)
        if (response.status !== 503) return response.status // too many at once: sent again, as it says
      }
    }),
  )
  t.same(responses.sort(), [200, 200, 200, 200, 200, 200, 200, 201])
  const sql = 'select count(*)::int as n from apk_chunks where build_id = $1'
  t.same((await db.query(sql, ['parallel'])).rows, [{ n: 2 }])
})

t.test('an upload waits while another replica stores the same id', async (t) => {
  const other = await connect(t, service.databaseUrl)
  await other.query('begin')
  const { rows } = await other.query(
    "select now() as began, pg_advisory_xact_lock(6385771, hashtext('waits'))",
  )
  const answered = put('waits?version_code=1&build_type=waits')
  const hasTried = `select 1 from pg_stat_activity where datname = current_database()
    and application_name = 'fleetloop' and query = 'commit' and query_start > $1`
  await until(async () => (await db.query(hasTried, [rows[0].began])).rowCount !== 0)
  t.ok(await isUnknown('waits'))
  await other.query('rollback')
  t.equal((await answered).status, 201)
})

t.test('a database without space is 507, and nothing is kept', async (t) => {
  await db.query(`
    create function no_space() returns trigger language plpgsql as
      $$ begin raise exception 'could not extend file' using errcode = 'disk_full'; end $$;
    create trigger no_space before insert on apk_chunks for each row execute function no_space()`)
  const apk = makeApk({ seed: 'space' })
  const full = await put('space?version_code=1&build_type=space', apk)
  t.match(full, { status: 507, body: { code: 'insufficient_storage' } })
  t.ok(await isNothingKept('space'))
  await db.query('drop trigger no_space on apk_chunks')
  t.equal((await put('space?version_code=1&build_type=space', apk)).status, 201)
})

t.test('what is no APK, or not the promised one, is 422 and nothing is kept', async (t) => {
  const apk = makeApk()
  const noManifest = makeZip([{ name: 'a.txt', bytes: Buffer.from('a') }])
  const zip = (bytes: Buffer) => makeZip([{ name: 'AndroidManifest.xml', bytes }])
  const damaged = makeApk()
  damaged.writeUInt8(1, 500)
  for (const [raw, code, why] of [
    [
      zip(Buffer.from('<manifest/>')),
      'apk_invalid',
      /^This is no APK that Android installs: AndroidManifest.xml is not compiled XML.* AAR/,
    ],
    [zip(compileManifest({ versionCode: 1 })), 'apk_signature', /^This APK is not signed. Sign it/],
    [damaged, 'apk_signature', /its content was changed after it was signed/],
  ] as const) {
    const { status, body } = await put('bad', raw)
    t.match({ status, body }, { status: 422, body: { code, detail: why } })
    t.match(body.errors, [{ field: 'body', message: why }])
    t.ok(await isNothingKept('bad'))
  }
  for (const [path, raw, headers, code, field] of [
    ['bad?version_code=1', 'plain text', {}, 'apk_invalid', null],
    ['bad?version_code=1', '', {}, 'apk_invalid', null],
    ['bad?version_code=1', noManifest, {}, 'apk_invalid', null],
    ['bad?version_code=1', apk.subarray(0, apk.length - 1), {}, 'apk_invalid', null],
    ['bad?version_code=1', apk, { 'x-apk-sha256': '0'.repeat(64) }, 'checksum_mismatch', null],
    ['bad?version_code=1', apk, { 'x-apk-sha256': 'abc' }, 'invalid_field', 'x-apk-sha256'],
    ['bad?version_code=-1', apk, {}, 'invalid_field', 'version_code'],
    ['bad?release=later', apk, {}, 'invalid_field', 'release'],
    ['bad?release=', apk, {}, 'invalid_field', 'release'],
    ['bad?accept_signer=abc', apk, {}, 'invalid_field', 'accept_signer'],
    ['bad?version_code=2', apk, {}, 'apk_mismatch', 'version_code'],
    ['bad?version_name=1.0', apk, {}, 'apk_mismatch', 'version_name'],
    [`bad?version_name=${'9'.repeat(255)}`, apk, {}, 'apk_mismatch', 'version_name'],
    ['bad?build_type=release', apk, {}, 'apk_mismatch', 'build_type'],
    ['bad?signer_fingerprint=AB:CD', apk, {}, 'apk_mismatch', 'signer_fingerprint'],
    [`bad?accept_signer=${'a'.repeat(64)}`, apk, {}, 'apk_mismatch', 'accept_signer'],
    ['bad?version_code=1.5', apk, {}, 'invalid_field', 'version_code'],
    ['bad?version_code=9007199254740992', apk, {}, 'invalid_field', 'version_code'],
    ['bad?version_code=1&build_type=a%20b', apk, {}, 'invalid_field', 'build_type'],
    ['bad?version_code=1&git_sha=zz', apk, {}, 'invalid_field', 'git_sha'],
    ['bad?version_code=1&version_name=%00', apk, {}, 'invalid_field', 'version_name'],
    [`${'b'.repeat(129)}?version_code=1`, apk, {}, 'invalid_field', 'build_id'],
    ['b%20d?version_code=1', apk, {}, 'invalid_field', 'build_id'],
  ] as const) {
    const response = await put(path, raw, headers)
    t.match(response, { status: 422, body: { code } }, `${path} ${code}`)
    if (field !== null) t.match(response.body.errors, [{ field }])
    if (code === 'apk_mismatch') {
      const claimed = path
        .slice(path.indexOf('=') + 1)
        .replace(':', '')
        .toLowerCase()
      const detail = `${field} is ${claimed}, but the APK says ${APK_SAYS[field]}.`
      t.equal(response.body.detail, detail)
    }
    t.ok(await isNothingKept('bad'))
  }
})

t.test('an upload may have exactly so many bytes', async (t) => {
  const path = (id: string) => `${id}?version_code=1&build_type=size`
  t.equal((await put(path('most'), makeApk({ sizeBytes: MAX_BYTES }))).status, 201)
  const larger = await put(path('larger'), makeApk({ sizeBytes: MAX_BYTES + 1 }))
  t.match(larger, { status: 413, body: { code: 'body_too_large' } })
  const upload = request(`${service.origin}/admin/apk/builds/${path('larger')}`, {
    method: 'PUT',
    headers: { authorization: `Bearer ${ADMIN}`, 'transfer-encoding': 'chunked' },
  })
  upload.on('error', () => {}) // the connection ends while we still send
  const answered = once(upload, 'response')
  upload.write(makeApk({ sizeBytes: MAX_BYTES + 100_000 }))
  const [response] = await answered
  t.equal(response.statusCode, 413, 'also where no length was promised')
  upload.destroy()
  t.ok(await isNothingKept('larger'))
})

t.test('an upload that is cut off leaves nothing', async (t) => {
  const apk = makeApk({ sizeBytes: 1_000_000 })
  for (const [id, framing, body] of [
    ['cut-length', `content-length: ${apk.length}`, apk.subarray(0, 700_000)],
    [
      'cut-chunk',
      'transfer-encoding: chunked',
      Buffer.concat([Buffer.from('f4240\r\n'), apk, Buffer.from('\r\n')]),
    ],
  ] as const) {
    const socket = connectSocket(Number(new URL(service.origin).port), '127.0.0.1')
    socket.on('error', () => {})
    socket.write(
      `PUT /admin/apk/builds/${id}?version_code=1 HTTP/1.1\r\nhost: x\r\nx-request-id: ${id}\r\n` +
        `authorization: Bearer ${ADMIN}\r\n${framing}\r\nexpect: 100-continue\r\n\r\n`,
    )
    await once(socket, 'data') // 100 Continue: the service reads
    await new Promise((resolve) => socket.write(body, resolve))
    socket.destroy()
    const line = await service.lines.terminalOf(id)
    t.match(line, { event: 'http.request', status_code: 499, reason: 'client_closed' }, id)
    t.ok(await isNothingKept(id))
  }
})

t.test('a process that dies while it stores a build leaves nothing of it', async (t) => {
  const raw = makeApk({ packageName: 'com.example.killed', sizeBytes: 2_500_000 })
  const victim = await startService(t, { databaseUrl: service.databaseUrl })
  const other = await connect(t, service.databaseUrl)
  await other.query('begin; lock table apk_chunks in share mode')
  const path = '/admin/apk/builds/killed'
  const lost = victim.call('PUT', path, { raw }).catch(() => 'lost')
  await until(() => waiting(1))
  victim.process.kill('SIGKILL')
  t.equal(await lost, 'lost')
  t.equal((await readdir(join(victim.dataDir, 'spool'))).length, 1)
  await other.query('rollback')
  const next = await startService(t, {
    databaseUrl: service.databaseUrl,
    env: { DATA_DIR: victim.dataDir },
  })
  t.same(await readdir(join(victim.dataDir, 'spool')), [])
  t.equal(await isUnknown('killed'), true)
  t.equal((await next.call('PUT', path, { raw })).status, 201)
})

t.test('builds are listed newest first, by type and in pages, withdrawn ones too', async (t) => {
  for (const id of ['page-1', 'page-2', 'page-3']) await put(`${id}?version_code=1&build_type=page`)
  await service.call('DELETE', '/admin/apk/builds/page-2')
  const first = await service.call('GET', '/admin/apk/builds?build_type=page&limit=2')
  t.match(first.body.builds, [
    { build_id: 'page-3', withdrawn_at: null },
    { build_id: 'page-2', withdrawn_at: /Z$/, withdrawn_by: 'tester' },
  ])
  const cursor = encodeURIComponent(first.body.next_cursor)
  const path = `/admin/apk/builds?build_type=page&limit=2&cursor=${cursor}`
  const { body } = await service.call('GET', path)
  t.match(body, { builds: [{ build_id: 'page-1' }], next_cursor: null })
  t.equal(body.builds.length, 1)
})
