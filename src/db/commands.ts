/** Owner of `commands` for admins: accept, read, list, cancel. Push is in command-queue.ts, results in command-results.ts. */
import type { CommandState, Outcome, PushState } from '../core/command.ts'
import { type AuditEntry, type ListPage, timeText, writeAudit } from './audit.ts'
import type { Database, Queryable } from './pool.ts'

export interface NewCommand {
  readonly requestId: string
  readonly action: string
  readonly params: Readonly<Record<string, string>>
  /** SHA-256 over device, action and params; the device's id is added here. */
  readonly contentHash: Buffer
  readonly admin: string
  readonly ttlS: number
  readonly ip: string | null
  /** The replica, for the timeline. */
  readonly instance: string
  readonly isPushOn: boolean
}

/** One of the two names a device; the other is null. */
export interface DeviceRef {
  readonly deviceId: string | null
  readonly alias: string | null
}

export type AcceptOutcome =
  | { readonly kind: 'accepted' | 'repeated'; readonly command: CommandRow }
  | { readonly kind: 'conflict' }
  | { readonly kind: 'device_unknown' | 'device_deleted' }

/** A command with what its verdict needs to know of its device. Dates are instants; `now` is the database's. */
export interface CommandRow {
  readonly requestId: string
  readonly deviceId: string
  readonly alias: string
  readonly action: string
  readonly params: Readonly<Record<string, string>>
  readonly admin: string
  readonly state: CommandState
  readonly createdAt: Date
  /** Sort key of lists, microseconds. */
  readonly createdAtKey: string
  readonly expiresAt: Date
  readonly endedAt: Date | null
  readonly attempt: number
  readonly pushState: PushState
  readonly pushAttempts: number
  readonly fcmHttpCode: number | null
  readonly fcmStatus: string | null
  readonly nextAttemptAt: Date | null
  readonly deliveredAt: Date | null
  readonly deliveries: number
  readonly outcome: Outcome | null
  readonly resultMessage: string | null
  readonly resultOutput: string | null
  readonly resultExitCode: number | null
  readonly resultFinishedAt: Date | null
  readonly resultAt: Date | null
  readonly isLateResult: boolean
  readonly isDeleted: boolean
  readonly lastSeenAt: Date | null
  readonly hasPushToken: boolean
  readonly isPushTokenDead: boolean
  readonly now: Date
}

export interface CommandEventRow {
  readonly at: Date
  readonly stage: string
  readonly code: string | null
  readonly detail: Readonly<Record<string, unknown>> | null
  readonly instance: string
}

export interface CommandFilter {
  readonly deviceId: string | null
  /** As core/command.ts names them. */
  readonly status: string | null
  readonly action: string | null
}

export type CancelOutcome = 'cancelled' | 'ended' | 'unknown'
export type CancelledBy = Omit<AuditEntry, 'what' | 'subject' | 'detail'> & {
  readonly instance: string
}

export interface CommandStore {
  /** Durable when it resolves; the row stands before anything is pushed. */
  accept(device: DeviceRef, command: NewCommand): Promise<AcceptOutcome>
  find(requestId: string): Promise<CommandRow | undefined>
  timeline(requestId: string): Promise<readonly CommandEventRow[]>
  /** Newest first. */
  list(page: ListPage, filter: CommandFilter): Promise<readonly CommandRow[]>
  cancel(requestId: string, by: CancelledBy): Promise<CancelOutcome>
}

const FIND_DEVICE = /* sql */ `
  select device_id as "deviceId", deleted_at is not null as "isDeleted"
  from devices
  where device_id = $1 or (alias = $2 and deleted_at is null)
  for share`

/** The lock of FIND_DEVICE keeps a new push token from slipping in between the look and the row. */
const ACCEPT = /* sql */ `
  with device as (
    select device_id, case when not $9 then 'off'
      when fcm_token is null or fcm_token_died_at is not null then 'no_token' else 'waiting' end as push_state
    from devices where device_id = $2),
  made as (
    insert into commands (request_id, device_id, action, params, request_hash, admin, expires_at,
      push_state, next_attempt_at)
    select $1, device_id, $3, $4, $5, $6, now() + make_interval(secs => $7), push_state,
      case push_state when 'waiting' then now() end
    from device
    on conflict (request_id) do nothing
    returning request_id)
  insert into command_events (request_id, stage, detail, instance)
  select request_id, 'accepted', jsonb_build_object('admin', $6::text), $8 from made`

const HASH = /* sql */ `
  select device_id as "deviceId", request_hash as "requestHash" from commands where request_id = $1`

const COLUMNS = /* sql */ `
  c.request_id as "requestId", c.device_id as "deviceId", d.alias as "alias", c.action as "action",
  c.params as "params", c.admin as "admin", c.state as "state", c.created_at as "createdAt",
  ${timeText('c.created_at')} as "createdAtKey", c.expires_at as "expiresAt", c.ended_at as "endedAt",
  c.attempt as "attempt", c.push_state as "pushState", c.push_attempts as "pushAttempts",
  c.fcm_http_code as "fcmHttpCode", c.fcm_status as "fcmStatus", c.next_attempt_at as "nextAttemptAt",
  c.delivered_at as "deliveredAt", c.deliveries as "deliveries", c.outcome as "outcome",
  c.result_message as "resultMessage", c.result_output as "resultOutput",
  c.result_exit_code as "resultExitCode", c.result_finished_at as "resultFinishedAt",
  c.result_at as "resultAt", c.late_result as "isLateResult", d.deleted_at is not null as "isDeleted",
  s.last_seen_at as "lastSeenAt", d.fcm_token is not null as "hasPushToken",
  d.fcm_token_died_at is not null as "isPushTokenDead", now() as "now"`

const JOINED = /* sql */ `
  commands c join devices d using (device_id) join device_status s using (device_id)`

const FIND = /* sql */ `select ${COLUMNS} from ${JOINED} where c.request_id = $1`

const TIMELINE = /* sql */ `
  select at as "at", stage as "stage", code as "code", detail as "detail", instance as "instance"
  from command_events where request_id = $1 order by event_id`

/** The status of core/command.ts, so that a page holds what its filter says. */
const STATUS = /* sql */ `
  case when c.state <> 'open' then c.state
       when c.expires_at <= now() then 'expired'
       when c.delivered_at is not null then 'delivered'
       when c.push_state = 'sent' then 'sent'
       when c.push_state in ('gave_up', 'no_token') then 'push_failed'
       else 'queued' end`

const PAGE = /* sql */ `
  and (c.created_at, c.request_id) < (coalesce($2::timestamptz, 'infinity'), coalesce($3::text, ''))
  and ($4::text is null or ${STATUS} = $4)
  and ($5::text is null or c.action = $5)
  order by c.created_at desc, c.request_id desc
  limit $1`

const LIST_ALL = /* sql */ `select ${COLUMNS} from ${JOINED} where true ${PAGE}`
const LIST_OF_DEVICE = /* sql */ `select ${COLUMNS} from ${JOINED} where c.device_id = $6 ${PAGE}`

const CANCEL = /* sql */ `
  with ended as (
    update commands set state = 'cancelled', ended_at = now(), next_attempt_at = null
    where request_id = $1 and state = 'open' and expires_at > now()
    returning request_id)
  insert into command_events (request_id, stage, detail, instance)
  select request_id, 'cancelled', jsonb_build_object('admin', $2::text), $3 from ended`

export function commandStore(database: Database): CommandStore {
  return {
    accept(ref, command) {
      return database.transaction((tx) => accept(tx, ref, command))
    },

    find: (requestId) => find(database, requestId),

    async timeline(requestId) {
      const { rows } = await database.query<CommandEventRow>({
        name: 'commands.timeline',
        text: TIMELINE,
        values: [requestId],
      })
      return rows
    },

    async list(page, filter) {
      const values = [
        page.limit,
        page.after?.at ?? null,
        page.after?.id ?? null,
        filter.status,
        filter.action,
      ]
      const query =
        filter.deviceId === null
          ? { name: 'commands.list_all', text: LIST_ALL, values }
          : {
              name: 'commands.list_of_device',
              text: LIST_OF_DEVICE,
              values: [...values, filter.deviceId],
            }
      return (await database.query<CommandRow>(query)).rows
    },

    cancel(requestId, by) {
      return database.transaction(async (tx) => {
        const { admin, instance, ip } = by
        const { rowCount } = await tx.query({
          name: 'commands.cancel',
          text: CANCEL,
          values: [requestId, admin, instance],
        })
        if (rowCount === 0) {
          return (await find(tx, requestId)) === undefined ? 'unknown' : 'ended'
        }
        const what = 'command.cancel'
        await writeAudit(tx, { admin, requestId: by.requestId, ip, what, subject: requestId })
        return 'cancelled'
      })
    },
  }
}

async function accept(tx: Queryable, ref: DeviceRef, command: NewCommand): Promise<AcceptOutcome> {
  const { rows: devices } = await tx.query<{ deviceId: string; isDeleted: boolean }>({
    name: 'commands.find_device',
    text: FIND_DEVICE,
    values: [ref.deviceId, ref.alias],
  })
  const device = devices[0]
  // A repeat is answered also when its device was deleted since.
  const known = await knownHash(tx, command.requestId)
  if (known !== undefined) return repeat(tx, known, device?.deviceId, command)
  if (device === undefined) return { kind: 'device_unknown' }
  if (device.isDeleted) return { kind: 'device_deleted' }

  const { rowCount } = await tx.query({
    name: 'commands.accept',
    text: ACCEPT,
    values: [
      command.requestId,
      device.deviceId,
      command.action,
      JSON.stringify(command.params),
      command.contentHash,
      command.admin,
      command.ttlS,
      command.instance,
      command.isPushOn,
    ],
  })
  if (rowCount === 0) {
    const raced = await knownHash(tx, command.requestId)
    return raced === undefined ? { kind: 'conflict' } : repeat(tx, raced, device.deviceId, command)
  }
  const detail = { device_id: device.deviceId, action: command.action, ttl_s: command.ttlS }
  const { admin, requestId, ip } = command
  await writeAudit(tx, { admin, requestId, ip, what: 'command.create', subject: requestId, detail })
  const row = await find(tx, requestId)
  if (row === undefined) throw new Error('the command that was just written is not there')
  return { kind: 'accepted', command: row }
}

interface Known {
  readonly deviceId: string
  readonly requestHash: Buffer
}

async function knownHash(tx: Queryable, requestId: string): Promise<Known | undefined> {
  const values = [requestId]
  const { rows } = await tx.query<Known>({ name: 'commands.hash', text: HASH, values })
  return rows[0]
}

async function repeat(
  tx: Queryable,
  known: Known,
  deviceId: string | undefined,
  command: NewCommand,
): Promise<AcceptOutcome> {
  const isSame = known.deviceId === deviceId && known.requestHash.equals(command.contentHash)
  const row = isSame ? await find(tx, command.requestId) : undefined
  return row === undefined ? { kind: 'conflict' } : { kind: 'repeated', command: row }
}

async function find(database: Queryable, requestId: string): Promise<CommandRow | undefined> {
  const { rows } = await database.query<CommandRow>({
    name: 'commands.find',
    text: FIND,
    values: [requestId],
  })
  return rows[0]
}
