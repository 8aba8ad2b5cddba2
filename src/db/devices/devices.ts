/** Owner of `devices` after enrollment: push identities, deletion, admin reads. */

import { type PushId, pushIdText } from '../../domain/delivery/push-id.ts'
import type { LiveDevice } from '../../domain/identity.ts'
import type { Selection } from '../../domain/selection/terms.ts'
import { type AuditEntry, writeAudit } from '../audit.ts'
import { CANCEL_BATCH, cancelSomeOf, countOpenOf, requestPush } from '../commands/outbox.ts'
import type { PushIdOffer } from '../heartbeats/heartbeats.ts'
import type { ListPage } from '../list-page.ts'
import { confirmReplicated } from '../postgres/confirm-replicated.ts'
import type { Database, Query, Queryable } from '../postgres/pool.ts'
import { killDeviceTokens } from './device-tokens.ts'
import { type FleetSummary, fleetSummary } from './fleet.ts'
import { COLUMNS, type DeviceFilter, type DeviceRow, JOINED, listQuery } from './lists.ts'
import { fidOf, PUSH_ID, tokenOf } from './push-id.ts'
import { NEXT_DUE_AT } from './push-id-limit.ts'
import { type SelectedDevices, selectedQuery } from './selected-list.ts'
import type { SelectionContext } from './selection.ts'

export interface DeviceStore {
  list(page: ListPage, filter: DeviceFilter): Promise<readonly DeviceRow[]>
  select(
    page: ListPage,
    selected: SelectedDevices,
    context: SelectionContext,
  ): Promise<readonly DeviceRow[]>
  summarize(selection: Selection, context: SelectionContext): Promise<FleetSummary>
  /** Live devices only. */
  find(deviceId: string): Promise<DeviceRow | undefined>
  /**
   * Replaces the push identity from its own route if it differs or is dead. Open commands become due for push as soon as
   * the limit of changes allows. `superseded`: the device was re-enrolled or deleted after its device token was
   * judged. `unchanged` changes nothing but the time of the identity, and that only while a push is under way.
   */
  setPushId(
    device: Pick<LiveDevice, 'deviceId' | 'enrollmentNo'>,
    pushId: PushId,
    requestId: string,
  ): Promise<'changed' | 'unchanged' | 'superseded'>
  /**
   * Replaces the push identity from a heartbeat if the current one is not newer, or is the one that the group statement
   * saw. Open commands become due as in setPushId. False: another one arrived meanwhile, or the device's
   * used and live device token is another one.
   */
  offerPushId(
    device: { readonly deviceId: string; readonly tokenHash: Buffer },
    offer: PushIdOffer & { readonly pushId: PushId },
    requestId: string,
  ): Promise<boolean>
  /** Kills its token, then cancels its open commands. `onCancelled` gets each durable batch. A repeat continues. */
  delete(
    deviceId: string,
    by: DeletedBy,
    onCancelled: (alias: string, cancelled: readonly Cancelled[]) => void,
  ): Promise<DeleteOutcome>
  /** Whether any device ever enrolled here. */
  exist(): Promise<boolean>
}

export type DeletedBy = Omit<AuditEntry, 'what' | 'subject' | 'detail'> & {
  readonly instance: string
}

export type DeleteOutcome =
  | { readonly kind: 'deleted'; readonly alias: string }
  | { readonly kind: 'already_deleted'; readonly alias: string }
  | { readonly kind: 'unknown' }

export interface Cancelled {
  readonly requestId: string
  readonly action: string
}

const FIND = /* sql */ `
  select ${COLUMNS} from ${JOINED} where d.device_id = $1 and d.deleted_at is null`

const ALIAS_OF = /* sql */ `select alias as "alias" from devices where device_id = $1`

/** Null before its first heartbeat, so that one may bring another identity. */
const NOW_BY_PHONE = /* sql */ `(
  select least(now(), now() - (s.last_seen_at - coalesce(s.clock_at, s.effective_at)))
  from device_status s where s.device_id = $1 and s.effective_at is not null)`

const SET_PUSH_ID = /* sql */ `
  update devices d set fcm_token = ${tokenOf('$2')}, fid = ${fidOf('$2')}, fcm_token_died_at = null,
    request_id = $3,
    fcm_token_at = ${NOW_BY_PHONE}, fcm_token_due_at = ${NEXT_DUE_AT}
  where device_id = $1 and enrollment_no = $4 and deleted_at is null
    and (${PUSH_ID} is distinct from $2 or fcm_token_died_at is not null)`

/** While a push is under way, the time of the identity says that the phone has registered it again (MARK_DEAD). */
const CONFIRM_ENROLLMENT = /* sql */ `
  with again as (
    update devices set fcm_token_at = ${NOW_BY_PHONE}
    where device_id = $1 and enrollment_no = $2 and deleted_at is null and exists (
      select from commands where device_id = $1 and state = 'open' and lease_id is not null))
  select from devices where device_id = $1 and enrollment_no = $2 and deleted_at is null`

/** Checks enrollment_no too: after a wait the device row is re-read, but the status is still the snapshot's. */
const OFFER_PUSH_ID = /* sql */ `
  update devices d set fcm_token = ${tokenOf('$2')}, fid = ${fidOf('$2')}, fcm_token_at = $3,
    fcm_token_died_at = null, request_id = $4, fcm_token_due_at = ${NEXT_DUE_AT}
  where device_id = $1 and deleted_at is null and ${PUSH_ID} is distinct from $2
    and ($3 >= coalesce(fcm_token_at, '-infinity') or fcm_token_at = $6)
    and exists (
      select from device_status s
      where s.device_id = $1 and s.token_hash = $5 and s.enrollment_no = d.enrollment_no)`

const KEEPS_PUSH_ID = /* sql */ `
  select from devices d where device_id = $1 and deleted_at is null and ${PUSH_ID} = $2`

const EXIST = /* sql */ `select exists (select from devices) as "doExist"`

const LOCK_STATUS = /* sql */ `
  select from device_status where device_id = $1 for no key update`

const DELETE = /* sql */ `
  update devices set deleted_at = now(), fcm_token = null, fid = null, fcm_token_died_at = null, request_id = $2
  where device_id = $1 and deleted_at is null
  returning alias as "alias"`

export function deviceStore(database: Database): DeviceStore {
  return {
    async list(page, filter) {
      return (await database.query<DeviceRow>(listQuery(page, filter))).rows
    },

    async select(page, selected, context) {
      return (await database.query<DeviceRow>(selectedQuery(page, selected, context))).rows
    },

    summarize: (selection, context) => fleetSummary(database, selection, context),

    find: (deviceId) => findDevice(database, deviceId),

    setPushId({ deviceId, enrollmentNo }, pushId, requestId) {
      return database.transaction(async (tx) => {
        const isChanged = await replacePushId(tx, deviceId, {
          name: 'devices.set_push_id',
          text: SET_PUSH_ID,
          values: [deviceId, pushIdText(pushId), requestId, enrollmentNo],
        })
        if (isChanged) return 'changed'
        const name = 'devices.is_enrolled'
        const values = [deviceId, enrollmentNo]
        const { rowCount } = await tx.query({ name, text: CONFIRM_ENROLLMENT, values })
        if (rowCount === 0) return 'superseded'
        await confirmReplicated(tx)
        return 'unchanged'
      })
    },

    offerPushId({ deviceId, tokenHash }, { pushId, clockAt, replacesAt }, requestId) {
      const offered = pushIdText(pushId)
      const update = {
        name: 'devices.offer_push_id',
        text: OFFER_PUSH_ID,
        values: [deviceId, offered, clockAt, requestId, tokenHash, replacesAt || null],
      }
      return database.transaction(async (tx) => {
        if (await replacePushId(tx, deviceId, update)) return true
        const name = 'devices.has_push_id'
        const values = [deviceId, offered]
        if ((await tx.query({ name, text: KEEPS_PUSH_ID, values })).rowCount === 0) return false
        await confirmReplicated(tx)
        return true
      })
    },

    async delete(deviceId, by, onCancelled) {
      const { outcome, cancelled } = await markDeleted(database, deviceId, by)
      if (outcome.kind === 'unknown') return outcome
      for (let batch = cancelled; ; batch = await cancelSomeOf(database, deviceId, by)) {
        onCancelled(outcome.alias, batch)
        if (batch.length < CANCEL_BATCH) return outcome
      }
    },

    async exist() {
      const { rows } = await database.query<{ doExist: boolean }>({
        name: 'devices.exist',
        text: EXIST,
      })
      return rows[0]?.doExist === true
    },
  }
}

/** Live devices only. */
export async function findDevice(
  database: Queryable,
  deviceId: string,
): Promise<DeviceRow | undefined> {
  const query = { name: 'devices.find', text: FIND, values: [deviceId] }
  return (await database.query<DeviceRow>(query)).rows[0]
}

/** The device, its tokens and the first batch of its commands in one transaction; the audit row counts all commands. */
function markDeleted(
  database: Database,
  deviceId: string,
  by: DeletedBy,
): Promise<{ outcome: DeleteOutcome; cancelled: readonly Cancelled[] }> {
  return database.transaction(async (tx) => {
    await tx.query({ name: 'devices.lock_status', text: LOCK_STATUS, values: [deviceId] })
    const { rows } = await tx.query<{ alias: string }>({
      name: 'devices.delete',
      text: DELETE,
      values: [deviceId, by.requestId],
    })
    const alias = rows[0]?.alias
    if (alias === undefined) {
      const query = { name: 'devices.alias_of', text: ALIAS_OF, values: [deviceId] }
      const [known] = (await tx.query<{ alias: string }>(query)).rows
      if (known === undefined) return { outcome: { kind: 'unknown' }, cancelled: [] }
      const cancelled = await cancelSomeOf(tx, deviceId, by)
      await confirmReplicated(tx)
      return { outcome: { kind: 'already_deleted', alias: known.alias }, cancelled }
    }
    await killDeviceTokens(tx, deviceId, 'device_deleted')
    const cancelledCommands = await countOpenOf(tx, deviceId)
    const cancelled = await cancelSomeOf(tx, deviceId, by)
    const { admin, requestId, ip } = by
    const detail = { alias, cancelled_commands: cancelledCommands }
    const who = { admin, requestId, ip }
    await writeAudit(tx, { ...who, what: 'device.delete', subject: deviceId, detail })
    return { outcome: { kind: 'deleted', alias }, cancelled }
  })
}

async function replacePushId(tx: Queryable, deviceId: string, update: Query): Promise<boolean> {
  const { rowCount } = await tx.query(update)
  if (rowCount === 0) return false
  await requestPush(tx, deviceId)
  return true
}
