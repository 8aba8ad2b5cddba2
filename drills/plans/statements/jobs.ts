/** Jobs: created, released, controlled, listed with their members. */
import type { NewJob } from '../../../src/db/jobs/create.ts'
import { jobStore } from '../../../src/db/jobs/jobs.ts'
import type { MemberFilter } from '../../../src/db/jobs/members.ts'
import { jobQueue } from '../../../src/db/jobs/release.ts'
import type { JobRow } from '../../../src/db/jobs/rows.ts'
import type { Database } from '../../../src/db/postgres/pool.ts'
import { OUTCOMES } from '../../../src/domain/commands/command.ts'
import {
  JOB_STATES,
  type JobControl,
  MAX_COMPARED,
  MEMBER_STATUSES,
} from '../../../src/domain/commands/job.ts'
import { parseSelection } from '../../../src/domain/selection/parse.ts'
import { BIG_JOB, type Installation } from '../installation.ts'
import { PAGE, pages } from './pages.ts'
import { BY } from './push.ts'
import { BOTH, type Statement } from './statement.ts'

/** As in src/db/jobs. */
const BATCH = 500
const LOOKED = 1_000
const CONTEXT = { offlineAfterS: 1_500, isPushOn: true }
const WHERE = 'alias:S1,S2,S3,S4'
const NEW_JOB: NewJob = {
  ...{ jobId: 'new', where: WHERE, selection: parseSelection(WHERE), action: 'ping', params: {} },
  ...{ requestHash: Buffer.from('h'), contentHash: Buffer.from('h'), ttlS: 86_400 },
  ...{ perMinute: 600, maxFailedPct: 5, minResults: 10, notBefore: null, note: null },
  ...{ expectDevices: 4, admin: BY.admin, requestId: BY.requestId, ip: null },
}

const store = (database: Database) => jobStore(database, database)
const queue = (database: Database) => jobQueue(database, { instance: 'drill', isPushOn: true })

async function bigJob(database: Database): Promise<JobRow> {
  const job = await store(database).find(BIG_JOB.jobId)
  if (job === undefined) throw new Error('the big job is not there')
  return job
}

const control = (database: Database, what: JobControl) =>
  store(database).control(BIG_JOB.jobId, what, BY, true)

export function jobStatements({ members }: Installation): readonly Statement[] {
  return [
    {
      title: 'job created for four devices',
      modes: ['custom'],
      run: (database) => store(database).create(NEW_JOB, CONTEXT),
      mostRows: 20,
      mostPages: 400,
    },
    {
      title: 'job shown by a dry run',
      modes: ['custom'],
      run: (database) => store(database).preview(NEW_JOB, CONTEXT),
      mostRows: 0,
    },
    {
      title: 'job read, and which of its members are offline',
      modes: BOTH,
      run: async (database) => store(database).offline(await bigJob(database), 1_500),
      index: 'commands_of_job_status',
      mostRows: 1 + LOOKED,
      mostPages: 24 * LOOKED, // of each the index, the command and the status of its device
    },
    {
      title: 'jobs that are not settled',
      modes: BOTH,
      run: (database) => queue(database).unsettled(),
      index: 'jobs_unsettled',
      mostRows: 1,
    },
    {
      title: 'members released',
      modes: BOTH,
      run: (database) => queue(database).advance(BIG_JOB.jobNo),
      index: 'job_members_pkey',
      mostRows: 5 * BATCH,
      mostPages: 80 * BATCH, // each is inserted into all indexes
    },
    {
      title: 'job paused and resumed',
      modes: BOTH,
      async run(database) {
        await control(database, 'pause')
        await control(database, 'resume')
      },
      index: 'jobs_job_id_key',
      mostRows: 20,
    },
    {
      title: 'job aborted, and its open commands cancelled',
      modes: BOTH,
      async run(database) {
        await control(database, 'abort')
        await queue(database).advance(BIG_JOB.jobNo)
      },
      index: 'commands_of_job_status',
      mostRows: 6 * BATCH,
      mostPages: 80 * BATCH,
    },
    {
      title: 'job done, and its commonest failure',
      modes: BOTH,
      async run(database) {
        const text = 'update jobs set released = devices where job_no = $1'
        await database.query({ name: 'drill', text, values: [BIG_JOB.jobNo] })
        await queue(database).advance(BIG_JOB.jobNo)
      },
      index: 'commands_of_job_status',
      mostRows: MAX_COMPARED,
    },
    ...lists(members),
  ]
}

function lists(members: number): readonly Statement[] {
  const ofMembers = (what: string, filter: Partial<MemberFilter>): readonly Statement[] =>
    [0, Math.floor(members / 4)].map((afterN) => ({
      title: `members of a job, ${what}, after number ${afterN === 0 ? '0' : 'of a later page'}`,
      modes: BOTH,
      run: async (database) =>
        store(database).members(await bigJob(database), {
          ...{ limit: PAGE, afterN, status: null, outcome: null },
          ...filter,
        }),
      mostRows: 4 * PAGE + 1,
    }))
  return [
    ...[null, ...JOB_STATES].flatMap((state) =>
      pages<JobRow>(
        `jobs, ${state ?? 'newest first'}`,
        (database, page) => store(database).list(page, state),
        ({ createdAtText: at, jobId: id }) => ({ at, id }),
        { index: state === null ? 'jobs_newest' : 'jobs_of_state', mostRows: PAGE },
      ),
    ),
    ...ofMembers('any', {}),
    ...MEMBER_STATUSES.flatMap((status) => ofMembers(status, { status })),
    ...OUTCOMES.flatMap((outcome) => ofMembers(outcome, { outcome })),
  ]
}
