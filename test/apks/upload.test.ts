/** Builds: published whole or not at all, listed, withdrawn, and which one is the latest. */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { readdir } from 'node:fs/promises'
import { request } from 'node:http'
import { connect as connectSocket } from 'node:net'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import { MANIFEST, makeApk, makeZip } from '../../sim/apk.ts'
import { connect } from '../helpers/database.ts'
import { until } from '../helpers/replicas.ts'
import { ADMIN, startService } from '../helpers/service.ts'

const MAX_BYTES = 3_000_000
const service = await startService(t, {
  env: { APK_MAX_BYTES: String(MAX_BYTES), RATE_LIMIT_APK_PER_TOKEN_PER_MIN: '1000' },
})
const db = await connect(t, service.databaseUrl)
const sha256Of = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

function put(path: string, raw: Uint8Array | string = makeApk(), headers = {}) {
  return service.call('PUT', `/admin/apk/builds/${path}`, { raw, headers })
}

async function latest(buildType: string): Promise<string | null> {
  const response = await service.call('HEAD', `/v1/apk/download-latest?build_type=${buildType}`)
  return response.headers.get('x-apk-build-id')
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

t.test('a build is published with all that its publisher says of it', async (t) => {
  const apk = makeApk({ sizeBytes: 2_100_000 })
  const about = 'version_code=12&version_name=1.2&build_type=about&git_sha=abc1234&ci_run_id=99'
  const response = await put(`about:1?${about}&signer_fingerprint=AB:CD`, apk, {
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
    signer_fingerprint: 'AB:CD',
    sha256: sha256Of(apk),
    size_bytes: apk.length,
    published_by: 'tester',
    withdrawn_at: null,
  }
  t.match(response.body, build)
  const list = await service.call('GET', '/admin/apk/builds?build_type=about')
  t.same(list.body, { builds: [response.body], next_cursor: null })
  await service.lines.terminalOf('about-1')
  const lines = service.lines.all.filter((line) => line['request_id'] === 'about-1')
  t.match(lines, [
    { event: 'apk.publish', build_id: 'about:1', version_code: 12, admin: 'tester' },
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
  const text = { ...MANIFEST, bytes: Buffer.from('<manifest/>') }
  for (const [raw, why] of [
    [
      makeZip([text]),
      /^This is no APK: AndroidManifest.xml is not compiled XML, as it is in an AAR/,
    ],
    [makeZip([MANIFEST]), /^This is no APK: it is not signed: META-INF/],
  ] as const) {
    const { status, body } = await put('bad?version_code=1', raw)
    t.match({ status, body }, { status: 422, body: { code: 'apk_invalid', detail: why } })
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
    ['bad', apk, {}, 'invalid_field', 'version_code'],
    ['bad?version_code=0', apk, {}, 'invalid_field', 'version_code'],
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

t.test('the latest build is the one of the highest version that was not withdrawn', async (t) => {
  t.equal(await latest('line'), null)
  for (const code of [3, 10, 2]) {
    const published = await put(`line-${code}?version_code=${code}&build_type=line`)
    t.equal(published.status, 201)
  }
  t.equal(await latest('line'), 'line-10')
  t.equal((await put('line-10b?version_code=10&build_type=line')).status, 201)
  t.equal(await latest('line'), 'line-10b', 'of one version, the last published')

  const withdraw = (id: string, requestId: string) =>
    service.call('DELETE', `/admin/apk/builds/${id}`, { headers: { 'x-request-id': requestId } })
  t.equal((await withdraw('line-10b', 'withdraw-1')).status, 204)
  t.equal(await latest('line'), 'line-10')
  t.equal((await withdraw('line-10', 'withdraw-2')).status, 204)
  t.equal((await withdraw('line-10', 'withdraw-3')).status, 204, 'again')
  t.equal(await latest('line'), 'line-3')
  t.match(await withdraw('line-99', 'withdraw-4'), { status: 404, body: { code: 'build_unknown' } })
  const gone = await service.call('GET', '/admin/apk/builds/line-10/download')
  t.match(gone, { status: 404, body: { code: 'build_unknown' } })
  t.match(await service.lines.terminalOf(gone.requestId), { event: 'apk.download.fail' })
  t.equal((await put('line-10?version_code=10&build_type=line')).status, 409, 'its id stays taken')

  const sql = "select request_id from audit_log where what = 'apk.withdraw' order by audit_id"
  const audited = (await db.query(sql)).rows.map((row) => row.request_id)
  t.same(audited, ['withdraw-1', 'withdraw-2'])
  const lines = service.lines.of('apk.withdraw').map((line) => [line['build_id'], line['admin']])
  t.same(lines, [
    ['line-10b', 'tester'],
    ['line-10', 'tester'],
  ])
})

t.test(
  'a build whose bytes a restore left out is not the latest until it is published again',
  async (t) => {
    const lost = makeApk({ sizeBytes: 1_200_000, seed: 'lost' })
    t.equal((await put('kept-1?version_code=1&build_type=restore')).status, 201)
    t.equal((await put('lost-2?version_code=2&build_type=restore', lost)).status, 201)
    await db.query("delete from apk_chunks where build_id = 'lost-2'") // pg_dump --exclude-table-data=apk_chunks
    t.equal(await latest('restore'), 'kept-1')
    const { body } = await service.call('GET', '/admin/apk/builds?build_type=restore')
    t.match(body.builds, [
      { build_id: 'lost-2', has_bytes: false },
      { build_id: 'kept-1', has_bytes: true },
    ])
    const named = '/admin/apk/builds/lost-2/download'
    t.match(await service.call('GET', named), { status: 404, body: { code: 'apk_none' } })
    t.equal((await put('lost-2?version_code=2&build_type=restore')).status, 409, 'other bytes')

    const again = await put('lost-2?version_code=2&build_type=restore', lost)
    t.match(again, {
      status: 200,
      body: { has_bytes: true, published_at: body.builds[0].published_at },
    })
    t.equal(await latest('restore'), 'lost-2')
    t.ok(lost.equals((await service.call('GET', named)).bytes))
    const sql = "select count(*)::int as n from audit_log where subject = 'lost-2'"
    t.same((await db.query(sql)).rows, [{ n: 2 }])
    await service.lines.terminalOf(again.requestId)
    const lines = service.lines.of('apk.publish').filter((line) => line['build_id'] === 'lost-2')
    t.equal(lines.length, 2)
  },
)

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
