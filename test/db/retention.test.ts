/** What is forgotten after its time, and what is kept whatever its age; against a real database. */
import t from 'tap'
import { Pool } from '../../src/db/postgres/pool.ts'
import { prunes } from '../../src/db/retention.ts'
import { connect, createDatabase, PATIENT } from '../helpers/database.ts'

const url = await createDatabase(t)
const db = await connect(t, url)
const pool = new Pool({ ...PATIENT, url, maxConnections: 2, isPrepared: true })
t.teardown(() => pool.close(1_000))

const DAYS = {
  commandRetentionDays: 10,
  auditRetentionDays: 20,
  downloadRetentionDays: 30,
  tokenRetentionDays: 40,
  deviceRetentionDays: 50,
  eventsRetentionDays: 7,
}
const all = prunes(pool, { ...DAYS, signatureS: 360 })
const id = (n: number) => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`
const ids = async (sql: string) =>
  (await db.query(sql)).rows.map((row) => String(Object.values(row)[0]))

/** Runs every prune once, with room for `limit` rows each. */
async function pruneAll(limit: number): Promise<readonly number[]> {
  const counts: number[] = []
  for (const prune of all) counts.push((await prune(limit, null)).count)
  return counts
}

await db.query(`
  insert into enrollment_tokens (token_id, token_hash, uses_allowed, expires_at, revoked_at, issued_by, request_id) values
    ('${id(1)}', sha256('1'), 1, now() - interval '41 days', null, 'a', 'r'),
    ('${id(2)}', sha256('2'), 1, now() - interval '39 days', now() - interval '60 days', 'a', 'r'),
    ('${id(3)}', sha256('3'), 1, now() + interval '1 day', null, 'a', 'r')`)
// 1: live, with the oldest token; 2 and 3: deleted long ago, 3 with a young command; 4: deleted lately.
await db.query(`
  insert into devices (device_id, alias, enrollment_no, enrolled_by, hmac_secret_id, request_id, deleted_at)
  select ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 'D' || n, 1, '${id(1)}', '1', 'r',
    case n when 1 then null when 4 then now() - interval '49 days' else now() - interval '51 days' end
  from generate_series(1, 4) n`)
await db.query(
  `insert into device_status (device_id, request_id) select device_id, 'r' from devices`,
)
await db.query(`
  insert into device_tokens (token_hash, device_id, enrollment_no, dead_at, dead_reason, request_id) values
    (sha256('t1'), '${id(1)}', 1, null, null, 'r'),
    (sha256('t2'), '${id(1)}', 1, now() - interval '41 days', 'superseded', 'r'),
    (sha256('t3'), '${id(1)}', 1, now() - interval '39 days', 'superseded', 'r'),
    (sha256('t4'), '${id(2)}', 1, now() - interval '51 days', 'device_deleted', 'r')`)
await db.query(`
  insert into commands (request_id, device_id, action, params, request_hash, admin, state, created_at, expires_at, ended_at, push_state)
  values
    ('old-open', '${id(1)}', 'ping', '{}', '', 'a', 'open', now() - interval '11 days', now() + interval '1 day', null, 'sent'),
    ('old-ended', '${id(1)}', 'ping', '{}', '', 'a', 'completed', now() - interval '11 days', now(), now(), 'sent'),
    ('young-ended', '${id(3)}', 'ping', '{}', '', 'a', 'cancelled', now() - interval '9 days', now(), now(), 'sent')`)
await db.query(`
  insert into command_events (request_id, stage, instance) select request_id, 'accepted', 'i' from commands`)
await db.query(`
  insert into audit_log (at, admin, what, subject, request_id) values
    (now() - interval '21 days', 'a', 'w', 'old', 'r'), (now() - interval '19 days', 'a', 'w', 'young', 'r')`)
await db.query(`
  insert into apk_builds (build_id, build_type, version_code, sha256, size_bytes, chunk_count, published_by, request_id)
  values ('b', 'debug', 1, sha256('b'), 1, 1, 'a', 'r')`)
await db.query(`
  insert into apk_download_events (event_id, build_id, source, token_id, device_id, request_id, status_code, started_at) values
    ('${id(1)}', 'b', 'ota', null, '${id(2)}', 'r', 200, now() - interval '31 days'),
    ('${id(2)}', 'b', 'enrollment', '${id(1)}', '${id(2)}', 'r', 200, now() - interval '29 days')`)
await db.query(`
  insert into used_signatures (signature, used_at) values ('\\x01', now() - interval '361 s'), ('\\x02', now())`)
await db.query(`
  insert into enrollment_batches (admin, idempotency_key, content_hash, seed, token_ids, created_at) values
    ('a', 'old', sha256('o'), sha256('o'), '{}', now() - interval '24 hours 1 second'),
    ('a', 'young', sha256('y'), sha256('y'), '{}', now() - interval '23 hours 59 minutes')`)
await db.query(`
  insert into jobs (job_id, request_hash, content_hash, selection, action, params, ttl_s, min_results, admin, request_id,
    state, ended_at, is_settled, devices)
  values
    ('old', '', '', '', 'ping', '{}', 60, 1, 'a', 'r', 'done', now() - interval '11 days', true, 1),
    ('old-unsettled', '', '', '', 'ping', '{}', 60, 1, 'a', 'r', 'done', now() - interval '11 days', false, 1),
    ('young', '', '', '', 'ping', '{}', 60, 1, 'a', 'r', 'done', now() - interval '9 days', true, 1)`)
await db.query(
  `insert into job_members (job_no, n, device_id) select job_no, 1, '${id(1)}' from jobs`,
)

await db.query(`update fleet_events set at = now() - interval '8 days' where type = 'feed.started'`)

t.test('each table keeps what is young, and what is still in use whatever its age', async (t) => {
  t.same(
    await pruneAll(100),
    [1, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1],
    'one of each, and two device tokens',
  )
  t.same(await ids('select idempotency_key from enrollment_batches'), ['young'])
  t.same(await ids(`select encode(signature, 'hex') from used_signatures`), ['02'])
  t.same(await ids('select request_id from commands order by 1'), ['old-open', 'young-ended'])
  t.same(await ids('select request_id from command_events order by 1'), ['old-open', 'young-ended'])
  t.same(await ids('select job_id from jobs order by 1'), ['old-unsettled', 'young'])
  t.same(await ids('select job_id from job_members join jobs using (job_no) order by 1'), [
    'old-unsettled',
    'young',
  ])
  t.same(await ids('select subject from audit_log'), ['young'])
  t.same(await ids('select event_id from apk_download_events'), [id(2)])
  t.same(await ids('select token_id from enrollment_tokens order by 1'), [id(2), id(3)])
  const live = await ids(`select count(*) from device_tokens where device_id = '${id(1)}'`)
  t.same(live, ['2'], 'a live token, and one that died lately')
  t.same(await ids('select device_id from devices order by 1'), [id(1), id(3), id(4)])
  t.same(await ids('select device_id from device_status order by 1'), [id(1), id(3), id(4)])
  t.same(await pruneAll(100), Array(11).fill(0), 'and again nothing')
})

t.test('no more than so many at once, the oldest first', async (t) => {
  await db.query(`
    insert into audit_log (at, admin, what, subject, request_id)
    select now() - make_interval(days => 20 + n), 'a', 'w', 'n' || n, 'r' from generate_series(1, 5) n`)
  const [, , , , pruneAudit] = all
  const first = await pruneAudit?.(2, null)
  t.equal(first?.count, 2)
  t.same(await ids(`select subject from audit_log where subject like 'n%' order by 1`), [
    'n1',
    'n2',
    'n3',
  ])
  await db.query(`
    insert into audit_log (at, admin, what, subject, request_id) values (now() - interval '90 days', 'a', 'w', 'n9', 'r')`)
  const second = await pruneAudit?.(2, first?.last ?? null)
  t.equal(second?.count, 2)
  t.same(
    await ids(`select subject from audit_log where subject like 'n%' order by 1`),
    ['n1', 'n9'],
    'from where the batch before ended',
  )
  t.equal((await pruneAudit?.(2, second?.last ?? null))?.count, 1)
  t.equal((await pruneAll(2))[4], 1, 'the next run begins with the oldest again')
})

t.test('a device that was deleted goes with its last command', async (t) => {
  await db.query(
    `update commands set created_at = now() - interval '11 days' where request_id = 'young-ended'`,
  )
  t.equal((await pruneAll(100)).at(-1), 1)
  t.same(await ids('select device_id from devices order by 1'), [id(1), id(4)])
})

t.test('events of a wrong clock stop no others', async (t) => {
  await db.query('delete from fleet_events')
  await db.query(`
    insert into fleet_events (at, type, subject) values (now() + interval '400 days', 't', 'ahead'),
      (now() - interval '8 days', 't', 'old'), (now() - interval '6 days', 't', 'young'), (now(), 't', 'newest')`)
  t.equal((await pruneAll(1))[8], 1)
  t.equal((await pruneAll(1))[8], 1)
  t.equal((await pruneAll(1))[8], 0)
  t.same(await ids('select subject from fleet_events order by event_id'), ['young', 'newest'])
})
