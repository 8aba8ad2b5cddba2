/** Members of a job, in the order of their release: those that wait, and the commands of the others. */

import type { Outcome } from '../../domain/commands/command.ts'
import { type MemberStatus, NONE_OFFLINE, type OfflineMembers } from '../../domain/commands/job.ts'
import type { CommandRow } from '../commands/commands.ts'
import { COLUMNS, JOINED } from '../commands/rows.ts'
import type { Query, Queryable } from '../postgres/pool.ts'
import { isOpen, type JobRow } from './rows.ts'

/** A member without a command: it waits, or was cancelled with its job. */
export interface UnreleasedMember {
  readonly deviceId: string
  /** null: the device's row is gone. */
  readonly alias: string | null
}

export interface MemberRow {
  readonly n: number
  /** null: it has no command. */
  readonly command: CommandRow | null
  readonly unreleased: UnreleasedMember | null
}

/** Filters are null for any. Only released members have an outcome. */
export interface MemberFilter {
  readonly limit: number
  /** Number of the last member of the page before; 0: the first page. */
  readonly afterN: number
  readonly status: MemberStatus | null
  readonly outcome: Outcome | null
}

/** Open members that are looked at to see which devices are offline. */
const MAX_LOOKED = 1_000

const STATUS = /* sql */ `job_member_status(c.state, c.push_state, c.delivered_at is not null, c.outcome)`
const AFTER = /* sql */ `c.job_no = $1 and c.job_n > $2`

/**
 * Each filter has an index with its rows in order (sql/0025). The page is found before its rows are joined, and by
 * `between`: where the planner expects few rows, it would read and sort all of the job's.
 */
const page = (filter: string, order: string) => /* sql */ `
  with page as materialized (
    select c.request_id from commands c where ${AFTER} ${filter} order by c.job_no, ${order} c.job_n limit $3)
  select ${COLUMNS}, c.job_n as "n" from ${JOINED}
  where c.request_id = any (array(select request_id from page)) order by c.job_n`
const COMMANDS = page('', '')
const COMMANDS_OF_STATUS = page(
  `and ${STATUS} between $4 and $4 and ($5::text is null or c.outcome = $5)`,
  `${STATUS},`,
)
const COMMANDS_OF_OUTCOME = page('and c.outcome = $4', '')

const UNRELEASED = /* sql */ `
  select m.n as "n", m.device_id as "deviceId", d.alias as "alias"
  from job_members m left join devices d using (device_id)
  where m.job_no = $1 and m.n > $2 order by m.n limit $3`

const OFFLINE = /* sql */ `
  with looked as materialized (
    select c.device_id from commands c
    where c.job_no = $1 and ${isOpen(STATUS)}
    limit ${MAX_LOOKED}),
  seen as (
    select (select s.last_seen_at from device_status s where s.device_id = l.device_id limit 1) as at from looked l)
  select count(*)::int as "looked",
    (count(*) filter (where ${isOffline('at')}))::int as "offline",
    case when bool_or(at is null) then null else min(at) filter (where ${isOffline('at')}) end as "silentSince"
  from seen`

function isOffline(at: string): string {
  return `(${at} is null or ${at} < now() - make_interval(secs => $2))`
}

export async function listMembers(
  database: Queryable,
  job: JobRow,
  filter: MemberFilter,
): Promise<readonly MemberRow[]> {
  const { limit, status, outcome } = filter
  const unreleasedAs = job.state === 'aborted' ? 'cancelled' : 'waiting'
  const released =
    status === 'waiting' ? [] : await listReleased(database, releasedQuery(job.jobNo, filter))
  const room = limit - released.length
  const hasUnreleased = outcome === null && (status === null || status === unreleasedAs)
  if (!hasUnreleased || room === 0 || job.released === job.devices) return released
  // More may have been released since the job was read.
  const lastN = Math.max(filter.afterN, job.released, released.at(-1)?.n ?? 0)
  const values = [job.jobNo, lastN, room]
  const { rows } = await database.query<UnreleasedMember & { readonly n: number }>({
    name: 'jobs.list_unreleased',
    text: UNRELEASED,
    values,
  })
  return [...released, ...rows.map(({ n, ...unreleased }) => ({ n, command: null, unreleased }))]
}

async function listReleased(database: Queryable, query: Query): Promise<readonly MemberRow[]> {
  const { rows } = await database.query<CommandRow & { readonly n: number }>(query)
  return rows.map(({ n, ...command }) => ({ n, command, unreleased: null }))
}

function releasedQuery(jobNo: string, { afterN, limit, status, outcome }: MemberFilter): Query {
  const values = [jobNo, afterN, limit]
  if (status !== null) {
    const of = [status, outcome]
    return {
      name: 'jobs.list_of_status',
      text: COMMANDS_OF_STATUS,
      values: [...values, ...of],
    }
  }
  if (outcome !== null) {
    const name = 'jobs.list_of_outcome'
    return { name, text: COMMANDS_OF_OUTCOME, values: [...values, outcome] }
  }
  return { name: 'jobs.list_released', text: COMMANDS, values }
}

export async function countOffline(
  database: Queryable,
  jobNo: string,
  offlineAfterS: number,
): Promise<OfflineMembers> {
  const { rows } = await database.query<OfflineMembers>({
    name: 'jobs.offline',
    text: OFFLINE,
    values: [jobNo, offlineAfterS],
  })
  return rows[0] ?? NONE_OFFLINE
}
