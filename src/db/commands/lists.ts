/**
 * Lists commands, newest first. A status is computed (domain/commands/command.ts), so each kind of status has its own
 * statement, and each statement an index with its rows in order (sql/0011): it reads one page, however many others
 * there are. `order by` names the index's columns where another index could sort too and would have to skip rows.
 * Lists of one device read at most that device's commands.
 */
import type { CommandStatus, Outcome } from '../../domain/commands/command.ts'
import type { ListPage } from '../list-page.ts'
import type { Query, Queryable } from '../postgres/pool.ts'
import { COLUMNS, type CommandRow, JOINED } from './rows.ts'

export interface CommandFilter {
  readonly deviceId: string | null
  /** Of the live device; with `deviceId` both must hold. */
  readonly alias: string | null
  readonly status: CommandStatus | null
  /** Of completed commands: a result that came too late is none. */
  readonly outcome: Outcome | null
  readonly action: string | null
}

/** Status of an open, unexpired command, as statusAt. The text must equal the index's (sql/0011). */
export const OPEN_STATUS = /* sql */ `
  case when c.delivered_at is not null then 'delivered'
       when c.push_state = 'sent' then 'sent'
       when c.push_state in ('gave_up', 'no_token') then 'push_failed'
       else 'queued' end`

const BEFORE = /* sql */ `
  (c.created_at, c.request_id) < (coalesce($2::timestamptz, 'infinity'), coalesce($3::text, ''))`
const NEWEST_FIRST = /* sql */ `c.created_at desc, c.request_id desc`
const NEWEST = /* sql */ `order by ${NEWEST_FIRST} limit $1`
const SELECT = /* sql */ `select ${COLUMNS} from ${JOINED} where ${BEFORE}`
/** For one device the action is a filter; $4 null: any. */
const OF_DEVICE = /* sql */ `${SELECT} and ($4::text is null or c.action = $4) and c.device_id = $5`

const ALL = /* sql */ `${SELECT} ${NEWEST}`
const ALL_OF_DEVICE = /* sql */ `${OF_DEVICE} ${NEWEST}`
const ALL_OF_ACTION = /* sql */ `
  with page as materialized (
    select n.request_id, n.created_at
    from unnest(array['open', 'completed', 'expired', 'cancelled']) as s (state)
    cross join lateral (
      select c.request_id, c.created_at from commands c
      where ${BEFORE} and c.action = $4 and c.state = s.state ${NEWEST}) n
    order by created_at desc, request_id desc limit $1)
  select ${COLUMNS} from ${JOINED} where c.request_id in (select request_id from page) ${NEWEST}`

const IS_OPEN = /* sql */ `c.state = 'open' and c.expires_at > now() and ${OPEN_STATUS}`
const OPEN = /* sql */ `
  ${SELECT} and ${IS_OPEN} = any (array[$4::text]) order by ${OPEN_STATUS}, ${NEWEST_FIRST} limit $1`
const OPEN_OF_ACTION = /* sql */ `
  ${SELECT} and ${IS_OPEN} = any (array[$4::text]) and c.action = $5
  order by ${OPEN_STATUS}, ${NEWEST_FIRST} limit $1`
const OPEN_OF_DEVICE = /* sql */ `${OF_DEVICE} and ${IS_OPEN} = $6 ${NEWEST}`

const ENDED = /* sql */ `
  ${SELECT} and c.state = any (array[$4::text]) order by c.state, ${NEWEST_FIRST} limit $1`
const ENDED_OF_ACTION = /* sql */ `
  ${SELECT} and c.state = $4 and c.action = any (array[$5::text])
  order by c.action, ${NEWEST_FIRST} limit $1`
const ENDED_OF_DEVICE = /* sql */ `${OF_DEVICE} and c.state = $6 ${NEWEST}`

/** Indexed by outcome, and by outcome and action (sql/0023). Before PostgreSQL 17 only a first column keeps its order under `any`. */
const WITH_OUTCOME = /* sql */ `and c.state = 'completed' and c.outcome = any (array[$4::text])`
const OUTCOME = /* sql */ `${SELECT} ${WITH_OUTCOME} order by c.outcome, ${NEWEST_FIRST} limit $1`
const OUTCOME_OF_ACTION = /* sql */ `
  ${SELECT} ${WITH_OUTCOME} and c.action = $5 order by c.outcome, ${NEWEST_FIRST} limit $1`
const OUTCOME_OF_DEVICE = /* sql */ `${OF_DEVICE} and c.state = 'completed' and c.outcome = $6 ${NEWEST}`

const ID_OF_ALIAS = /* sql */ `
  select device_id as "deviceId" from devices where alias = $1 and deleted_at is null`

/**
 * Expired commands, plus those that the sweep has yet to expire: few, and found by the sweep's index. A sub-select
 * hides now() from the planner, which took nearly all open commands for expired and read the whole table.
 */
const expired = (state: string, filter: string, order: string) => /* sql */ `
  with unswept as materialized (
    select c.request_id, c.created_at, c.action from commands c
    where c.state = 'open' and c.expires_at <= (select now()) and c.expires_at > '-infinity'),
  page as materialized (
    (select c.request_id, c.created_at from commands c
     where ${BEFORE} and ${state} ${filter} order by ${order} ${NEWEST_FIRST} limit $1)
    union all
    (select c.request_id, c.created_at from unswept c where ${BEFORE} ${filter} ${NEWEST})
    order by created_at desc, request_id desc limit $1)
  select ${COLUMNS} from ${JOINED} where c.request_id in (select request_id from page) ${NEWEST}`
const EXPIRED = expired(`c.state = any (array['expired'])`, '', 'c.state,')
const EXPIRED_OF_ACTION = expired(
  `c.state = 'expired'`,
  'and c.action = any (array[$4::text])',
  'c.action,',
)
const EXPIRED_OF_DEVICE = /* sql */ `
  ${OF_DEVICE} and (c.state = 'expired' or (c.state = 'open' and c.expires_at <= now())) ${NEWEST}`

export async function listCommands(
  database: Queryable,
  page: ListPage,
  filter: CommandFilter,
): Promise<readonly CommandRow[]> {
  const { alias, deviceId: only } = filter
  const deviceId = alias === null ? only : await idOfAlias(database, alias)
  const isNobody = alias !== null && (deviceId === null || (only ?? deviceId) !== deviceId)
  if (isNobody) return []
  return (await database.query<CommandRow>(queryOf(page, { ...filter, deviceId }))).rows
}

async function idOfAlias(database: Queryable, alias: string): Promise<string | null> {
  const query = { name: 'commands.device_of_alias', text: ID_OF_ALIAS, values: [alias] }
  return (await database.query<{ deviceId: string }>(query)).rows[0]?.deviceId ?? null
}

function queryOf(page: ListPage, { deviceId, status, outcome, action }: CommandFilter): Query {
  const from = [page.limit, page.after?.at ?? null, page.after?.id ?? null]
  const kind = outcome === null ? kindOf(status) : 'outcome'
  const ofStatus =
    kind === 'outcome' ? [outcome] : kind === 'ended' || kind === 'open' ? [status] : []
  if (deviceId !== null) {
    const name = `commands.list_${kind}_of_device`
    return {
      name,
      text: STATEMENTS[kind].ofDevice,
      values: [...from, action, deviceId, ...ofStatus],
    }
  }
  if (action !== null) {
    const name = `commands.list_${kind}_of_action`
    return { name, text: STATEMENTS[kind].ofAction, values: [...from, ...ofStatus, action] }
  }
  return {
    name: `commands.list_${kind}`,
    text: STATEMENTS[kind].of,
    values: [...from, ...ofStatus],
  }
}

type Kind = 'all' | 'open' | 'ended' | 'expired' | 'outcome'

const STATEMENTS: Readonly<Record<Kind, Record<'of' | 'ofAction' | 'ofDevice', string>>> = {
  all: { of: ALL, ofAction: ALL_OF_ACTION, ofDevice: ALL_OF_DEVICE },
  open: { of: OPEN, ofAction: OPEN_OF_ACTION, ofDevice: OPEN_OF_DEVICE },
  ended: { of: ENDED, ofAction: ENDED_OF_ACTION, ofDevice: ENDED_OF_DEVICE },
  outcome: { of: OUTCOME, ofAction: OUTCOME_OF_ACTION, ofDevice: OUTCOME_OF_DEVICE },
  expired: { of: EXPIRED, ofAction: EXPIRED_OF_ACTION, ofDevice: EXPIRED_OF_DEVICE },
}

function kindOf(status: CommandStatus | null): Exclude<Kind, 'outcome'> {
  if (status === null) return 'all'
  if (status === 'expired') return 'expired'
  return status === 'completed' || status === 'cancelled' ? 'ended' : 'open'
}
