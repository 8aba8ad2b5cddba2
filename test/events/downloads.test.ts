/** The lines of builds and downloads. A download ends in exactly one of its own, however it ends. */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { readdir, rm, writeFile } from 'node:fs/promises'
import { connect as connectTo } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { makeApk, simulationKey } from '../../sim/apk.ts'
import type { CallOptions, TestResponse } from '../helpers/client.ts'
import { connect } from '../helpers/database.ts'
import { head } from '../helpers/raw.ts'
import { ADMIN, startService } from '../helpers/service.ts'
import { BACKGROUND, end, inside, isCount, story, theme, type Value } from './helpers.ts'

const { compare, compareOnly } = theme(t, {
  'apk.publish': ['INFO'],
  'apk.release': ['INFO'],
  'apk.withdraw': ['INFO'],
  'apk.read.fail': ['WARN'],
  'apk.cache.fail': ['WARN corrupt', 'WARN disk', 'ERROR database'],
  'apk.download': ['INFO'],
  'apk.download.fail': [
    'WARN apk_none',
    'WARN build_unknown',
    'WARN token_revoked',
    'WARN unauthenticated',
    'WARN range_not_satisfiable',
    'WARN precondition_failed',
    'WARN client_closed',
    'ERROR internal',
    'ERROR db_unavailable',
  ],
})
const LATEST = '/v1/apk/download-latest'
const BUILD_ROUTE = '/admin/apk/builds/{build_id}'
const DOWNLOAD_ROUTE = '/admin/apk/builds/{build_id}/download'
const APK = makeApk({ sizeBytes: 4_000, versionCode: 7, versionName: '1.7' })
const SHA256 = createHash('sha256').update(APK).digest('hex')
const BUILD = { build_id: 'b7', version_code: 7, version_name: '1.7', build_type: 'debug' }
/** What the APK says of itself. */
const FACTS = {
  package: 'com.example.app',
  min_sdk: 24,
  target_sdk: 34,
  debuggable: true,
  signing: 'v2',
  signer_sha256: simulationKey().digest,
}
const BY_ADMIN = { admin: 'tester', source: 'manual' }
const NO_BUILD = { build_id: null, version_code: null, version_name: null, build_type: null }

const service = await startService(t)
const db = await connect(t, service.databaseUrl)
const device = { ...(await service.enroll('D01')), alias: 'D01' }
const issued = await service.call('POST', '/v1/enroll-tokens', { body: { aliases: ['D02'] } })
const { token: enrollmentToken, token_id: id } = issued.body.tokens[0]
const tokenId = String(id).slice(-4)
/** Who asks, and what the line says of them. */
const CALLERS = {
  enrollment: { options: { token: enrollmentToken }, token_id: tokenId, known: { alias: 'D02' } },
  ota: { options: { token: device.token }, token_id: null, known: device },
  manual: { options: { token: ADMIN }, token_id: null, known: {} },
} as const

const get = (path: string, options: CallOptions = {}) => service.call('GET', path, options)

/** The failed download's only line of its own; what else the request wrote comes back. */
async function compareFailure(
  t: Test,
  response: Pick<TestResponse, 'requestId' | 'status'>,
  reason: string,
  own: Readonly<Record<keyof typeof BUILD, Value>> & {
    readonly token_id: Value
    readonly source: Value
    readonly bytes_sent: Value
  },
  options: {
    readonly route?: string
    readonly known?: object
    readonly isOurs?: boolean
    readonly failedCall?: { readonly statement: string; readonly cause?: string }
  } = {},
) {
  const { route = LATEST, known = {}, isOurs = false, failedCall = {} } = options
  const lines = await story(service, response.requestId)
  const line = lines.at(-1)
  if (line === undefined) throw new Error('no line')
  const level = isOurs ? 'ERROR' : 'WARN'
  const fields = { ...own, reason, ...failedCall }
  compare(t, line, 'apk.download.fail', level, end(response, route, known), fields)
  return lines.slice(0, -1)
}

const nothing = (source: string | null, token_id: string | null = null) => ({
  ...NO_BUILD,
  token_id,
  source,
  bytes_sent: null,
})

t.test('nothing to give', async (t) => {
  for (const [source, { options, token_id, known }] of Object.entries(CALLERS)) {
    const response = await get(LATEST, options)
    const own = nothing(source, token_id)
    t.same(await compareFailure(t, response, 'apk_none', own, { known }), [])
  }
  const unknown = await get('/admin/apk/builds/b6/download')
  const route = DOWNLOAD_ROUTE
  t.same(await compareFailure(t, unknown, 'build_unknown', nothing('manual'), { route }), [])
})

t.test('a build is published', async (t) => {
  const path = '/admin/apk/builds/b7?version_code=7&version_name=1.7'
  const response = await service.call('PUT', path, { raw: APK })
  t.equal(response.status, 201, response.text)
  const own = { ...BUILD, ...FACTS, state: 'live', ...BY_ADMIN }
  const at = inside(response.requestId, BUILD_ROUTE)
  await compareOnly(t, service, 'apk.publish', 'INFO', at, own)
  const again = await service.call('PUT', path, { raw: APK })
  t.same(
    (await story(service, again.requestId)).map(({ event }) => event),
    ['http.request'],
    'the same again publishes nothing',
  )
})

t.test('downloads that end normally', async (t) => {
  const whole = await get(LATEST)
  const etag = whole.headers.get('etag') ?? ''
  const shapes = [
    { headers: {}, status: 200, bytes_sent: APK.length },
    { headers: { range: 'bytes=100-' }, status: 206, bytes_sent: APK.length - 100 },
    { headers: { range: 'bytes=0-9' }, status: 206, bytes_sent: 10 },
    { headers: { 'if-none-match': etag }, status: 304, bytes_sent: 0 },
  ]
  for (const [source, { options, token_id, known }] of Object.entries(CALLERS)) {
    for (const { headers, status, bytes_sent } of shapes) {
      const response = await get(LATEST, { ...options, headers })
      t.equal(response.status, status)
      const at = end(response, LATEST, known)
      const own = { ...BUILD, token_id, source, bytes_sent }
      await compareOnly(t, service, 'apk.download', 'INFO', at, own)
      t.equal((await story(service, response.requestId)).length, 1)
    }
  }
  const named = await get('/admin/apk/builds/b7/download')
  const at = end(named, DOWNLOAD_ROUTE)
  const own = { ...BUILD, token_id: null, source: 'manual', bytes_sent: APK.length }
  await compareOnly(t, service, 'apk.download', 'INFO', at, own)
})

t.test('downloads that are refused', async (t) => {
  const beyond = await get(LATEST, { headers: { range: 'bytes=999999-' } })
  t.equal(beyond.status, 416)
  const manual = { ...BUILD, token_id: null, source: 'manual', bytes_sent: 0 }
  t.same(await compareFailure(t, beyond, 'range_not_satisfiable', manual), [])
  const other = await get(LATEST, { headers: { 'if-match': '"another"' } })
  t.equal(other.status, 412)
  t.same(await compareFailure(t, other, 'precondition_failed', manual), [])

  const none = await get(LATEST, { token: null })
  const [missing, ...more] = await compareFailure(t, none, 'unauthenticated', nothing(null))
  t.match(missing, { event: 'sec.auth.denied', reason: 'missing', status_code: null })
  t.same(more, [])

  const made = await service.call('POST', '/v1/enroll-tokens', { body: { aliases: ['D03'] } })
  const { token, token_id: revokedId } = made.body.tokens[0]
  await service.call('DELETE', `/v1/enroll-tokens/${revokedId}`)
  const last4 = String(revokedId).slice(-4)
  const revoked = await get(LATEST, { token })
  const own = nothing('enrollment', last4)
  const known = { alias: 'D03' }
  const [dead, ...rest] = await compareFailure(t, revoked, 'token_revoked', own, { known })
  t.match(dead, { event: 'sec.token.expired', reason: 'revoked', token_id: last4, ...known })
  t.same(rest, [])
})

t.test('a client that leaves half-way', async (t) => {
  const apk = makeApk({ sizeBytes: 16 * 1024 * 1024 })
  const path = '/admin/apk/builds/large?version_code=1&build_type=large'
  t.equal((await service.call('PUT', path, { raw: apk })).status, 201)
  const { hostname, port } = new URL(service.origin)
  const socket = connectTo(Number(port), hostname)
  t.teardown(() => socket.destroy())
  const request = `GET ${LATEST}?build_type=large HTTP/1.1`
  const bearer = `Authorization: Bearer ${device.token}`
  socket.write(head(request, bearer, 'User-Agent: node', 'X-Request-ID: cut'))
  await once(socket, 'data')
  socket.destroy()
  const build = { build_id: 'large', version_code: 1, version_name: null, build_type: 'large' }
  const isPart = (value: unknown) => isCount(value) && Number(value) < apk.length
  const own = { ...build, token_id: null, source: 'ota', bytes_sent: isPart }
  const response = { requestId: 'cut', status: 499 }
  t.same(await compareFailure(t, response, 'client_closed', own, { known: device }), [])
})

t.test('a damaged APK in the cache, in the database, and a disk that fails', async (t) => {
  const dir = join(service.dataDir, 'apk-cache')
  const [name = ''] = (await readdir(dir)).filter((name) => name.startsWith(SHA256))
  await writeFile(join(dir, name), 'not the APK')
  t.ok(Buffer.from((await get(LATEST)).bytes).equals(APK), 'replaced, and served')
  const corrupt = {
    build_id: 'b7',
    reason: 'corrupt',
    error: `${join(dir, name)} held other bytes`,
  }
  const failed = (reason: string) =>
    service.lines.waitFor((line) => line['reason'] === reason && line.event === 'apk.cache.fail')
  compare(t, await failed('corrupt'), 'apk.cache.fail', 'WARN', BACKGROUND, corrupt)

  const path = '/admin/apk/builds/harmed?version_code=1&build_type=harmed'
  const published = await service.call('PUT', path, { raw: makeApk({ seed: 'harmed' }) })
  t.equal(published.status, 201)
  await rm(join(dir, `${published.body.sha256}.apk`))
  const overlay = `update apk_chunks set bytes = overlay(bytes placing 'x' from 9) where build_id = 'harmed'`
  await db.query(overlay)
  const headers = { 'x-request-id': 'harmed' }
  await t.rejects(get(`${LATEST}?build_type=harmed`, { headers }), 'it breaks off')
  const harmed = { build_id: 'harmed', version_code: 1, version_name: null, build_type: 'harmed' }
  const own = { ...harmed, token_id: null, source: 'manual', bytes_sent: 0 }
  const ending = { requestId: 'harmed', status: 499 }
  t.same(await compareFailure(t, ending, 'internal', own, { isOurs: true }), [])
  const database = { build_id: 'harmed', reason: 'database', error: /another SHA-256/ }
  compare(t, await failed('database'), 'apk.cache.fail', 'ERROR', BACKGROUND, database)

  await rm(dir, { recursive: true })
  await writeFile(dir, 'where the directory belongs')
  t.ok(Buffer.from((await get(LATEST)).bytes).equals(APK), 'served from the database')
  const disk = { build_id: 'b7', reason: 'disk', error: /^E[A-Z]+: / }
  compare(t, await failed('disk'), 'apk.cache.fail', 'WARN', BACKGROUND, disk)
})

t.test('our own trouble is ERROR', async (t) => {
  await db.query('begin')
  await db.query('lock table apk_builds in access exclusive mode')
  const away = await get(LATEST)
  await db.query('commit')
  t.equal(away.status, 503)
  const options = { isOurs: true }
  const locked = { ...options, failedCall: { statement: 'apks.latest', cause: 'locked' } }
  t.same(await compareFailure(t, away, 'db_unavailable', nothing('manual'), locked), [])

  await db.query('alter table apk_builds rename to apk_builds_away')
  const broken = await get(LATEST)
  await db.query('alter table apk_builds_away rename to apk_builds')
  t.equal(broken.status, 500)
  const failed = { ...options, failedCall: { statement: 'apks.latest' } }
  t.same(await compareFailure(t, broken, 'internal', nothing('manual'), failed), [])
})

t.test('a build is withdrawn', async (t) => {
  const response = await service.call('DELETE', '/admin/apk/builds/b7')
  t.equal(response.status, 204)
  const at = inside(response.requestId, BUILD_ROUTE)
  const own = { ...BUILD, ...FACTS, state: 'withdrawn', ...BY_ADMIN }
  await compareOnly(t, service, 'apk.withdraw', 'INFO', at, own)
  const again = await service.call('DELETE', '/admin/apk/builds/b7')
  t.equal((await story(service, again.requestId)).length, 1, 'and only once')
})

t.test('a staged build is released', async (t) => {
  const raw = makeApk({ versionCode: 8 })
  const staged = await service.call('PUT', '/admin/apk/builds/b8?release=staged', { raw })
  const build = { build_id: 'b8', version_code: 8, version_name: null, build_type: 'debug' }
  const own = { ...build, ...FACTS, state: 'staged', ...BY_ADMIN }
  const at = inside(staged.requestId, BUILD_ROUTE)
  await compareOnly(t, service, 'apk.publish', 'INFO', at, own)
  const released = await service.call('POST', '/admin/apk/builds/b8/release')
  const then = inside(released.requestId, `${BUILD_ROUTE}/release`)
  await compareOnly(t, service, 'apk.release', 'INFO', then, { ...own, state: 'live' })
})

t.test('a build of a former release that says something else is read', async (t) => {
  await db.query("update apk_builds set package = null, version_code = 88 where build_id = 'b8'")
  const replica = await startService(t, { databaseUrl: service.databaseUrl })
  // Whichever looks first.
  const found = [service, replica].map(({ lines }) =>
    lines.waitFor((one) => one.event === 'apk.read.fail'),
  )
  const line = await Promise.any(found)
  const own = { build_id: 'b8', version_code: 88, reason: 'the APK has version code 8' }
  compare(t, line, 'apk.read.fail', 'WARN', BACKGROUND, own)
})
