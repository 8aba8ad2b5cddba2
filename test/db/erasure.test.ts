/** Erasing a phone changes nothing of others, and deletes all of its own rows, however many: the statements alone. */
import t from 'tap'
import { deviceEraser } from '../../src/db/devices/erase.ts'
import { enrollmentTokenStore } from '../../src/db/enrollment/tokens.ts'
import { seededDeviceId } from '../../testkit/database/seeded-fleet.ts'
import { BY, startJobs } from '../jobs/harness.ts'

const { db, pool, create } = await startJobs(t, 3)
const eraser = deviceEraser(pool, { erase: () => Promise.resolve() })

/** Deletes the n-th phone, too. */
async function erase(n: number) {
  await db.query('update devices set deleted_at = now() where device_id = $1', [seededDeviceId(n)])
  return eraser.erase(seededDeviceId(n), BY)
}

t.test('an erasure changes neither tokens nor jobs of other phones', async (t) => {
  const deviceId = seededDeviceId(1)
  const own = seededDeviceId(101)
  const tokens = [null, null, 'S2'].map((alias, n) => ({
    tokenId: seededDeviceId(101 + n),
    tokenHash: Buffer.alloc(32, n),
    alias,
  }))
  await enrollmentTokenStore(pool).issue(tokens, {
    ...{ expiresInS: 600, usesAllowed: 1, note: 'n', labels: { site: 'a' }, maxPerHour: 9 },
    ...{ batch: undefined, ...BY },
  })
  await db.query(
    `insert into audit_log (what, subject, request_id, detail)
     values ('device.created', $1, 'r', jsonb_build_object('alias', 'S1', 'token_id', $2::text))`,
    [deviceId, own],
  )
  const notBefore = new Date(Date.now() + 3_600_000).toISOString()
  await create({ where: 'alias:S2', params: { text: 'of S2' }, note: 'for S2', notBefore })
  const rows = async (text: string) => (await db.query(text, [[own, deviceId]])).rows
  const others = async () => [
    ...(await rows('select * from audit_log where subject <> all ($1) order by audit_id')),
    ...(await rows('select * from enrollment_tokens where token_id <> all ($1) order by token_id')),
    ...(await db.query('select * from jobs')).rows,
  ]
  const before = await others()
  t.equal(before.length, 2 + 1 + 3 + 1, 'entries of two tokens and a job; three tokens, a job')
  t.equal(await erase(1), 'erased')
  t.same(await others(), before)
  t.match(
    await rows(`select detail from audit_log where subject = any ($1) and what like 'enrollment%'`),
    [{ detail: { alias: deviceId, labels: undefined } }],
    'its own token is known by its device_id alone',
  )
})

t.test('an erasure ends when no row is left, not after a batch', async (t) => {
  const deviceId = seededDeviceId(3)
  await db.query('set session_replication_role = replica') // there is no such build
  await db.query(
    `insert into apk_download_events (event_id, build_id, source, device_id, request_id, status_code)
     select gen_random_uuid(), 'b', 'ota', $1, 'r', 200 from generate_series(1, 1001)`,
    [deviceId],
  )
  await db.query('reset session_replication_role')
  t.equal(await erase(3), 'erased')
  const left = await db.query('select from apk_download_events where device_id = $1', [deviceId])
  t.equal(left.rowCount, 0)
})
