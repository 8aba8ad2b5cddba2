/**
 * Builds through two replicas: uploads, releases and withdrawals at once, and which signer former builds pin that a replica
 * has read.
 */
import t from 'tap'
import { makeSignedApk } from '../../sim/apk/signed-apk.ts'
import { createSigningKey, type SigningKey } from '../../sim/apk/signing-key.ts'
import { makeApk } from '../../sim/apk.ts'
import { until } from '../../testkit/until.ts'
import { connect } from '../helpers/database.ts'
import { startService } from '../helpers/service.ts'

const service = await startService(t)
const db = await connect(t, service.databaseUrl)
const [older, newer] = [createSigningKey({ name: 'older' }), createSigningKey({ name: 'newer' })]
await leaveFormerBuilds()
const replica = await startService(t, { databaseUrl: service.databaseUrl })

function put(path: string, raw: Uint8Array, at = service) {
  return at.call('PUT', `/admin/apk/builds/${path}`, { raw })
}

function release(buildId: string, at = service) {
  return at.call('POST', `/admin/apk/builds/${buildId}/release`)
}

function former(packageName: string, versionCode: number, key: SigningKey, isProven: boolean) {
  const lineage = isProven && key === newer ? [older] : []
  const manifest = { packageName, versionCode, minSdk: 28, targetSdk: 34 }
  return makeSignedApk({ manifest, block: { v3: [{ key, lineage }] } })
}

/** Two packages whose key has changed, one with a proof, as a release that read no APK has left them. */
async function leaveFormerBuilds(): Promise<void> {
  for (const isProven of [false, true]) {
    const name = isProven ? 'proven' : 'unproven'
    const packageName = `com.example.${name}`
    await put(`${name}-1`, former(packageName, 1, older, isProven))
    const accepted = `${name}-2?accept_signer=${newer.digest}`
    await put(accepted, former(packageName, 2, newer, isProven))
    await db.query('delete from apk_signers where package = $1', [packageName])
  }
  await db.query(`update apk_builds set package = null, min_sdk = null, target_sdk = null,
    debuggable = null, signing = null, signers = null`)
}

t.test('of former builds the first pins the signer, unless a lineage replaces it', async (t) => {
  const unread = 'select from apk_builds where package is null'
  await until(async () => (await db.query(unread)).rowCount === 0)
  const publish = (name: string, key: SigningKey) =>
    put(`${name}-3`, former(`com.example.${name}`, 3, key, name === 'proven'))
  const refused = await publish('unproven', newer)
  t.match(refused, { status: 409, body: { code: 'signer_changed', detail: RegExp(older.digest) } })
  t.equal((await publish('unproven', older)).status, 201)
  t.match(await publish('proven', older), { status: 409, body: { code: 'signer_changed' } })
  t.equal((await publish('proven', newer)).status, 201)
})

t.test('of two uploads of one id at once, one is stored, and the other told so', async (t) => {
  const packageName = 'com.example.twins'
  for (let n = 0; n < 4; n += 1) {
    const bytes = [service, replica].map((at, one) => ({
      at,
      raw: makeApk({ packageName, versionCode: n, seed: n < 2 ? `${one}` : '' }),
    }))
    const answers = await Promise.all(bytes.map(({ at, raw }) => put(`twin-${n}`, raw, at)))
    const statuses = answers.map(({ status }) => status).sort()
    t.same(statuses, n < 2 ? [201, 409] : [200, 201], n < 2 ? 'of other bytes' : 'of the same')
    const winner = answers.findIndex(({ status }) => status === 201)
    const stored = await replica.call('GET', `/admin/apk/builds/twin-${n}/download`)
    t.ok(bytes[winner]?.raw.equals(stored.bytes))
    const loser = answers[1 - winner]
    t.equal(loser?.body.code, n < 2 ? 'build_conflict' : undefined)
  }
})

t.test('releases and withdrawals at once through two replicas are done once', async (t) => {
  const packageName = 'com.example.once'
  const audited = async (id: string) => {
    const sql = 'select what from audit_log where subject = $1 order by audit_id'
    return (await db.query(sql, [id])).rows.map(({ what }) => what)
  }
  for (const [n, isWithdrawn] of [false, true, true].entries()) {
    const id = `once-${n}`
    await put(`${id}?release=staged`, makeApk({ packageName, versionCode: n }))
    const calls = [release(id), release(id, replica)]
    if (isWithdrawn) calls.push(replica.call('DELETE', `/admin/apk/builds/${id}`))
    const statuses = (await Promise.all(calls)).map(({ status }) => status)
    const what = await audited(id)
    const isReleased = what.includes('apk.release')
    t.same(what, [
      'apk.publish',
      ...(isReleased ? ['apk.release'] : []),
      ...(isWithdrawn ? ['apk.withdraw'] : []),
    ])
    if (!isWithdrawn) t.same(statuses, [200, 200])
    else t.equal(statuses[2], 204)
    t.equal(statuses.includes(200), isReleased)
  }
})

t.test('a signer that is accepted twice at once replaces the pinned one once', async (t) => {
  const packageName = 'com.example.twice'
  t.equal((await put('twice-0', makeApk({ packageName }))).status, 201)
  const answers = await Promise.all(
    [service, replica].map((at, n) => {
      const raw = makeApk({ packageName, key: newer, versionCode: 2 + n })
      return put(`twice-${n + 1}?accept_signer=${newer.digest}`, raw, at)
    }),
  )
  for (const { status } of answers) t.equal(status, 201)
  const sql = `select detail->'accepted_signer' as accepted from audit_log
    where subject in ('twice-1', 'twice-2') order by 1`
  t.same((await db.query(sql)).rows, [{ accepted: false }, { accepted: true }])
  t.equal((await put('twice-3', makeApk({ packageName, versionCode: 4 }))).status, 409)
})

t.test('a staged and a live first build of two signers at once pin one of them', async (t) => {
  for (let n = 0; n < 3; n += 1) {
    const packageName = `com.example.begun${n}`
    const staged = put(`staged-${n}?release=staged`, makeApk({ packageName, key: older }))
    const live = put(`live-${n}`, makeApk({ packageName, key: newer, versionCode: 2 }), replica)
    const statuses = (await Promise.all([staged, live])).map(({ status }) => status)
    t.same([...statuses].sort(), [201, 409])
    const winner = statuses[0] === 201 ? older : newer
    const sql = 'select signers from apk_signers where package = $1'
    t.same((await db.query(sql, [packageName])).rows, [{ signers: [winner.digest] }])
    const later = (key: SigningKey) =>
      put(`later-${n}`, makeApk({ packageName, key, versionCode: 3 }))
    t.equal((await later(winner === older ? newer : older)).status, 409)
    t.equal((await later(winner)).status, 201)
  }
})

t.test('two packages that are published at once each have their own latest', async (t) => {
  const packages = [older, newer].map((key, n) => ({ key, packageName: `com.example.side${n}` }))
  const uploads = packages.flatMap((one, n) =>
    [1, 3, 2].map(async (versionCode) => {
      const raw = makeApk({ ...one, versionCode })
      const at = versionCode === 2 ? replica : service
      await until(async () => (await put(`side-${n}-${versionCode}`, raw, at)).status < 300)
    }),
  )
  await Promise.all(uploads)
  for (const [n, { packageName }] of packages.entries()) {
    for (const at of [service, replica]) {
      const latest = await at.call('HEAD', `/v1/apk/download-latest?package=${packageName}`)
      t.equal(latest.headers.get('x-apk-build-id'), `side-${n}-3`)
    }
  }
})
