/** The states of a job: who changes them and when, and that nothing else can be written. */
import t, { type Test } from 'tap'
import { CONTROLS } from '../../src/db/jobs/jobs.ts'
import {
  CHANGES_FROM,
  effectOf,
  etaS,
  JOB_STATES,
  type JobControl,
  type JobFacts,
  type JobState,
  jobVerdict,
  NONE_OFFLINE,
} from '../../src/domain/commands/job.ts'
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
  const notBefore = state === 'scheduled' ? new Date(Date.now() + 3_600_000).toISOString() : null
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

const NOW = new Date('2026-12-01T02:00:00Z')
const FACTS: JobFacts = {
  ...{
    state: 'running',
    reason: null,
    changedBy: 'ann',
    notBefore: NOW,
    now: NOW,
    devices: 100_000,
  },
  ...{ isCancelling: false, maxFailedPct: 5, perMinute: 610, releasedPerMin: 0, failure: null },
  threshold: { ended: 40, failed: 2 },
  counts: {
    ...{ waiting: 0, queued: 0, sent: 0, delivered: 0, push_failed: 0 },
    ...{ completed: 0, failed: 0, expired: 0, cancelled: 0 },
  },
}

t.test('the last member is released as soon as pace and start allow', async (t) => {
  const inS = (seconds: number) => new Date(NOW.getTime() + seconds * 1_000)
  const unpaced = { perMinute: null } as const
  const cases: readonly (readonly [seconds: number | null, waiting: number, Partial<JobFacts>])[] =
    [
      [0, 0, { state: 'paused' }],
      [null, 10, { state: 'paused' }],
      [10, 10, { ...unpaced, releasedPerMin: 60 }],
      [null, 10, unpaced],
      [1, 10, { notBefore: inS(100) }],
      [101, 10, { state: 'scheduled', notBefore: inS(100) }],
      [1, 10, { state: 'scheduled', notBefore: inS(-100) }],
    ]
  for (const [seconds, waiting, facts] of cases) {
    const counts = { ...FACTS.counts, waiting }
    t.equal(etaS({ ...FACTS, ...facts, counts }), seconds, JSON.stringify([waiting, facts]))
  }
})

t.test('the verdict says why a job is where it is', (t) => {
  const out = { ...FACTS.counts, sent: 3, delivered: 2 }
  const failed = { ...FACTS.counts, failed: 30_000, expired: 9_000 }
  const message = { message: 'disk full', count: 4_000 }
  const offline = { looked: 5, offline: 2, silentSince: NOW }
  const verdicts: readonly (readonly [code: string, detail: string, Partial<JobFacts>])[] = [
    [
      'aborted',
      'ann aborted it. Commands that were out and go on: 5.',
      { state: 'aborted', counts: out },
    ],
    ['paused_by_admin', 'ann paused it. Waiting: 0.', { state: 'paused', reason: 'admin' }],
    [
      'paused_by_threshold',
      'At least 5 % had failed; by now 2 of 40 that ended. Waiting: 0.',
      { state: 'paused', reason: 'threshold' },
    ],
    ['scheduled', 'Nothing is released before 2026-12-01T02:00:00.000Z.', { state: 'scheduled' }],
    [
      'releasing',
      '10 left to release, until about 2026-12-01T02:00:01.000Z.',
      { counts: { ...out, waiting: 10 } },
    ],
    [
      'waiting_for_devices',
      'Of 5 open, 2 have devices that are offline, since 2026-12-01T02:00:00.000Z.',
      { counts: out },
    ],
    [
      'done',
      '7 of 100000 completed, 2 were cancelled.',
      { state: 'done', counts: { ...FACTS.counts, completed: 7, cancelled: 2 } },
    ],
    [
      'done_with_failures',
      // 4,000 of 10,000 stand for 12,000.
      '30000 of 100000 failed, 9000 expired, 0 were cancelled. The commonest reason: "disk full" (4000 of the first 10000).',
      { state: 'done', counts: failed, failure: message },
    ],
    [
      'done_with_failures',
      '3 of 100000 failed, 4 expired, 0 were cancelled. The commonest reason: no result came in time (4).',
      {
        state: 'done',
        counts: { ...failed, failed: 3, expired: 4 },
        failure: { ...message, count: 3 },
      },
    ],
  ]
  for (const [code, detail, facts] of verdicts) {
    t.same(jobVerdict({ ...FACTS, ...facts }, offline), { code, detail })
  }
  t.same(jobVerdict({ ...FACTS, counts: out }, NONE_OFFLINE), {
    code: 'waiting_for_results',
    detail: '5 have not reported yet.',
  })
  t.end()
})
