/** Jobs by their stores alone, on a database with a seeded fleet. */
import type { Test } from 'tap'
import { commandResultStore } from '../../src/db/commands/results.ts'
import type { NewJob } from '../../src/db/jobs/create.ts'
import { type JobStore, jobStore } from '../../src/db/jobs/jobs.ts'
import { type Advanced, type JobQueue, jobQueue } from '../../src/db/jobs/release.ts'
import type { JobRow } from '../../src/db/jobs/rows.ts'
import { Pool } from '../../src/db/postgres/pool.ts'
import type { Outcome } from '../../src/domain/commands/command.ts'
import { MEMBER_STATUSES } from '../../src/domain/commands/job.ts'
import { parseSelection } from '../../src/domain/selection/parse.ts'
import { seedFleet } from '../../testkit/database/seeded-fleet.ts'
import { connect, createDatabase, PATIENT } from '../helpers/database.ts'
import { HMAC_SECRET } from '../helpers/service.ts'

export const CONTEXT = { offlineAfterS: 1_500, isPushOn: true }
export const BY = { admin: 'tester', requestId: 'r', ip: null }

/** `devices`: S1 to Sn, without push tokens. */
export async function startJobs(t: Test, devices: number) {
  const url = await createDatabase(t)
  const db = await connect(t, url)
  await seedFleet(db, { id: 'default', secret: HMAC_SECRET }, devices)
  const pool = new Pool({ ...PATIENT, url, maxConnections: 8, isPrepared: true })
  t.teardown(() => pool.close(1_000))
  const jobs = jobStore(pool, pool)
  const queue = jobQueue(pool, { instance: 'replica', isPushOn: true })
  const results = commandResultStore(pool, 'replica')
  let made = 0

  return {
    url,
    db,
    pool,
    jobs,
    queue,
    create(options: Partial<NewJob> & { readonly where?: string } = {}): Promise<JobRow> {
      made += 1
      return create(jobs, `job-${made}`, options)
    },

    async read(jobId: string): Promise<JobRow> {
      const job = await jobs.find(jobId)
      if (job === undefined) throw new Error('no such job')
      const sum = MEMBER_STATUSES.reduce((total, status) => total + job.counts[status], 0)
      if (sum !== job.devices) throw new Error(`${JSON.stringify(job.counts)} of ${job.devices}`)
      return job
    },

    settle: (jobNo: string) => settle(queue, jobNo),

    /** Results of the members from one number to another. */
    async report(jobId: string, from: number, to: number, outcome: Outcome): Promise<void> {
      for (let n = from; n <= to; n += 1) {
        const requestId = `${jobId}.${n}`
        const text = 'select device_id from commands where request_id = $1'
        const { rows } = await db.query(text, [requestId])
        const recorded = await results.record({
          requestId,
          deviceId: rows[0].device_id,
          outcome,
          message: `it was a ${outcome}`,
          output: null,
          exitCode: null,
          finishedAt: null,
          push: null,
          httpRequestId: 'r',
        })
        if (recorded.kind !== 'recorded') throw new Error(recorded.kind)
      }
    },

    /** As if the last release had been so long ago. */
    async past(jobNo: string, seconds: number): Promise<void> {
      const text =
        'update jobs set filled_at = filled_at - make_interval(secs => $2) where job_no = $1'
      await db.query(text, [jobNo, seconds])
    },

    abort: (jobId: string) => jobs.control(jobId, 'abort', BY, true),
  }
}

export async function create(
  jobs: JobStore,
  jobId: string,
  options: Partial<NewJob> & { readonly where?: string },
): Promise<JobRow> {
  const { where = '' } = options
  const outcome = await jobs.create(
    {
      jobId,
      selection: parseSelection(where),
      action: 'ping',
      params: {},
      requestHash: Buffer.from(where),
      contentHash: Buffer.from('c'),
      ttlS: 3_600,
      perMinute: null,
      maxFailedPct: null,
      minResults: 10,
      notBefore: null,
      expectDevices: undefined,
      note: null,
      ...BY,
      ...options,
      where,
    },
    CONTEXT,
  )
  if (!('job' in outcome)) throw new Error(outcome.kind)
  return outcome.job
}

/** Moves the job on until nothing more is to do now. */
async function settle(queue: JobQueue, jobNo: string): Promise<readonly Advanced[]> {
  const all: Advanced[] = []
  for (;;) {
    const advanced = await queue.advance(jobNo)
    if (advanced === undefined) return all
    all.push(advanced)
    if (!advanced.hasMore) return all
  }
}
