/** Creates jobs: the selection is evaluated once, and its devices are stored in the transaction of the job. */
import { AppError, invalidField } from '../../domain/errors.ts'
import { requireSize } from '../../domain/selection/size.ts'
import type { Selection } from '../../domain/selection/terms.ts'
import { writeAudit } from '../audit.ts'
import { JOINED } from '../devices/lists.ts'
import { conditionOf, pushState, type SelectionContext, TIMES } from '../devices/selection.ts'
import { confirmReplicated } from '../postgres/confirm-replicated.ts'
import type { Database, Query, Queryable } from '../postgres/pool.ts'
import { type JobRow, selectJob } from './rows.ts'

export interface NewJob {
  readonly jobId: string
  readonly where: string
  readonly selection: Selection
  readonly action: string
  readonly params: Readonly<Record<string, string>>
  /** SHA-256 over selection, action and params. */
  readonly requestHash: Buffer
  /** SHA-256 over action and params, as of each member's command. */
  readonly contentHash: Buffer
  readonly ttlS: number
  /** null: no limit. */
  readonly perMinute: number | null
  /** null: no threshold. */
  readonly maxFailedPct: number | null
  readonly minResults: number
  /** RFC 3339 in UTC with microseconds. */
  readonly notBefore: string | null
  /** undefined: any number. */
  readonly expectDevices: number | undefined
  readonly note: string | null
  readonly admin: string
  readonly requestId: string
  readonly ip: string | null
}

export type CreateOutcome =
  | { readonly kind: 'created' | 'repeated'; readonly job: JobRow }
  /** Another job has this id, or a command has that of a member. */
  | { readonly kind: 'conflict' | 'member_conflict' }

export interface Preview {
  readonly devices: number
  readonly sample: readonly { readonly device_id: string; readonly alias: string }[]
  /** Not heard of within DEVICE_OFFLINE_S. */
  readonly offline: number
  /** Without a live push token. */
  readonly noPush: number
}

/** Devices of one job. */
const MAX_MEMBERS = 1_000_000
/**
 * Jobs that are not settled: each replica checks all of them several times a second. Jobs that are created at the same
 * moment do not see each other and may exceed it, by one for each connection of the slow pool.
 */
const MAX_UNSETTLED_JOBS = 100
const SAMPLE = 20
/** Longer than clock skew plus a request, shorter than any date or time-zone mistake. */
const MAX_PAST_S = 300
const isLongPast = (time: string) =>
  /* sql */ `coalesce(${time} < now() - interval '${MAX_PAST_S} s', false)`

/** Byte order, which is the same in every database. */
const BY_ALIAS = /* sql */ `order by d.alias collate "C"`

const COUNT_UNSETTLED = /* sql */ `select count(*)::int as "unsettled" from jobs where not is_settled`

const INSERT = /* sql */ `
  insert into jobs (job_id, request_hash, content_hash, selection, action, params, ttl_s, per_minute, max_failed_pct,
    min_results, not_before, note, admin, request_id, state, devices)
  values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14,
    case when $11 > now() then 'scheduled' else 'running' end, 1)
  on conflict (job_id) do nothing
  returning job_no::text as "jobNo", ${isLongPast('not_before')} as "isPast"`

const SET_DEVICES = /* sql */ `update jobs set devices = $2 where job_no = $1`

/** `limit 1`: for a join the planner, which knows nothing of the new members, may read all commands. */
const FIND_TAKEN = /* sql */ `
  select m.n from job_members m
  where m.job_no = $1
    and (select c.request_id from commands c where c.request_id = $2::text || '.' || m.n limit 1) is not null
  limit 1`

const IS_JOB = 'j.job_id = $1'
const FIND = /* sql */ `${selectJob(IS_JOB)} where ${IS_JOB}`

export async function findJob(database: Queryable, jobId: string): Promise<JobRow | undefined> {
  const query = { name: 'jobs.find', text: FIND, values: [jobId] }
  return (await database.query<JobRow>(query)).rows[0]
}

export async function createJob(
  slow: Database,
  job: NewJob,
  context: SelectionContext,
): Promise<CreateOutcome> {
  try {
    return await slow.transaction((tx) => create(tx, job, context))
  } catch (error) {
    if (error instanceof MemberConflict) return { kind: 'member_conflict' }
    throw error
  }
}

async function create(
  tx: Queryable,
  job: NewJob,
  context: SelectionContext,
): Promise<CreateOutcome> {
  const known = await findJob(tx, job.jobId)
  if (known !== undefined) return repeat(tx, known, job)
  const count = { name: 'jobs.count_unsettled', text: COUNT_UNSETTLED }
  const [counted] = (await tx.query<{ unsettled: number }>(count)).rows
  if ((counted?.unsettled ?? 0) >= MAX_UNSETTLED_JOBS) {
    const advice = 'Abort one together with its open commands, or wait until one is done.'
    throw new AppError('overloaded', `${MAX_UNSETTLED_JOBS} jobs have not ended. ${advice}`)
  }
  const inserted = await insertJob(tx, job)
  if (inserted === undefined) {
    const raced = await findJob(tx, job.jobId)
    return raced === undefined ? { kind: 'conflict' } : repeat(tx, raced, job)
  }
  const { jobNo } = inserted
  refusePast(inserted.isPast)
  const devices = (await tx.query(membersQuery(jobNo, job.selection, context))).rowCount
  requireMembers(devices, job.expectDevices)
  const taken = { name: 'jobs.find_taken', text: FIND_TAKEN, values: [jobNo, job.jobId] }
  if ((await tx.query(taken)).rowCount > 0) throw new MemberConflict()
  await tx.query({ name: 'jobs.set_devices', text: SET_DEVICES, values: [jobNo, devices] })
  const { admin, requestId, ip, action, where } = job
  const detail = { action, where, devices, ttl_s: job.ttlS, per_minute: job.perMinute }
  const subject = job.jobId
  await writeAudit(tx, { admin, requestId, ip, what: 'job.create', subject, detail })
  const created = await findJob(tx, job.jobId)
  if (created === undefined) throw new Error('the job that was just written is not there')
  return { kind: 'created', job: created }
}

/** Rolls the transaction back. */
class MemberConflict extends Error {}

async function repeat(tx: Queryable, known: JobRow, job: NewJob): Promise<CreateOutcome> {
  if (!known.requestHash.equals(job.requestHash)) return { kind: 'conflict' }
  await confirmReplicated(tx)
  return { kind: 'repeated', job: known }
}

/** undefined: a job has this id. */
async function insertJob(tx: Queryable, job: NewJob) {
  const { rows } = await tx.query<{ jobNo: string; isPast: boolean }>({
    name: 'jobs.insert',
    text: INSERT,
    values: [
      job.jobId,
      job.requestHash,
      job.contentHash,
      job.where,
      job.action,
      JSON.stringify(job.params),
      job.ttlS,
      job.perMinute,
      job.maxFailedPct,
      job.minResults,
      job.notBefore,
      job.note,
      job.admin,
      job.requestId,
    ],
  })
  return rows[0]
}

function membersQuery(jobNo: string, selection: Selection, context: SelectionContext): Query {
  const { text, values } = conditionOf(selection, context, 2)
  return {
    name: 'jobs.insert_members',
    isVarying: true,
    text: /* sql */ `
      insert into job_members (job_no, n, device_id)
      select $1::bigint, row_number() over (${BY_ALIAS}), d.device_id from ${JOINED} where ${text}`,
    values: [jobNo, ...values],
  }
}

function requireMembers(devices: number, expected: number | undefined): void {
  requireSize(devices, { expected, most: MAX_MEMBERS, nothingDone: 'Nothing was sent.' })
}

function refusePast(isPast: boolean): void {
  if (!isPast) return
  const advice = 'for a job that begins at once, leave it out'
  throw invalidField('not_before', `is more than ${MAX_PAST_S / 60} minutes past; ${advice}`)
}

/** What createJob would do; refuses what it would refuse. */
export async function previewJob(
  slow: Database,
  job: Pick<NewJob, 'selection' | 'expectDevices' | 'notBefore'>,
  context: SelectionContext,
): Promise<Preview> {
  const query = previewQuery(job.selection, job.notBefore, context)
  const { rows } = await slow.query<Preview & { readonly isPast: boolean }>(query)
  const [preview] = rows
  if (preview === undefined) throw new Error('counting gave no row')
  refusePast(preview.isPast)
  requireMembers(preview.devices, job.expectDevices)
  return preview
}

function previewQuery(
  selection: Selection,
  notBefore: string | null,
  context: SelectionContext,
): Query {
  const own = [context.offlineAfterS, context.isPushOn, notBefore]
  const { text, values } = conditionOf(selection, context, own.length + 1)
  return {
    name: 'jobs.preview',
    isVarying: true,
    text: /* sql */ `
      with members as materialized (
        select d.device_id, d.alias, ${TIMES.seen} >= now() - make_interval(secs => $1) as is_online,
          ${pushState('$2')} as push
        from ${JOINED} where ${text})
      select count(*)::int as "devices", (count(*) filter (where not is_online))::int as "offline",
        (count(*) filter (where push <> 'live'))::int as "noPush",
        ${isLongPast('$3::timestamptz')} as "isPast",
        (select coalesce(json_agg(s), '[]') from (
          select d.device_id, d.alias from members d ${BY_ALIAS} limit ${SAMPLE}) s) as "sample"
      from members`,
    values: [...own, ...values],
  }
}
