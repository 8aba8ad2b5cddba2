/** The states of a job: who changes them and when, and that nothing else can be written. */
import t, { type Test } from 'tap'
import { CONTROLS } from '../../src/db/jobs/jobs.ts'
import {
  CHANGES_FROM,
  effectOf,
  JOB_STATES,
  type JobControl,
  type JobState,
} from '../../src/domain/job.ts'
import { BY, startJobs } from './harness.ts'

const DEVICES = 200
const { db, jobs, create, read, settle, report, past, abort } = await startJobs(t, DEVICES)

t.test(
  'the threshold counts exactly, stops the release, and counts anew after a resume',
  async (t) => {
    const job = await create({ perMinute: 6_100, maxFailedPct: 20, minResults: 10 })
    await past(job.jobNo, 60)
    const { length: out } = (await settle(job.jobNo)).flatMap((round) => round.released)
    t.equal(out, 100)
    await report(job.jobId, 1, 8, 'success')
    await report(job.jobId, 9, 9, 'failure')
    await past(job.jobNo, 0.1)
    await settle(job.jobNo)
    t.match(await read(job.jobId), { state: 'running' }, 'nine have ended')
    await report(job.jobId, 10, 10, 'timeout')
    await past(job.jobNo, 60)
    const { released } = await read(job.jobId)
    const [advanced] = await settle(job.jobNo)
    t.match(advanced, { change: { state: 'paused', reason: 'threshold', failed: 2, completed: 8 } })
    await past(job.jobNo, 60)
    t.same(await settle(job.jobNo), [{ ...advanced, change: undefined }], 'nothing is released')
    await report(job.jobId, 11, 20, 'success')
    await settle(job.jobNo)
    t.match(await read(job.jobId), { state: 'paused', released, counts: { completed: 18 } })

    await report(job.jobId, 21, 21, 'failure') // not counted when the job is resumed
    t.match(await jobs.control(job.jobId, 'resume', BY, true), { kind: 'ok', isChanged: true })
    await report(job.jobId, 22, 29, 'success')
    await report(job.jobId, 30, 30, 'failure')
    await settle(job.jobNo)
    t.match(await read(job.jobId), { state: 'running', endedBefore: 21, failedBefore: 3 })
    await report(job.jobId, 31, 31, 'rejected')
    await settle(job.jobNo)
    t.match(await read(job.jobId), { state: 'paused', reason: 'threshold' })

    await abort(job.jobId)
    await settle(job.jobNo)
    const { counts } = await read(job.jobId)
    t.match(counts, { completed: 26, failed: 5, cancelled: DEVICES - 31, waiting: 0 })
    const { rows } = await db.query(
      'select what from audit_log where subject = $1 order by audit_id',
      [job.jobId],
    )
    const whats = rows.map(({ what }) => what)
    t.same(whats, ['job.create', 'job.pause', 'job.resume', 'job.pause', 'job.abort'])
  },
)

/** What each control makes of each state; undefined: 409. */
const TABLE: Readonly<Record<JobControl, Readonly<Record<JobState, JobState | undefined>>>> = {
  pause: {
    scheduled: 'paused',
    running: 'paused',
    paused: 'paused',
    done: undefined,
    aborted: undefined,
  },
  resume: {
    scheduled: 'scheduled',
    running: 'running',
    paused: 'running',
    done: undefined,
    aborted: undefined,
  },
  abort: {
    scheduled: 'aborted',
    running: 'aborted',
    paused: 'aborted',
    done: undefined,
    aborted: 'aborted',
  },
}

async function inState(t: Test, state: JobState) {
  const notBefore = state === 'scheduled' ? new Date(Date.now() + 3_600_000) : null
  const job = await create({ where: 'alias:S9', notBefore })
  if (state === 'paused') await jobs.control(job.jobId, 'pause', BY, true)
  if (state === 'aborted') await abort(job.jobId)
  if (state === 'done') {
    await settle(job.jobNo)
    await report(job.jobId, 1, 1, 'success')
    await settle(job.jobNo)
  }
  t.equal((await read(job.jobId)).state, state)
  return job
}

t.test('legal transitions happen, illegal ones do not', async (t) => {
  for (const control of ['pause', 'resume', 'abort'] as const) {
    for (const state of JOB_STATES) {
      const job = await inState(t, state)
      const wanted = TABLE[control][state]
      const outcome = await jobs.control(job.jobId, control, BY, true)
      const isChanged = wanted !== undefined && wanted !== state
      if (!isChanged) {
        const values = [job.jobId, 'x', ...(control === 'abort' ? [true] : [])]
        const { rowCount } = await db.query(CONTROLS[control], values)
        t.equal(rowCount, 0, `the statement of ${control} writes nothing while ${state}`)
      }
      t.match(
        outcome,
        wanted === undefined ? { kind: 'ended', state } : { kind: 'ok', isChanged },
        `${control} while ${state}`,
      )
      t.equal((await read(job.jobId)).state, wanted ?? state, `${control} while ${state}`)
      t.equal(CHANGES_FROM[control].includes(state), isChanged)
      t.equal(effectOf(control, state) === 'ended', wanted === undefined)
      await abort(job.jobId)
      await settle(job.jobNo)
    }
  }
})
