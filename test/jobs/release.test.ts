/** What a job releases, and when: the statements alone, with several replicas on one database. */
import { randomUUID } from 'node:crypto'
import t from 'tap'
import { deviceEraser } from '../../src/db/devices/erase.ts'
import { type Advanced, jobQueue } from '../../src/db/jobs/release.ts'
import { Pool } from '../../src/db/postgres/pool.ts'
import { prunes } from '../../src/db/retention.ts'
import { PATIENT } from '../helpers/database.ts'
import { BY, startJobs } from './harness.ts'

const DEVICES = 1_200
const { url, db, pool, jobs, queue, create, read, settle, report, past, abort } = await startJobs(
  t,
  DEVICES,
)

t.test(
  'members are released once, in the order of their aliases, by any number of replicas',
  async (t) => {
    const job = await create()
    t.match(job, { state: 'running', devices: DEVICES, counts: { waiting: DEVICES } })
    const rounds: (Advanced | undefined)[] = []
    while ((await read(job.jobId)).released < DEVICES) {
      rounds.push(...(await Promise.all([1, 2, 3, 4].map(() => queue.advance(job.jobNo)))))
    }
    const ids = rounds.flatMap((round) => round?.released.map(({ requestId }) => requestId) ?? [])
    t.same(
      ids,
      Array.from({ length: DEVICES }, (_, i) => `${job.jobId}.${i + 1}`),
    )
    const { rows } = await db.query(
      `select count(*)::int as n, count(distinct device_id)::int as devices,
       array_agg(d.alias order by c.job_n) = array_agg(d.alias order by d.alias collate "C") as "isInOrder"
     from commands c join devices d using (device_id) where job_no = $1`,
      [job.jobNo],
    )
    t.same(rows, [{ n: DEVICES, devices: DEVICES, isInOrder: true }])
    t.match(
      await read(job.jobId),
      { counts: { push_failed: DEVICES, waiting: 0 } },
      'no push token',
    )
    await abort(job.jobId)
    const cancelled = (await settle(job.jobNo)).flatMap((round) => round.cancelled)
    t.equal(cancelled.length, DEVICES)
    t.match(await read(job.jobId), { state: 'aborted', counts: { cancelled: DEVICES } })
    t.same(await queue.unsettled(), [])
  },
)

t.test(
  'a pace is held: the bucket never holds more than a second, whatever happened before',
  async (t) => {
    const startedAtMs = performance.now()
    /** Members that the time of this test may add. */
    const also = () => Math.ceil((performance.now() - startedAtMs) / 100)
    const job = await create({ perMinute: 610 }) // 10 a second
    const first = (await settle(job.jobNo))[0]?.released.length ?? 0
    t.ok(first >= 1 && first <= 1 + also(), `${first} at once`)
    for (const [seconds, most] of [
      [0.3, 4],
      [3_600, 10],
      [86_400, 10],
    ] as const) {
      await past(job.jobNo, seconds)
      const released = (await settle(job.jobNo)).flatMap((round) => round.released).length
      t.ok(
        released <= Math.min(10, most + also()) && released >= Math.min(10, seconds * 10),
        `${released} after ${seconds} s`,
      )
    }
    await jobs.control(job.jobId, 'pause', BY, true)
    await past(job.jobNo, 3_600)
    const resumedAtMs = performance.now()
    await jobs.control(job.jobId, 'resume', BY, true)
    const resumed = (await settle(job.jobNo))[0]?.released.length ?? 0
    const most = 1 + Math.ceil((performance.now() - resumedAtMs) / 100)
    t.ok(resumed <= most, `a pause fills nothing: ${resumed}`)

    await settle(job.jobNo) // counts what was just released
    await past(job.jobNo, -3_600)
    const isDue = async () =>
      (await queue.unsettled()).find(({ jobNo }) => jobNo === job.jobNo)?.isDue
    t.ok(await isDue(), 'the database’s clock was set back by an hour')
    await settle(job.jobNo)
    await past(job.jobNo, 1)
    const { length: soon } = (await settle(job.jobNo)).flatMap((round) => round.released)
    t.ok(soon >= 9 && soon <= 10, `${soon} a second later`)
    await abort(job.jobId)
    await settle(job.jobNo)

    const slow = await create({ perMinute: 1 })
    await settle(slow.jobNo)
    await settle(slow.jobNo) // counts what the first call released
    await past(slow.jobNo, 50)
    t.notOk((await queue.unsettled()).find(({ jobNo }) => jobNo === slow.jobNo)?.isDue)
    await past(slow.jobNo, 12)
    t.equal((await settle(slow.jobNo))[0]?.released.length, 1, 'one in 61 s')
    await abort(slow.jobId)
    await settle(slow.jobNo)
  },
)

t.test('a look that releases nothing leaves the bucket as it is', async (t) => {
  const job = await create({ where: 'alias:S18,S19', perMinute: 1 })
  t.equal((await settle(job.jobNo))[0]?.released.length, 1)
  const bucket = async () => {
    const text = 'select allowance, filled_at::text from jobs where job_no = $1'
    return (await db.query(text, [job.jobNo])).rows
  }
  const before = await bucket()
  t.match(await settle(job.jobNo), [{ released: [], hasMore: false }])
  t.same(await bucket(), before)
  await abort(job.jobId)
  await settle(job.jobNo)
})

t.test('two replicas hold one pace, and a third that comes later bursts no more', async (t) => {
  const job = await create({ perMinute: 600 })
  await settle(job.jobNo)
  const stepS = 0.25
  const step = (seconds: number) =>
    db.query(
      'update jobs set filled_at = clock_timestamp() - make_interval(secs => $2) where job_no = $1',
      [job.jobNo, seconds],
    )
  const before = (await read(job.jobId)).released
  const startedAtMs = performance.now()
  for (let atS = 0; atS < 60; atS += stepS) {
    await step(stepS)
    await Promise.all([queue.advance(job.jobNo), queue.advance(job.jobNo)])
  }
  const released = (await read(job.jobId)).released - before
  const alsoPassedS = (performance.now() - startedAtMs) / 1_000
  t.ok(released >= 570 && released <= 600 + 10 * alsoPassedS, `${released} in a minute`)

  const other = new Pool({ ...PATIENT, url, maxConnections: 1, isPrepared: true })
  t.teardown(() => other.close(1_000))
  const restarted = jobQueue(other, { instance: 'another', isPushOn: true })
  await step(3_600)
  const burst = (await restarted.advance(job.jobNo))?.released.length ?? 0
  t.ok(burst > 0 && burst <= 10, `${burst} after an hour without a replica`)
  await abort(job.jobId)
  await settle(job.jobNo)
})

t.test('a job is done when each member has ended, and says what failed most', async (t) => {
  const job = await create({ where: 'alias:S1,S2,S3,S4,S5' })
  await settle(job.jobNo)
  await report(job.jobId, 1, 2, 'failure')
  await report(job.jobId, 3, 3, 'success')
  await db.query('update devices set fcm_token = null where device_id = $1', [randomUUID()])
  await db.query(
    `update commands set state = 'expired', ended_at = now() where request_id = $1 and state = 'open'`,
    [`${job.jobId}.4`],
  )
  await settle(job.jobNo)
  t.match(await read(job.jobId), { state: 'running', counts: { push_failed: 1, expired: 1 } })
  await report(job.jobId, 5, 5, 'rejected')
  const done = (await settle(job.jobNo)).filter(({ change }) => change !== undefined)
  t.match(done, [{ change: { state: 'done', completed: 1, failed: 3, expired: 1 } }])
  t.match(await read(job.jobId), {
    failureMessage: 'it was a failure',
    failureCount: 2,
    endedAtText: String,
  })
  t.equal(await queue.advance(job.jobNo), undefined)
})

t.test('members whose device or id is gone are counted, and the others released', async (t) => {
  const job = await create({
    where: 'alias:S6,S7,S8',
    notBefore: new Date(Date.now() + 60_000).toISOString(),
  })
  t.match(job, { state: 'scheduled' })
  await settle(job.jobNo)
  t.match(await read(job.jobId), { counts: { waiting: 3 } })
  await db.query(`update devices set deleted_at = now() where alias = 'S6'`)
  await db.query(
    `insert into commands (request_id, device_id, action, params, request_hash, admin, expires_at, push_state)
     select $1, device_id, 'ping', '{}', '', 'a', now() + interval '1 day', 'off' from devices where alias = 'S7'`,
    [`${job.jobId}.2`],
  )
  await db.query(`update jobs set not_before = now() where job_no = $1`, [job.jobNo])
  const rounds = await settle(job.jobNo)
  t.match(
    rounds.flatMap(({ released }) => released),
    [
      { requestId: `${job.jobId}.1`, isCancelled: true },
      { requestId: `${job.jobId}.3`, isCancelled: false },
    ],
  )
  t.match(await read(job.jobId), { counts: { cancelled: 2, push_failed: 1 }, state: 'running' })
  await report(job.jobId, 3, 3, 'success')
  const change = { state: 'done', completed: 1, cancelled: 2 }
  t.match((await settle(job.jobNo)).at(-1), { change })
  t.match(await read(job.jobId), { state: 'done', counts: { cancelled: 2, completed: 1 } })
  await db.query(`update devices set deleted_at = null where alias = 'S6'`)
})

t.test('a list of members has each once, though some are released meanwhile', async (t) => {
  const stale = await create({ where: 'alias:S11,S12,S13,S14,S15' })
  await db.query('update jobs set per_minute = 183, allowance = 3 where job_no = $1', [stale.jobNo])
  await settle(stale.jobNo)
  t.match(await read(stale.jobId), { released: 3 })
  const page = { limit: 5, afterN: 0, status: null, outcome: null }
  const rows = await jobs.members(stale, page)
  t.same(
    rows.map(({ n, command }) => [n, command !== null]),
    [1, 2, 3, 4, 5].map((n) => [n, n <= 3]),
  )
  await abort(stale.jobId)
  await settle(stale.jobNo)
})

t.test('commands of an aborted job that go on are counted, late results are not', async (t) => {
  const job = await create({ where: 'alias:S11,S12' })
  await settle(job.jobNo)
  await jobs.control(job.jobId, 'abort', BY, false)
  await settle(job.jobNo)
  t.match(await queue.unsettled(), [{ jobNo: job.jobNo, isOpen: false, isDue: false }])
  await report(job.jobId, 1, 2, 'success')
  await settle(job.jobNo)
  t.match(await read(job.jobId), { state: 'aborted', counts: { completed: 2 } })

  const other = await create({ where: 'alias:S11,S12' })
  await settle(other.jobNo)
  await abort(other.jobId)
  await settle(other.jobNo)
  await report(other.jobId, 1, 1, 'success')
  t.match(await read(other.jobId), { counts: { cancelled: 2 } })
  t.same(await queue.unsettled(), [])
  t.equal((await db.query('select from job_changes')).rowCount, 0)
})

t.test('a member that was overdue when its phone was erased has ended', async (t) => {
  const job = await create({ where: 'alias:S16,S17' })
  await settle(job.jobNo)
  await db.query(`update commands set expires_at = now() - interval '1 s' where request_id = $1`, [
    `${job.jobId}.1`,
  ])
  const { rows } = await db.query(
    `update devices set deleted_at = now() where alias = 'S16' returning device_id`,
  )
  const eraser = deviceEraser(pool, { erase: () => Promise.resolve() })
  t.equal(await eraser.erase(rows[0].device_id, BY), 'erased')
  await report(job.jobId, 2, 2, 'success')
  await settle(job.jobNo)
  t.match(await read(job.jobId), { state: 'done', counts: { expired: 1, completed: 1 } })
})

t.test('jobs and their members are pruned once they are old', async (t) => {
  const job = await create({ where: 'alias:S9' })
  await settle(job.jobNo)
  await report(job.jobId, 1, 1, 'success')
  await settle(job.jobNo)
  t.match(await read(job.jobId), { state: 'done' })
  const open = await create({ where: 'alias:S9' })
  await db.query(`update jobs set ended_at = now() - interval '100 days' where job_no = $1`, [
    job.jobNo,
  ])
  const day = {
    auditRetentionDays: 90,
    downloadRetentionDays: 90,
    tokenRetentionDays: 90,
    eventsRetentionDays: 7,
  }
  const options = { commandRetentionDays: 90, deviceRetentionDays: 90, signatureS: 1_000, ...day }
  for (const prune of prunes(pool, options)) {
    for (let from: string | null = null; ; ) {
      const { count, last } = await prune(500, from)
      from = last
      if (count < 500) break
    }
  }
  t.equal(await jobs.find(job.jobId), undefined)
  const { rows } = await db.query('select from job_members where job_no = $1', [job.jobNo])
  t.equal(rows.length, 0)
  t.match(await read(open.jobId), { devices: 1 })
  await abort(open.jobId)
})
