/** Pages of the devices of a selection, in one of three orders. */
import { type DeviceOrder, NEVER_SEEN_AT } from '../../domain/selection/order.ts'
import type { Selection } from '../../domain/selection/terms.ts'
import type { ListPage } from '../list-page.ts'
import type { Query } from '../postgres/pool.ts'
import { beforeKey, COLUMNS, JOINED, LIVE_BEFORE } from './lists.ts'
import { conditionOf, type SelectionContext } from './selection.ts'

export interface SelectedDevices {
  readonly selection: Selection
  readonly order: DeviceOrder
}

const SEEN_AT = /* sql */ `coalesce(s.last_seen_at, timestamptz '${NEVER_SEEN_AT}')`

/** After the page's key, $2 and $3. The key's id is the alias where the alias orders. */
const AFTER: Readonly<Record<DeviceOrder, string>> = {
  created: LIVE_BEFORE,
  alias: /* sql */ `($2::timestamptz is null or d.alias > $3::text) order by d.alias`,
  seen: /* sql */ `${beforeKey(SEEN_AT)} order by ${SEEN_AT} desc, d.device_id desc`,
}

const ORDER: Readonly<Record<DeviceOrder, string>> = {
  created: 'd.created_at desc, d.device_id desc',
  alias: 'd.alias',
  seen: `${SEEN_AT} desc, d.device_id desc`,
}

/** The columns of the page's rows alone: made before a sort, those of 100,000 devices took 200 ms. */
export function selectedQuery(
  { limit, after }: ListPage,
  { selection, order }: SelectedDevices,
  context: SelectionContext,
): Query {
  const page = [limit, after?.at ?? null, after?.id ?? null]
  const { text, values } = conditionOf(selection, context, page.length + 1)
  return {
    name: 'devices.select',
    isVarying: true,
    text: /* sql */ `
      with page as materialized (
        select d.device_id from ${JOINED} where ${text} and ${AFTER[order]} limit $1)
      select ${COLUMNS} from ${JOINED}
      where d.device_id = any (array(select device_id from page)) order by ${ORDER[order]}`,
    values: [...page, ...values],
  }
}
