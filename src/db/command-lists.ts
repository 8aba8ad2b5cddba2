/**
 * Lists of commands, newest first. A status is computed (core/command.ts), so that a page holds what its
 * filter says each kind of status has its own query, and each query an index that holds its order:
 * ended ones are found by state, open ones among the open, expired ones wherever the sweep left them, those of
 * an action by it.
 */
import type { CommandStatus } from '../core/command.ts'
import type { ListPage } from './audit.ts'
import { COLUMNS, type CommandRow, JOINED } from './command-rows.ts'
import type { Query, Queryable } from './pool.ts'

export interface CommandFilter {
  readonly deviceId: string | null
  readonly status: CommandStatus | null
  readonly action: string | null
}

/** Of an open command in time: statusAt. */
const OPEN_STATUS = /* sql */ `
  case when c.delivered_at is not null then 'delivered'
       when c.push_state = 'sent' then 'sent'
       when c.push_state in ('gave_up', 'no_token') then 'push_failed'
       else 'queued' end`

const BEFORE = /* sql */ `
  (c.created_at, c.request_id) < (coalesce($2::timestamptz, 'infinity'), coalesce($3::text, ''))`

const AFTER = /* sql */ `${BEFORE} and ($4::text is null or c.action = $4)`

/** For lists that neither a device nor being open bounds: an action is looked for by its own index, not in the history. */
const OF_ACTION = /* sql */ `${BEFORE} and c.action = $4`

const NEWEST = /* sql */ `order by c.created_at desc, c.request_id desc limit $1`

const SELECT_ALL = /* sql */ `select ${COLUMNS} from ${JOINED} where`
const SELECT = /* sql */ `${SELECT_ALL} ${AFTER}`
const SELECT_OF_ACTION = /* sql */ `${SELECT_ALL} ${OF_ACTION}`

const ALL = /* sql */ `${SELECT} ${NEWEST}`
const ALL_OF_ACTION = /* sql */ `${SELECT_OF_ACTION} ${NEWEST}`
const ALL_OF_DEVICE = /* sql */ `${SELECT} and c.device_id = $5 ${NEWEST}`

const IS_OPEN = /* sql */ `
  c.state = 'open' and c.expires_at > now() and ${OPEN_STATUS} = $5`
const OPEN = /* sql */ `${SELECT} and ${IS_OPEN} ${NEWEST}`
const OPEN_OF_DEVICE = /* sql */ `${SELECT} and ${IS_OPEN} and c.device_id = $6 ${NEWEST}`

const ENDED = /* sql */ `${SELECT} and c.state = $5 ${NEWEST}`
const ENDED_OF_ACTION = /* sql */ `${SELECT_OF_ACTION} and c.state = $5 ${NEWEST}`
const ENDED_OF_DEVICE = /* sql */ `${SELECT} and c.state = $5 and c.device_id = $6 ${NEWEST}`

/** Swept ones, and those whose time is over and that the sweep has yet to see: few, found by the sweep's index (sql/0008). */
const expired = (after: string) => /* sql */ `
  with page as materialized (
    (select c.request_id, c.created_at from commands c where ${after} and c.state = 'expired' ${NEWEST})
    union all
    (select c.request_id, c.created_at from commands c
     where ${after} and c.state = 'open' and c.expires_at <= now() and c.expires_at > '-infinity' ${NEWEST})
    order by created_at desc, request_id desc limit $1)
  select ${COLUMNS} from ${JOINED} where c.request_id in (select request_id from page) ${NEWEST}`
const EXPIRED = expired(AFTER)
const EXPIRED_OF_ACTION = expired(OF_ACTION)
const EXPIRED_OF_DEVICE = /* sql */ `
  ${SELECT} and c.device_id = $5
    and (c.state = 'expired' or (c.state = 'open' and c.expires_at <= now())) ${NEWEST}`

export async function listCommands(
  database: Queryable,
  page: ListPage,
  filter: CommandFilter,
): Promise<readonly CommandRow[]> {
  return (await database.query<CommandRow>(queryOf(page, filter))).rows
}

function queryOf(page: ListPage, { deviceId, status, action }: CommandFilter): Query {
  const { limit, after } = page
  const from = [limit, after?.at ?? null, after?.id ?? null, action]
  switch (status) {
    case null:
      if (deviceId !== null) {
        const values = [...from, deviceId]
        return { name: 'commands.list_of_device', text: ALL_OF_DEVICE, values }
      }
      return action === null
        ? { name: 'commands.list', text: ALL, values: from }
        : { name: 'commands.list_of_action', text: ALL_OF_ACTION, values: from }
    case 'expired':
      if (deviceId !== null) {
        const values = [...from, deviceId]
        return { name: 'commands.list_expired_of_device', text: EXPIRED_OF_DEVICE, values }
      }
      return action === null
        ? { name: 'commands.list_expired', text: EXPIRED, values: from }
        : { name: 'commands.list_expired_of_action', text: EXPIRED_OF_ACTION, values: from }
    case 'completed':
    case 'cancelled':
      if (deviceId !== null) {
        const values = [...from, status, deviceId]
        return { name: 'commands.list_ended_of_device', text: ENDED_OF_DEVICE, values }
      }
      return action === null
        ? { name: 'commands.list_ended', text: ENDED, values: [...from, status] }
        : {
            name: 'commands.list_ended_of_action',
            text: ENDED_OF_ACTION,
            values: [...from, status],
          }
    default:
      if (deviceId !== null) {
        const values = [...from, status, deviceId]
        return { name: 'commands.list_open_of_device', text: OPEN_OF_DEVICE, values }
      }
      return { name: 'commands.list_open', text: OPEN, values: [...from, status] }
  }
}
