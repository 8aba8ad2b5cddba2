/** The signers of a package: pinned by its first build, and what may replace them, at once or when a staged build is released. */
import t from 'tap'
import { makeSignedApk } from '../../sim/apk/signed-apk.ts'
import { createSigningKey, type SigningKey } from '../../sim/apk/signing-key.ts'
import { type ApkOptions, makeApk, simulationKey } from '../../sim/apk.ts'
import { until } from '../../testkit/until.ts'
import { connect } from '../helpers/database.ts'
import { startService } from '../helpers/service.ts'

const service = await startService(t)
const db = await connect(t, service.databaseUrl)

function put(path: string, raw: Uint8Array) {
  return service.call('PUT', `/admin/apk/builds/${path}`, { raw })
}

function release(buildId: string) {
  return service.call('POST', `/admin/apk/builds/${buildId}/release`)
}

/** Statements that wait for another transaction's lock. */
async function waiting(count: number): Promise<boolean> {
  const sql =
    "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
  return (await db.query(sql)).rowCount === count
}

t.test('the first build of a package pins its signer', async (t) => {
  const packageName = 'com.example.pinned'
  const [old, other] = [createSigningKey({ name: 'old' }), createSigningKey({ name: 'other' })]
  const of = (options: ApkOptions) => makeApk({ packageName, ...options })
  t.equal((await put('pin-1', of({ key: old }))).status, 201)
  t.equal((await put('pin-2', of({ key: old, versionCode: 2 }))).status, 201, 'the same again')
  const bytes = of({ key: other, versionCode: 3 })
  const refused = await put('pin-3', bytes)
  t.match(refused, { status: 409, body: { code: 'signer_changed' } })
  t.match(refused.body.detail, old.digest)
  t.match(refused.body.detail, `accept_signer=${other.digest}`)
  t.equal((await db.query("select from apk_builds where build_id = 'pin-3'")).rowCount, 0)

  const wrong = await put(`pin-3?accept_signer=${old.digest}`, bytes)
  t.match(wrong, { status: 422, body: { code: 'apk_mismatch' } })
  const accepted = await put(`pin-3?accept_signer=${other.digest}`, bytes)
  t.match(accepted, { status: 201, body: { signer_sha256: other.digest } })
  const sql =
    "select detail->'accepted_signer' as accepted from audit_log where subject like 'pin-%' order by audit_id"
  const audited = (await db.query(sql)).rows.map(({ accepted }) => accepted)
  t.same(audited, [false, false, true])
  t.match(
    await put('pin-4', of({ key: old, versionCode: 4 })),
    { status: 409 },
    'the new one is pinned',
  )
})

t.test('a key that was rotated with a lineage proves itself', async (t) => {
  const [a, b, c] = [
    createSigningKey({ name: 'a' }),
    createSigningKey({ name: 'b' }),
    createSigningKey({ name: 'c' }),
  ]
  const manifest = { packageName: 'com.example.rotated', minSdk: 28, targetSdk: 34 }
  const signed = (versionCode: number, key: SigningKey, lineage: readonly SigningKey[]) =>
    makeSignedApk({ manifest: { ...manifest, versionCode }, block: { v3: [{ key, lineage }] } })
  t.equal((await put('rot-1', signed(1, a, []))).status, 201)
  t.match(await put('rot-2', signed(2, b, [c])), { status: 409 }, 'from another key')
  t.match(await put('rot-2', signed(2, b, [a])), { status: 201, body: { signing: 'v3' } })
  t.match(await put('rot-3', signed(3, a, [])), { status: 409 }, 'the old key is no longer enough')
  t.equal((await put('rot-4', signed(4, c, [a, b]))).status, 201)

  const d = createSigningKey({ name: 'd' })
  const block = { v3: [{ key: d, lineage: [a, b, c], capabilities: 22 }] }
  const cut = makeSignedApk({ manifest: { ...manifest, versionCode: 5 }, block })
  t.match(
    await put('rot-5', cut),
    { status: 409 },
    'phones that have c keep their data to themselves',
  )
})

t.test('of two rotations of one key at once, one is refused', async (t) => {
  const a = createSigningKey({ name: 'a' })
  const b = createSigningKey({ name: 'b' })
  const c = createSigningKey({ name: 'c' })
  const manifest = { packageName: 'com.example.fork', minSdk: 28, targetSdk: 34 }
  const signed = (key: SigningKey, lineage: readonly SigningKey[]) =>
    makeSignedApk({ manifest, block: { v3: [{ key, lineage }] } })
  t.equal((await put('fork', signed(a, []))).status, 201)
  const other = await connect(t, service.databaseUrl)
  await other.query('begin')
  const sql = "update apk_signers set signers = $1 where package = 'com.example.fork'"
  await other.query(sql, [[c.digest]])
  const answer = put('fork-b', signed(b, [a]))
  await until(() => waiting(1))
  await other.query('commit')
  t.match(await answer, { status: 409, body: { code: 'signer_changed' } })
})

t.test('eight first builds of a package by two signers at once pin one of them', async (t) => {
  const keys = [createSigningKey({ name: 'one' }), createSigningKey({ name: 'two' })]
  const answers = await Promise.all(
    Array.from({ length: 8 }, async (_, n) => {
      const key = keys[n % 2] ?? simulationKey()
      const raw = makeApk({ packageName: 'com.example.race', key, seed: String(n) })
      for (;;) {
        const { status } = await put(`race-${n}`, raw)
        if (status !== 503) return [status, n % 2] as const // too many at once: sent again
      }
    }),
  )
  const winner = answers.find(([status]) => status === 201)?.[1]
  for (const [status, n] of answers) t.equal(status, n === winner ? 201 : 409)
})

t.test('a staged build whose signer is no longer the pinned one is not released', async (t) => {
  const packageName = 'com.example.late'
  const [old, other] = [createSigningKey({ name: 'old' }), createSigningKey({ name: 'other' })]
  await put('late-2?release=staged', makeApk({ packageName, key: old, versionCode: 2 }))
  const replaced = makeApk({ packageName, key: other })
  t.equal((await put(`late-1?accept_signer=${other.digest}`, replaced)).status, 201)
  const refused = await service.call('POST', '/admin/apk/builds/late-2/release')
  t.match(refused, { status: 409, body: { code: 'signer_changed' } })
  for (const { digest } of [old, other]) t.match(refused.body.detail, digest)
})

t.test('a staged build replaces the pinned signer when it is released', async (t) => {
  const packageName = 'com.example.moving'
  const [old, next] = [createSigningKey({ name: 'old' }), createSigningKey({ name: 'next' })]
  const other = createSigningKey({ name: 'other' })
  const of = (options: ApkOptions) => makeApk({ packageName, ...options })
  t.equal((await put('move-1', of({ key: old }))).status, 201)
  const staged = of({ key: next, versionCode: 3 })
  t.match(await put('move-3?release=staged', staged), { body: { code: 'signer_changed' } })
  const query = `release=staged&accept_signer=${next.digest}`
  t.match(await put(`move-3?${query}`, staged), { status: 201, body: { state: 'staged' } })
  const hotfix = await put('move-2', of({ key: old, versionCode: 2 }))
  t.equal(hotfix.status, 201, 'until then the old key signs what is live')
  t.equal((await put('move-4', of({ key: next, versionCode: 4 }))).status, 409)
  const late = of({ key: other, versionCode: 5 })
  t.equal((await put(`move-5?release=staged&accept_signer=${other.digest}`, late)).status, 201)

  t.match(await release('move-3'), { status: 200, body: { state: 'live' } })
  t.equal((await put('move-6', of({ key: old, versionCode: 6 }))).status, 409, 'from then on')
  t.equal((await put('move-4', of({ key: next, versionCode: 4 }))).status, 201)
  const refused = await release('move-5')
  t.match(refused, { status: 409, body: { code: 'signer_changed' } }, 'accepted for the old key')
  for (const key of [next, other]) t.match(refused.body.detail, key.digest)
  t.match(await release('move-5'), { status: 409 }, 'it stays staged')
  const sql = `select what, subject, detail->'accepted_signer' as accepted,
    detail->'replaced_signers' as replaced from audit_log where subject like 'move-%' order by audit_id`
  const audited = (await db.query(sql)).rows.map((row) => Object.values(row))
  t.same(audited, [
    ['apk.publish', 'move-1', false, null],
    ['apk.publish', 'move-3', true, null],
    ['apk.publish', 'move-2', false, null],
    ['apk.publish', 'move-5', true, null],
    ['apk.release', 'move-3', null, [old.digest]],
    ['apk.publish', 'move-4', false, null],
  ])
})

t.test(
  'a staged build with a lineage replaces the pinned signer when it is released',
  async (t) => {
    const [a, b] = [createSigningKey({ name: 'a' }), createSigningKey({ name: 'b' })]
    const manifest = { packageName: 'com.example.turning', minSdk: 28, targetSdk: 34 }
    const signed = (versionCode: number, key: SigningKey, lineage: readonly SigningKey[]) =>
      makeSignedApk({ manifest: { ...manifest, versionCode }, block: { v3: [{ key, lineage }] } })
    t.equal((await put('turn-1', signed(1, a, []))).status, 201)
    t.equal((await put('turn-3?release=staged', signed(3, b, [a]))).status, 201)
    t.equal((await put('turn-2', signed(2, a, []))).status, 201)
    t.equal((await release('turn-3')).status, 200)
    t.equal((await put('turn-4', signed(4, a, []))).status, 409)
  },
)

t.test('of two releases of other signers at once, one is refused', async (t) => {
  const packageName = 'com.example.rivals'
  const keys = ['one', 'two'].map((name) => createSigningKey({ name }))
  t.equal((await put('rival', makeApk({ packageName }))).status, 201)
  for (const [n, key] of keys.entries()) {
    const raw = makeApk({ packageName, key, versionCode: 2 + n })
    const query = `release=staged&accept_signer=${key.digest}`
    t.equal((await put(`rival-${n}?${query}`, raw)).status, 201)
  }
  const answers = await Promise.all(keys.map((_, n) => release(`rival-${n}`)))
  t.same(answers.map(({ status }) => status).sort(), [200, 409])
  const winner = keys[answers.findIndex(({ status }) => status === 200)]
  const sql = "select signers from apk_signers where package = 'com.example.rivals'"
  t.same((await db.query(sql)).rows, [{ signers: [winner?.digest] }])
})

t.test('a build is not stored while another signer takes its place', async (t) => {
  const packageName = 'com.example.overtaken'
  t.equal((await put('over-1', makeApk({ packageName }))).status, 201)
  const other = await connect(t, service.databaseUrl)
  await other.query('begin')
  const sql = "update apk_signers set signers = $1 where package = 'com.example.overtaken'"
  await other.query(sql, [[createSigningKey({ name: 'other' }).digest]])
  const answer = put('over-2', makeApk({ packageName, versionCode: 2 }))
  await until(() => waiting(1))
  await other.query('commit')
  t.match(await answer, { status: 409, body: { code: 'signer_changed' } })
})
