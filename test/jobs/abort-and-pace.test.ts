/** What a job counts and releases, case by case: thresholds, aborts, open statuses, push states, rates, previews. */
import t from 'tap'
import { findJob } from '../../src/db/jobs/create.ts'
import { jobQueue } from '../../src/db/jobs/release.ts'
import type { Database } from '../../src/db/postgres/pool.ts'
import { parseSelection } from '../../src/domain/selection/parse.ts'
import { databaseOf } from '../helpers/database.ts'
import { CONTEXT, startJobs } from './harness.ts'

const DEVICES = 30
const { db, pool, jobs, queue, create, read, settle, report, abort } = await startJobs(t, DEVICES)

/** S1 has a push token that works, S2 a dead one. */
await db.query(
  `update devices set fcm_token = 'push-' || alias, fcm_token_died_at = case alias when 'S2' then now() end
   where alias in ('S1', 'S2')`,
)

t.test('a preview counts who is offline, and who cannot be pushed to', async (t) => {
  await db.query(
    `update device_status set last_seen_at = now() where device_id in (
       select device_id from devices where alias in ('S1', 'S2'))`,
  )
  const selection = parseSelection('alias:S1,S2,S3')
  const preview = await jobs.preview(
    { selection, expectDevices: undefined, notBefore: null },
    CONTEXT,
  )
  t.match(preview, { devices: 3, offline: 1, noPush: 2 })
})

t.test('members are due for push at once, if their phone can be pushed to', async (t) => {
  const pushed = async (jobNo: string) => {
    const text = `
      select push_state, next_attempt_at <= now() as is_due from commands where job_no = $1 order by job_n`
    return (await db.query(text, [jobNo])).rows
  }
  const where = 'alias:S1,S2,S3'
  const { jobNo } = await create({ where })
  await queue.advance(jobNo)
  const unreachable = { push_state: 'no_token', is_due: null }
  t.same(await pushed(jobNo), [{ push_state: 'waiting', is_due: true }, unreachable, unreachable])

  const silent = await create({ where })
  await jobQueue(pool, { instance: 'replica', isPushOn: false }).advance(silent.jobNo)
  t.same(await pushed(silent.jobNo), Array(3).fill({ push_state: 'off', is_due: null }))
})

t.test('a command that expired counts as failed for the threshold', async (t) => {
  const job = await create({ perMinute: 305, maxFailedPct: 20, minResults: 5 })
  await db.query('update jobs set allowance = 5 where job_no = $1', [job.jobNo])
  await queue.advance(job.jobNo)
  await report(job.jobId, 1, 4, 'success')
  await db.query(
    `update commands set state = 'expired', ended_at = now(), next_attempt_at = null where request_id = $1`,
    [`${job.jobId}.5`],
  )
  t.match(await queue.advance(job.jobNo), {
    change: { state: 'paused', reason: 'threshold', completed: 4, failed: 0, expired: 1 },
  })
})

t.test('an abort leaves overdue commands to the sweep', async (t) => {
  const job = await create({ where: 'alias:S4,S5' })
  await settle(job.jobNo)
  const overdue = `${job.jobId}.1`
  await db.query(`update commands set expires_at = now() - interval '1 s' where request_id = $1`, [
    overdue,
  ])
  await abort(job.jobId)
  t.match(await queue.advance(job.jobNo), { cancelled: [{ requestId: `${job.jobId}.2` }] })
  const counts = { push_failed: 1, cancelled: 1 }
  t.match(await read(job.jobId), { isCancelling: false, counts })
  const { rows } = await db.query('select state from commands where request_id = $1', [overdue])
  t.same(rows, [{ state: 'open' }])
})

t.test('a job is not done while a command of it is open in any way', async (t) => {
  const job = await create({ where: 'alias:S4,S5' })
  await settle(job.jobNo)
  const columns = {
    queued: ['waiting', null],
    sent: ['sent', null],
    delivered: ['sent', new Date()],
    push_failed: ['gave_up', null],
  } as const
  for (const pair of [
    ['queued', 'sent'],
    ['sent', 'delivered'],
    ['delivered', 'push_failed'],
  ] as const) {
    for (const [index, status] of pair.entries()) {
      await db.query(
        'update commands set push_state = $2, delivered_at = $3 where request_id = $1',
        [`${job.jobId}.${index + 1}`, ...columns[status]],
      )
    }
    await queue.advance(job.jobNo)
    const counts = { [pair[0]]: 1, [pair[1]]: 1 }
    t.match(await read(job.jobId), { state: 'running', counts }, pair.join())
  }
})

t.test('rates are those since a mark of half a minute to a minute ago', async (t) => {
  const job = await create()
  await settle(job.jobNo)
  await settle(job.jobNo)
  // One transaction, so that now() stands still.
  await db.query('begin')
  t.teardown(() => db.query('rollback'))
  const session = databaseOf(db)
  const inside: Database = { ...session, transaction: (work) => work(session) }
  const marked = async (set: string) =>
    (await db.query(`update jobs set ${set} where job_no = $1`, [job.jobNo])).rowCount
  const rates = async () => {
    const found = await findJob(session, job.jobId)
    return [found?.releasedPerMin, found?.endedPerMin]
  }
  await marked(`completed = 1, failed = 2, expired = 4, cancelled = 8, mark_released = released - 20,
    mark_at = now() - interval '30 s', mark_ended = 0`)
  t.same(await rates(), [40, 30])
  await marked('mark_at = now()')
  t.same(await rates(), [1_200, 900], 'of a second at least')

  const { advance } = jobQueue(inside, { instance: 'replica', isPushOn: true })
  for (const [agoMs, isDue] of [
    [30_000, false],
    [30_001, true],
    [-30_000, false],
    [-30_001, true],
  ] as const) {
    await marked(`mark_at = now() - interval '1 min', mark_released = 1, mark_ended = 2,
      next_mark_at = now() - interval '${agoMs} ms', next_mark_released = 5, next_mark_ended = 6`)
    await advance(job.jobNo)
    const { rows } = await db.query(
      `select mark_at = now() - interval '${agoMs} ms' as is_new, next_mark_at = now() as is_next_new,
         array[mark_released, mark_ended, next_mark_released, next_mark_ended] as counts
       from jobs where job_no = $1`,
      [job.jobNo],
    )
    const counts = isDue ? [5, 6, DEVICES, 15] : [1, 2, 5, 6]
    t.same(rows, [{ is_new: isDue, is_next_new: isDue, counts }], `${agoMs} ms`)
  }
  await marked(`state = 'aborted', reason = 'admin', ended_at = now()`)
  t.same(await rates(), [0, 0], 'once it has ended')
})
