/** Changes the labels of `devices`: of one, or of a selection in one transaction. */
import type { AuditWhat } from '../../domain/audit.ts'
import { AppError, invalidField } from '../../domain/errors.ts'
import { type LabelChange, MAX_LABELS } from '../../domain/labels.ts'
import { requireSize } from '../../domain/selection/size.ts'
import type { Selection } from '../../domain/selection/terms.ts'
import { type AuditEntry, writeAudit } from '../audit.ts'
import { confirmReplicated } from '../postgres/confirm-replicated.ts'
import type { Database, Query, Queryable } from '../postgres/pool.ts'
import { findDevice } from './devices.ts'
import { type DeviceRow, JOINED } from './lists.ts'
import { conditionOf, type SelectionContext } from './selection.ts'

export type LabelledBy = Omit<AuditEntry, 'what' | 'subject' | 'detail'>

export interface SelectedChange {
  readonly selection: Selection
  /** As it was written, for the audit log. */
  readonly where: string
  readonly labels: LabelChange
  /** undefined: any number. */
  readonly expectDevices: number | undefined
}

/** What a change of a selection's labels did, or would do. */
export interface SelectedLabels {
  /** In the selection. */
  readonly devices: number
  /** Those of them whose labels differ afterwards. */
  readonly changed: number
  /** The first by alias. */
  readonly sample: readonly { readonly device_id: string; readonly alias: string }[]
}

/** A change after which a device would have more than MAX_LABELS labels is `invalid_field` and changes nothing. */
export interface DeviceLabelStore {
  /** The device afterwards; undefined unless it is live. Writes nothing if the labels stay the same. */
  change(
    deviceId: string,
    labels: LabelChange,
    by: LabelledBy,
  ): Promise<{ readonly device: DeviceRow; readonly isChanged: boolean } | undefined>
  /** Throws what `changeSelected` would throw. */
  preview(change: SelectedChange, context: SelectionContext): Promise<SelectedLabels>
  /**
   * Throws AppError `selection_empty` or `selection_changed`, `invalid_field` for more than MAX_SELECTED devices, and
   * `overloaded` while another replica does this.
   */
  changeSelected(
    change: SelectedChange,
    context: SelectionContext,
    by: LabelledBy,
  ): Promise<SelectedLabels>
}

/** Devices of one change: they are locked until it commits, which takes 4 s for so many. */
const MAX_SELECTED = 100_000
const SAMPLE = 20

/** Of devices row `d`. $1: the labels to set, $2: the keys to remove. */
const MERGED = /* sql */ `((d.labels || $1::jsonb) - $2::text[])`
const countOf = (labels: string) => /* sql */ `(select count(*) from jsonb_object_keys(${labels}))`

const CHANGE = /* sql */ `
  update devices d set labels = ${MERGED}, request_id = $4
  where d.device_id = $3 and d.deleted_at is null and d.labels is distinct from ${MERGED}
  returning d.alias as "alias", ${countOf('d.labels')}::int as "count"`

/** Two changes of many devices would lock them in different orders. */
const LOCK = /* sql */ `
  select pg_try_advisory_xact_lock(hashtextextended('device-labels', 0)) as "isFree"`

/** Locks in the order of device_id; then each device's newest labels count. One audit entry for each changed device. */
const CHANGE_ALL = /* sql */ `
  with held as materialized (
    select d.device_id from devices d
    where d.device_id = any ($3::uuid[]) and d.deleted_at is null and d.labels is distinct from ${MERGED}
    order by d.device_id for no key update),
  changed as (
    update devices d set labels = ${MERGED}, request_id = $4 from held h where d.device_id = h.device_id
    returning d.device_id, d.alias, ${countOf('d.labels')} as count),
  audited as (
    insert into audit_log (admin, what, subject, request_id, ip, detail)
    select $5::text, '${'device.label' satisfies AuditWhat}', device_id::text, $4, $6::text,
      jsonb_build_object('alias', alias, 'labels', $7::jsonb)
    from changed)
  select count(*)::int as "changed", min(alias) filter (where count > ${MAX_LABELS}) as "overfull" from changed`

interface Found extends SelectedLabels {
  /** The changed ones, as an array's text; null for a preview. */
  readonly ids: string | null
  /** A device that would have too many labels. */
  readonly overfull: string | null
}

/** `main` serves what is short; a change of many devices may take seconds and has `slow`. */
export function deviceLabelStore(main: Database, slow: Database): DeviceLabelStore {
  return {
    change(deviceId, labels, by) {
      return main.transaction(async (tx) => {
        const { rows } = await tx.query<{ alias: string; count: number }>({
          name: 'devices.label',
          text: CHANGE,
          values: [...mergeOf(labels), deviceId, by.requestId],
        })
        const [changed] = rows
        if (changed !== undefined) {
          const { alias, count } = changed
          if (count > MAX_LABELS) throw overfull(alias)
          const detail = { alias, labels }
          await writeAudit(tx, { ...by, what: 'device.label', subject: deviceId, detail })
        }
        // Before the commit: a change that is durable must not fail afterwards.
        const device = await findDevice(tx, deviceId)
        if (device === undefined) return undefined
        if (changed === undefined) await confirmReplicated(tx)
        return { device, isChanged: changed !== undefined }
      })
    },

    preview: (change, context) => find(main, change, context, false),

    changeSelected(change, context, by) {
      return slow.transaction(async (tx) => {
        const query = { name: 'devices.lock_labels', text: LOCK }
        const [lock] = (await tx.query<{ isFree: boolean }>(query)).rows
        if (lock?.isFree !== true) throw busy()
        const { ids, ...found } = await find(tx, change, context, true)
        const changed = await changeAll(tx, ids ?? '{}', change.labels, by)
        const { where, labels } = change
        const detail = { where, labels, devices: found.devices, changed }
        await writeAudit(tx, { ...by, what: 'devices.label', subject: by.requestId, detail })
        return { ...found, changed }
      })
    },
  }
}

function mergeOf(labels: LabelChange): readonly unknown[] {
  const entries = Object.entries(labels)
  const set = Object.fromEntries(entries.filter(([, value]) => value !== null))
  return [JSON.stringify(set), entries.filter(([, value]) => value === null).map(([key]) => key)]
}

async function find(
  database: Queryable,
  change: SelectedChange,
  context: SelectionContext,
  withIds: boolean,
): Promise<Omit<Found, 'overfull'>> {
  const { rows } = await database.query<Found>(findQuery(change, context, withIds))
  const [found] = rows
  if (found === undefined) throw new Error('counting gave no row')
  const { devices, changed, sample, ids } = found
  requireSize(devices, {
    expected: change.expectDevices,
    most: MAX_SELECTED,
    nothingDone: 'Nothing was changed.',
  })
  if (found.overfull !== null) throw overfull(found.overfull)
  return { devices, changed, sample, ids }
}

function findQuery(
  { selection, labels }: SelectedChange,
  context: SelectionContext,
  withIds: boolean,
): Query {
  const merge = mergeOf(labels)
  const { text, values } = conditionOf(selection, context, merge.length + 1)
  const changed = /* sql */ `select device_id from members where is_changed limit ${MAX_SELECTED}`
  return {
    name: 'devices.label_find',
    isVarying: true,
    text: /* sql */ `
      with members as materialized (
        select d.device_id, d.alias, m.labels, d.labels is distinct from m.labels as is_changed
        from ${JOINED} cross join lateral (select ${MERGED} as labels) m where ${text})
      select count(*)::int as "devices", (count(*) filter (where is_changed))::int as "changed",
        min(alias) filter (where is_changed and ${countOf('members.labels')} > ${MAX_LABELS}) as "overfull",
        (select coalesce(json_agg(s), '[]') from (
          select device_id, alias from members order by alias limit ${SAMPLE}) s) as "sample",
        ${withIds ? `array(${changed})::text` : 'null'} as "ids"
      from members`,
    values: [...merge, ...values],
  }
}

async function changeAll(
  tx: Queryable,
  ids: string,
  labels: LabelChange,
  { admin, requestId, ip }: LabelledBy,
): Promise<number> {
  const { rows } = await tx.query<{ changed: number; overfull: string | null }>({
    name: 'devices.label_all',
    text: CHANGE_ALL,
    values: [...mergeOf(labels), ids, requestId, admin, ip, JSON.stringify(labels)],
  })
  const [done] = rows
  if (typeof done?.overfull === 'string') throw overfull(done.overfull)
  return done?.changed ?? 0
}

function busy(): AppError {
  const message = 'Another replica changes the labels of a selection. Try again shortly.'
  return new AppError('overloaded', message)
}

function overfull(alias: string): AppError {
  return invalidField('labels', `${alias} would have more than ${MAX_LABELS} labels`)
}
