/** What admins see of a job and its members: filters, offline devices, the verdict's numbers; and how many jobs may be open. */
import t from 'tap'
import { NONE_OFFLINE } from '../../src/domain/commands/job.ts'
import { jobJson } from '../../src/routes/jobs/job-json.ts'
import { startJobs } from './harness.ts'

const { db, jobs, create, read, settle, abort } = await startJobs(t, 5)

t.test('members that wait have a status and no outcome', async (t) => {
  const { jobId, jobNo } = await create({ where: 'alias:S1,S2,S3', perMinute: 1 })
  await settle(jobNo)
  const found = async (filter: object) => {
    const page = { limit: 10, afterN: 0, status: null, outcome: null, ...filter }
    return (await jobs.members(await read(jobId), page)).map(({ n }) => n)
  }
  t.same(await found({}), [1, 2, 3])
  t.same(await found({ status: 'push_failed' }), [1])
  t.same(await found({ status: 'waiting' }), [2, 3])
  t.same(await found({ outcome: 'success' }), [])
  await abort(jobId)
  await settle(jobNo)
  t.same(await found({ status: 'waiting' }), [])
  t.same(await found({ status: 'cancelled' }), [1, 2, 3])
  t.same(await found({ status: 'cancelled', outcome: 'success' }), [])
})

t.test('offline members: since the longest silence, or one was never heard of', async (t) => {
  const { rows } = await db.query(`
    update device_status s set last_seen_at = now() - ago
    from devices d, (values ('S1', interval '2 h'), ('S2', interval '3 h'), ('S3', interval '1 min')) v (alias, ago)
    where d.device_id = s.device_id and d.alias = v.alias
    returning d.alias, s.last_seen_at as at`)
  const silentSince = rows.find(({ alias }) => alias === 'S2').at
  for (const [where, expected] of [
    ['alias:S1,S2,S3', { looked: 3, offline: 2, silentSince }],
    ['alias:S1,S2,S3,S4', { looked: 4, offline: 3, silentSince: null }],
  ] as const) {
    const job = await create({ where })
    await settle(job.jobNo)
    t.same(await jobs.offline(job, 1_500), expected)
    await abort(job.jobId)
    await settle(job.jobNo)
  }
})

t.test('the verdict counts since the resume, and says how many it looked at', async (t) => {
  const job = await create({ where: 'alias:S1' })
  const paused = { state: 'paused', reason: 'threshold', maxFailedPct: 20 } as const
  const counts = { ...job.counts, completed: 26, failed: 3, expired: 2 }
  const resumed = { ...job, ...paused, counts, endedBefore: 21, failedBefore: 3 }
  const { detail } = jobJson(resumed, NONE_OFFLINE).verdict ?? {}
  t.match(detail, 'At least 20 % had failed; by now 2 of 10 that ended. ')

  const out = { ...job, counts: { ...job.counts, waiting: 0, sent: 2, delivered: 3 } }
  const some = { looked: 2, offline: 2, silentSince: null }
  t.same(jobJson(out, some).verdict, {
    code: 'waiting_for_devices',
    detail:
      'Of the first 2 of 5 open, 2 have devices that are offline, since one was never heard of.',
  })
  await abort(job.jobId)
  await settle(job.jobNo)
})

t.test('a hundred jobs may be unsettled; a repeat of one is still a repeat', async (t) => {
  await db.query(`
    insert into jobs (job_id, request_hash, content_hash, selection, action, params, ttl_s, min_results, admin,
      request_id, state, devices)
    select 'filler-' || n, '', '', '', 'ping', '{}', 60, 10, 'a', 'r', 'running', 1 from generate_series(1, 99) n`)
  const hundredth = await create({ where: 'alias:S1' })
  await t.rejects(create({ where: 'alias:S1' }), { code: 'overloaded', message: /^100 jobs / })
  const repeated = await create({ where: 'alias:S1', jobId: hundredth.jobId })
  t.equal(repeated.jobNo, hundredth.jobNo)
})
