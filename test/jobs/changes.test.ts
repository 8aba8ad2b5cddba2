/** What the row of a job does not count yet: found without what was counted, and never missed. */
import t from 'tap'
import { jobStore } from '../../src/db/jobs/jobs.ts'
import { jobQueue } from '../../src/db/jobs/release.ts'
import { explained } from '../../testkit/database/explain.ts'
import { connect } from '../helpers/database.ts'
import { startJobs } from './harness.ts'

const { url, db, queue, create, read, settle } = await startJobs(t, 20)

t.test('what was counted is not read again, even while a snapshot is held', async (t) => {
  const job = await create({ where: 'alias:S11,S12' })
  await settle(job.jobNo)
  const dump = await connect(t, url)
  await dump.query('begin isolation level repeatable read')
  await dump.query('select 1')
  await db.query(
    `insert into job_changes (job_no, was, became) select $1, 'queued', 'queued' from generate_series(1, 30000)`,
    [job.jobNo],
  )
  await settle(job.jobNo)
  await db.query('vacuum (analyze) job_changes')
  const plans = await explained(db, 'generic', async (database) => {
    await jobQueue(database, { instance: 'replica', isPushOn: true }).unsettled()
    await jobStore(database, database).find(job.jobId)
  })
  for (const { name, pages } of plans) t.ok(pages < 40, `${name} reads ${pages} pages`)
  t.equal(plans.length, 2)
  await dump.query('commit')
})

t.test('no change is missed: not of an older transaction, nor after a restore', async (t) => {
  const job = await create({ where: 'alias:S13,S14' })
  await settle(job.jobNo)
  const started = (await read(job.jobId)).counts
  const change = `insert into job_changes (job_no, was, became) values (${job.jobNo}, 'push_failed', 'failed')`
  const slow = await connect(t, url)
  await slow.query('begin')
  await slow.query(change)
  await db.query(change)
  await settle(job.jobNo)
  await slow.query('commit')
  const isDue = async () =>
    (await queue.unsettled()).find(({ jobNo }) => jobNo === job.jobNo)?.isDue
  t.ok(await isDue())
  t.match(await read(job.jobId), { counts: { failed: 2, push_failed: started.push_failed - 2 } })
  // As if the numbers of transactions had been far higher before.
  const restored = `update jobs set uncounted_from = '9000000000' where job_no = $1`
  await db.query(restored, [job.jobNo])
  t.match(await read(job.jobId), { counts: { failed: 2 } })
  await settle(job.jobNo)
  t.match(await read(job.jobId), { state: 'done', counts: { failed: 2 } })
})
