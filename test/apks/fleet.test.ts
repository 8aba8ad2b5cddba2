/** APKs and who fetches them in the field: a fleet at once, through any replica, over networks that break. */

import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createReadStream, rmSync } from 'node:fs'
import { readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import t from 'tap'
import { makeApk } from '../../sim/apk.ts'
import { issueEnrollmentTokens } from '../../sim/enroll.ts'
import { createFleet } from '../../sim/fleet.ts'
import { createSend } from '../../testkit/http/client.ts'
import { until } from '../../testkit/until.ts'
import { connect } from '../helpers/database.ts'
import { tempDirectory } from '../helpers/directory.ts'
import { ADMIN, startService } from '../helpers/service.ts'

const LATEST = '/v1/apk/download-latest'
const PHONES = 100
const LARGE_BYTES = 24_000_000
const apk = makeApk({ sizeBytes: 1_500_000 })

const first = await startService(t)
// All phones have one address here.
const env = { APK_MAX_DOWNLOADS_PER_SUBNET: String(PHONES) }
const second = await startService(t, { databaseUrl: first.databaseUrl, env })
const db = await connect(t, first.databaseUrl)

/** Its package. */
async function publish(id: string, raw: Uint8Array, buildType = 'debug'): Promise<string> {
  const path = `/admin/apk/builds/${id}?build_type=${buildType}`
  const { status, text, body } = await first.call('PUT', path, { raw })
  if (status !== 201) throw new Error(`publishing answered ${status} ${text}`)
  return body.package
}

t.test(
  'a hundred phones that enroll at once make 100 rows, 100 lines and a count of 100',
  async (t) => {
    await publish('b1', apk)
    const send = createSend(second.origin)
    const aliases = Array.from({ length: PHONES }, (_, index) => `P${index}`)
    const tokens = await issueEnrollmentTokens(createSend(first.origin), ADMIN, aliases)
    const fleet = createFleet({ send, aliases, nowMs: Date.now, random: Math.random })
    const token = (alias: string) => ({ enrollmentToken: tokens.get(alias) ?? '' })
    // What a loaded machine refuses with 503 is tried again, as phones do; it makes no row.
    const fetchOne = (device: (typeof fleet.devices)[number]) =>
      until(async () => (await device.fetchApk(token(device.alias))).isIntact)
    const enrollAll = () =>
      until(async () => {
        await fleet.enroll(tokens, { atOnce: PHONES })
        return fleet.report().enrolled === PHONES
      })
    await Promise.all([...fleet.devices.map(fetchOne), enrollAll()])

    const lines = await second.lines.atLeast(PHONES, 'apk.download')
    const own = { source: 'enrollment', build_id: 'b1', bytes_sent: apk.length, status_code: 200 }
    for (const line of lines) t.match(line, own)
    t.equal(lines.length, PHONES)
    const failed = second.lines.of('apk.download.fail')
    t.same(
      failed.filter((line) => line['status_code'] !== 503),
      [],
    )
    const { rows } = await db.query(`
    select count(*)::int as rows, count(distinct token_id)::int as tokens,
      count(*) filter (where completed and source = 'enrollment')::int as completed
    from apk_download_events where build_id = 'b1'`)
    t.same(rows, [{ rows: PHONES, tokens: PHONES, completed: PHONES }])
    const { text } = await second.call('GET', '/metrics')
    t.match(text, `apk_download_total{build_type="debug",source="enrollment"} ${PHONES}\n`)
    t.equal((await readdir(join(second.dataDir, 'apk-cache'))).length, 1)
  },
)

t.test(
  'any replica serves what was uploaded through another, from its own disk after that',
  async (t) => {
    const build = makeApk({ seed: 'shared', sizeBytes: 600_000 })
    await publish('shared', build, 'shared')
    const path = `${LATEST}?build_type=shared`
    t.ok(build.equals((await second.call('GET', path)).bytes))
    // From now on these bytes can only come from its disk.
    await db.query("update apk_chunks set bytes = '' where build_id = 'shared'")
    t.ok(build.equals((await second.call('GET', path)).bytes))
    t.ok(build.equals((await first.call('GET', path)).bytes), 'it took the upload')
    const env = { DATA_DIR: second.dataDir }
    const third = await startService(t, { databaseUrl: first.databaseUrl, env })
    const both = await Promise.all([third.call('GET', path), second.call('GET', path)])
    for (const { bytes } of both)
      t.ok(build.equals(bytes), 'also a process that shares the directory')
    t.same([...second.lines.of('apk.cache.fail'), ...third.lines.of('apk.cache.fail')], [])
  },
)

const hasCurl = spawnSync('curl', ['--version']).error === undefined
t.test('curl -C - goes on where it was killed', { skip: !hasCurl && 'needs curl' }, async (t) => {
  const large = makeApk({ sizeBytes: LARGE_BYTES, seed: 'large' })
  await publish('large', large, 'large')
  const dir = tempDirectory(t)
  const file = join(dir, 'app.apk')
  const curl = (...more: string[]) => {
    const bearer = ['-H', `Authorization: Bearer ${ADMIN}`]
    const url = `${second.origin}${LATEST}?build_type=large`
    return spawn('curl', ['-sS', ...bearer, '-o', file, ...more, url], { stdio: 'ignore' })
  }
  const killed = curl('--limit-rate', '4M')
  const ended = once(killed, 'exit')
  const sizeOf = async () => (await stat(file).catch(() => ({ size: 0 }))).size
  await until(async () => (await sizeOf()) > 1_000_000)
  killed.kill('SIGKILL')
  await ended
  const before = await sizeOf()
  t.ok(before < LARGE_BYTES, `${before} bytes arrived`)
  t.same(await once(curl('-C', '-'), 'exit'), [0, null])
  const hash = createHash('sha256')
  await pipeline(createReadStream(file), hash)
  const expected = createHash('sha256').update(large).digest('hex')
  t.equal(hash.digest('hex'), expected)
  const line = await second.lines.waitFor((one) => one['status_code'] === 206)
  t.match(line, { event: 'apk.download', build_id: 'large', bytes_sent: LARGE_BYTES - before })
})

/** What docs/operate/apks.md recommends: If-Match names what is half there already. */
const CLIENTS = {
  curl: ['-fsS', '-C', '-', '-o'],
  wget: ['-q', '-c', '-O'],
  aria2c: ['-q', '-c', '-o'],
} as const
const AUTHORIZATION = `Authorization: Bearer ${ADMIN}`

async function runClient(
  client: keyof typeof CLIENTS,
  dir: string,
  url: string,
  etag?: string,
): Promise<boolean> {
  const condition = etag === undefined ? [] : ['--header', `If-Match: ${etag}`]
  const args = [...CLIENTS[client], 'app.apk', '--header', AUTHORIZATION, ...condition, url]
  const [code] = await once(spawn(client, args, { cwd: dir, stdio: 'ignore' }), 'exit')
  return code === 0
}

const etagOf = (bytes: Uint8Array) => `"${createHash('sha256').update(bytes).digest('hex')}"`
/** Two builds of one size. */
const buildsOf = (buildType: string) =>
  [1, 2].map((n) => makeApk({ sizeBytes: 600_000, seed: buildType, versionCode: n })) as [
    Buffer,
    Buffer,
  ]

for (const client of Object.keys(CLIENTS) as (keyof typeof CLIENTS)[]) {
  const isThere = spawnSync(client, ['--version']).error === undefined
  const skip = !isThere && `needs ${client}`
  t.test(
    `${client} goes on with its build, or not at all, across a publish`,
    { skip },
    async (t) => {
      const dir = tempDirectory(t)
      const file = join(dir, 'app.apk')
      const buildType = `resume-${client}`
      const [a, b] = buildsOf(buildType)
      const url = `${second.origin}${LATEST}?build_type=${buildType}`
      const half = a.subarray(0, 300_000)
      await publish(`${client}-a`, a, buildType)

      await writeFile(file, half)
      t.ok(await runClient(client, dir, url, etagOf(a)))
      t.ok(a.equals(await readFile(file)), 'nothing was published: the rest')
      const isRest = (line: Readonly<Record<string, unknown>>) =>
        line['status_code'] === 206 && line['build_id'] === `${client}-a`
      await second.lines.waitFor(isRest)

      await writeFile(file, half)
      await publish(`${client}-b`, b, buildType)
      t.notOk(await runClient(client, dir, url, etagOf(a)))
      t.ok(half.equals(await readFile(file)), 'another build is the latest: not a byte of it')
      const byId = `${second.origin}/admin/apk/builds/${client}-a/download`
      t.ok(await runClient(client, dir, byId))
      t.ok(a.equals(await readFile(file)), 'by its id, without a condition: the rest')

      rmSync(file)
      t.ok(await runClient(client, dir, url, etagOf(b)))
      t.ok(b.equals(await readFile(file)), 'from the beginning: the other build')
    },
  )
}

/**
 * As Android's DownloadManager does it (DownloadThread.java): it goes on with If-Match and Range, takes only a 206
 * then, and gives up for good where it gets anything else (STATUS_CANNOT_RESUME). `stopAt`: the network breaks there.
 */
async function androidDownload(
  url: string,
  state: { etag: string | null; bytes: Buffer },
  stopAt = Number.POSITIVE_INFINITY,
): Promise<'done' | 'broken' | 'cannot resume'> {
  const isResume = state.bytes.length > 0
  const response = await fetch(url, {
    headers: {
      authorization: `Bearer ${ADMIN}`,
      'accept-encoding': 'identity',
      ...(isResume && state.etag !== null && { 'if-match': state.etag }),
      ...(isResume && { range: `bytes=${state.bytes.length}-` }),
    },
  })
  if (response.status !== (isResume ? 206 : 200)) {
    await response.body?.cancel()
    return 'cannot resume'
  }
  state.etag = response.headers.get('etag')
  for await (const piece of response.body ?? []) {
    state.bytes = Buffer.concat([state.bytes, piece]).subarray(0, stopAt)
    if (state.bytes.length === stopAt) return 'broken'
  }
  return 'done'
}

t.test("Android's download manager goes on with its build, or not at all", async (t) => {
  const [a, b] = buildsOf('android')
  const url = `${second.origin}${LATEST}?build_type=android`
  await publish('android-a', a, 'android')
  const state = { etag: null, bytes: Buffer.alloc(0) }
  t.equal(await androidDownload(url, state, 100_000), 'broken')
  t.equal(await androidDownload(url, state, 300_000), 'broken')
  const half = { ...state }
  t.equal(await androidDownload(url, state), 'done')
  t.ok(a.equals(state.bytes))

  await publish('android-b', b, 'android')
  t.equal(await androidDownload(url, half), 'cannot resume')
  const failed = await second.lines.waitFor((line) => line['status_code'] === 412)
  t.match(failed, { event: 'apk.download.fail', reason: 'precondition_failed' })
  const anew = { etag: null, bytes: Buffer.alloc(0) }
  t.equal(await androidDownload(url, anew), 'done')
  t.ok(b.equals(anew.bytes))

  const headers = { range: 'bytes=300000-', 'if-range': etagOf(a) }
  const whole = await second.call('GET', `${LATEST}?build_type=android`, { headers })
  t.equal(whole.status, 200, 'with If-Range: the other build from its beginning')
  t.ok(b.equals(whole.bytes))
})

const apkDir = process.env['TEST_APK_DIR']
const missing = Object.keys(CLIENTS).filter((name) => spawnSync(name, ['--version']).error)
const noApks = apkDir === undefined && 'needs TEST_APK_DIR, a directory of real APKs (.ci/run)'
const skip = noApks || (missing.length > 0 && `needs ${missing.join(', ')}`)
t.test('real APKs are published and fetched whole by four clients', { skip }, async (t) => {
  const names = (await readdir(apkDir ?? '')).filter((name) => name.endsWith('.apk'))
  t.ok(names.length >= 3, names.join(' '))
  for (const [n, name] of names.entries()) {
    const real = await readFile(join(apkDir ?? '', name))
    const wanted = await publish(`real-${n}`, real, `real-${n}`)
    const path = `${LATEST}?build_type=real-${n}&package=${wanted}`
    t.ok(real.equals((await second.call('GET', path)).bytes), `fetch ${name}`)
    for (const client of Object.keys(CLIENTS) as (keyof typeof CLIENTS)[]) {
      const dir = tempDirectory(t)
      t.ok(await runClient(client, dir, second.origin + path, etagOf(real)))
      t.ok(real.equals(await readFile(join(dir, 'app.apk'))), `${client} ${name}`)
    }
  }
})
