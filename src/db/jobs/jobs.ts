/** Owner of `jobs` for admins: create, read, list, pause, resume, abort. release.ts moves jobs on, members.ts lists members. */

import type { OfflineMembers } from '../../domain/commands/job.ts'
import {
  CHANGES_FROM,
  effectOf,
  type JobControl,
  type JobState,
} from '../../domain/commands/job.ts'
import { type AuditEntry, writeAudit } from '../audit.ts'
import type { SelectionContext } from '../devices/selection.ts'
import type { ListPage } from '../list-page.ts'
import { confirmReplicated } from '../postgres/confirm-replicated.ts'
import type { Database } from '../postgres/pool.ts'
import {
  type CreateOutcome,
  createJob,
  findJob,
  type NewJob,
  type Preview,
  previewJob,
} from './create.ts'
import { countOffline, listMembers, type MemberFilter, type MemberRow } from './members.ts'
import { type JobRow, selectJob, uncounted } from './rows.ts'

export type ControlledBy = Omit<AuditEntry, 'what' | 'subject' | 'detail'>

export type ControlOutcome =
  /** `isChanged`: false if the job was as the admin wants it. */
  | { readonly kind: 'ok'; readonly job: JobRow; readonly isChanged: boolean }
  | { readonly kind: 'ended'; readonly state: JobState }
  | { readonly kind: 'unknown' }

export interface JobStore {
  /** Durable when it resolves, with all members; nothing is released before. */
  create(job: NewJob, context: SelectionContext): Promise<CreateOutcome>
  /** Stores nothing. */
  preview(
    job: Pick<NewJob, 'selection' | 'expectDevices' | 'notBefore'>,
    context: SelectionContext,
  ): Promise<Preview>
  find(jobId: string): Promise<JobRow | undefined>
  /** Newest first. `state` null: any. */
  list(page: ListPage, state: JobState | null): Promise<readonly JobRow[]>
  /** In the order of release. */
  members(job: JobRow, page: MemberFilter): Promise<readonly MemberRow[]>
  /** Among the first open members. */
  offline(job: JobRow, offlineAfterS: number): Promise<OfflineMembers>
  /** `cancelOpen` counts for `abort` only. */
  control(
    jobId: string,
    control: JobControl,
    by: ControlledBy,
    cancelOpen: boolean,
  ): Promise<ControlOutcome>
}

const BEFORE = /* sql */ `
  (j.created_at, j.job_id) < (coalesce($2::timestamptz, 'infinity'), coalesce($3::text, ''))`
const LIST = /* sql */ `
  ${selectJob()} where ${BEFORE} order by j.created_at desc, j.job_id desc limit $1`
/** `order by` names the index's first column: only that index can sort this. */
const LIST_OF_STATE = /* sql */ `
  ${selectJob()} where ${BEFORE} and j.state = any (array[$4::text])
  order by j.state, j.created_at desc, j.job_id desc limit $1`

/** After this lock nothing is released. Without it, a release that has begun would go on. */
const LOCK = /* sql */ `
  select state as "state" from jobs where job_id = $1 for no key update`

/** What ended so far, with what job_changes holds: ends the count of the threshold. */
const ENDED_SO_FAR = (statuses: readonly string[]) => {
  const list = statuses.map((status) => `'${status}'`).join(', ')
  const sum = statuses.map((status) => `jobs.${status}`).join(' + ')
  return /* sql */ `${sum} + (
    select count(*)::int from ${uncounted('jobs')} c where c.became in (${list}))`
}

const states = (control: JobControl) =>
  CHANGES_FROM[control].map((state) => `'${state}'`).join(', ')

const BY = /* sql */ `changed_at = now(), changed_by = $2`
/** $1: the job_id, $2: the admin; abort's $3: whether open commands are cancelled. Changes no row in another state. */
export const CONTROLS: Readonly<Record<JobControl, string>> = {
  pause: /* sql */ `
    update jobs set state = 'paused', reason = 'admin', ${BY}
    where job_id = $1 and state in (${states('pause')})`,
  resume: /* sql */ `
    update jobs set state = case when not_before > now() then 'scheduled' else 'running' end, reason = null, ${BY},
      ended_before = lost + ${ENDED_SO_FAR(['completed', 'failed', 'expired', 'cancelled'])},
      failed_before = ${ENDED_SO_FAR(['failed', 'expired'])},
      allowance = least(allowance, 1), filled_at = clock_timestamp()
    where job_id = $1 and state in (${states('resume')})`,
  abort: /* sql */ `
    update jobs set state = 'aborted', reason = 'admin', ${BY}, ended_at = now(), is_cancelling = $3
    where job_id = $1 and state in (${states('abort')})`,
}

/** `slow`: creating a job may take more time than a statement of `main` has. */
export function jobStore(main: Database, slow: Database): JobStore {
  return {
    create: (job, context) => createJob(slow, job, context),
    preview: (job, context) => previewJob(slow, job, context),
    find: (jobId) => findJob(main, jobId),

    async list(page, state) {
      const values = [page.limit, page.after?.at ?? null, page.after?.id ?? null]
      const query =
        state === null
          ? { name: 'jobs.list', text: LIST, values }
          : { name: 'jobs.list_of_state', text: LIST_OF_STATE, values: [...values, state] }
      return (await main.query<JobRow>(query)).rows
    },

    members: (job, filter) => listMembers(main, job, filter),
    offline: (job, offlineAfterS) => countOffline(main, job.jobNo, offlineAfterS),

    control(jobId, control, by, cancelOpen) {
      return main.transaction(async (tx) => {
        const lock = { name: 'jobs.lock_for_admin', text: LOCK, values: [jobId] }
        const [before] = (await tx.query<{ state: JobState }>(lock)).rows
        if (before === undefined) return { kind: 'unknown' }
        const effect = effectOf(control, before.state)
        if (effect === 'ended') return { kind: 'ended', state: before.state }
        if (effect === 'changed') {
          const values = [jobId, by.admin, ...(control === 'abort' ? [cancelOpen] : [])]
          await tx.query({ name: `jobs.${control}`, text: CONTROLS[control], values })
          const detail = control === 'abort' ? { detail: { cancel_open: cancelOpen } } : {}
          await writeAudit(tx, { ...by, what: `job.${control}`, subject: jobId, ...detail })
        } else await confirmReplicated(tx)
        const job = await findJob(tx, jobId)
        if (job === undefined) throw new Error('the job that was just locked is not there')
        return { kind: 'ok', job, isChanged: effect === 'changed' }
      })
    },
  }
}
