/** Owner of `commands` for admins: accept, read, list, cancel. outbox.ts has push, results.ts results. */
import { type AuditEntry, writeAudit } from '../audit.ts'
import { HAS_PUSH_ID } from '../devices/push-id.ts'
import type { ListPage } from '../list-page.ts'
import { confirmReplicated } from '../postgres/confirm-replicated.ts'
import type { Database, Queryable } from '../postgres/pool.ts'
import { type CommandFilter, listCommands } from './lists.ts'
import { TIMELINE } from './push-steps.ts'
import { COLUMNS, type CommandRow, JOINED } from './rows.ts'

export type { CommandFilter, CommandRow }

export interface NewCommand {
  readonly requestId: string
  readonly action: string
  readonly params: Readonly<Record<string, string>>
  /** SHA-256 over action and params; the device is compared separately. */
  readonly contentHash: Buffer
  readonly admin: string
  readonly ttlS: number
  readonly ip: string | null
  /** Name of the replica, for the timeline. */
  readonly instance: string
  readonly isPushOn: boolean
}

/** Exactly one is set. */
export interface DeviceRef {
  readonly deviceId: string | null
  readonly alias: string | null
}

export type AcceptOutcome =
  | { readonly kind: 'accepted' | 'repeated'; readonly command: CommandRow }
  | { readonly kind: 'conflict' }
  | { readonly kind: 'device_unknown' | 'device_deleted' }

export interface CommandEventRow {
  readonly at: string
  readonly stage: string
  readonly code: string | null
  readonly detail: Readonly<Record<string, unknown>> | null
  readonly instance: string
}

export type CancelOutcome =
  | { readonly kind: 'cancelled' | 'ended'; readonly command: CommandRow }
  | { readonly kind: 'unknown' }
export type CancelledBy = Omit<AuditEntry, 'what' | 'subject' | 'detail'> & {
  readonly instance: string
}

export interface CommandStore {
  /** Durable when it resolves; nothing is pushed before. */
  accept(device: DeviceRef, command: NewCommand): Promise<AcceptOutcome>
  find(requestId: string): Promise<CommandRow | undefined>
  /** Oldest first, bounded by push-steps.ts. */
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

/**
 * FIND_DEVICE's lock prevents a new push identity between that read and this row. `<job_id>.<n>` is reserved for the members
 * of a job, even before their commands exist.
 */
const ACCEPT = /* sql */ `
  with device as (
    select device_id, case when not $9 then 'off'
      when not ${HAS_PUSH_ID} or fcm_token_died_at is not null then 'no_token' else 'waiting' end as push_state
    from devices d where device_id = $2
      and not exists (select from jobs where job_id = substring($1::text from '^(.*)[.][0-9]+$'))),
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
  select c.device_id as "deviceId", d.alias as "alias", c.request_hash as "requestHash"
  from commands c join devices d using (device_id) where c.request_id = $1`

const FIND = /* sql */ `select ${COLUMNS} from ${JOINED} where c.request_id = $1`

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

    list: (page, filter) => listCommands(database, page, filter),

    cancel(requestId, by) {
      return database.transaction(async (tx) => {
        const { admin, instance, ip } = by
        const { rowCount } = await tx.query({
          name: 'commands.cancel',
          text: CANCEL,
          values: [requestId, admin, instance],
        })
        const command = await find(tx, requestId)
        if (command === undefined) return { kind: 'unknown' }
        if (rowCount === 0) return { kind: 'ended', command }
        const what = 'command.cancel'
        await writeAudit(tx, { admin, requestId: by.requestId, ip, what, subject: requestId })
        return { kind: 'cancelled', command }
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
  // A repeat succeeds even if its device was deleted since.
  const known = await knownHash(tx, command.requestId)
  if (known !== undefined) {
    // An alias does not find a deleted device, and may belong to another one by now.
    const isSame = device === undefined ? known.alias === ref.alias : isOf(known, device)
    return repeat(tx, known, isSame, command)
  }
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
    if (raced === undefined) return { kind: 'conflict' }
    return repeat(tx, raced, isOf(raced, device), command)
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
  readonly alias: string
  readonly requestHash: Buffer
}

async function knownHash(tx: Queryable, requestId: string): Promise<Known | undefined> {
  const values = [requestId]
  const { rows } = await tx.query<Known>({ name: 'commands.hash', text: HASH, values })
  return rows[0]
}

function isOf(known: Known, device: { readonly deviceId: string }): boolean {
  return known.deviceId === device.deviceId
}

async function repeat(
  tx: Queryable,
  known: Known,
  isSameDevice: boolean,
  command: NewCommand,
): Promise<AcceptOutcome> {
  const isSame = isSameDevice && known.requestHash.equals(command.contentHash)
  const row = isSame ? await find(tx, command.requestId) : undefined
  if (row === undefined) return { kind: 'conflict' }
  await confirmReplicated(tx)
  return { kind: 'repeated', command: row }
}

async function find(database: Queryable, requestId: string): Promise<CommandRow | undefined> {
  const { rows } = await database.query<CommandRow>({
    name: 'commands.find',
    text: FIND,
    values: [requestId],
  })
  return rows[0]
}
