/** Lists of devices: with every filter, of selections in every order, and the fleet summary. */
import { deviceStore } from '../../../src/db/devices/devices.ts'
import type { DeviceFilter, DeviceRow } from '../../../src/db/devices/lists.ts'
import type { Database } from '../../../src/db/postgres/pool.ts'
import {
  DEVICE_ORDERS,
  type DeviceOrder,
  NEVER_SEEN_AT,
} from '../../../src/domain/selection/order.ts'
import { parseSelection } from '../../../src/domain/selection/parse.ts'
import { type Installation, SILENT_ONE_IN } from '../installation.ts'
import { type Bounds, PAGE, pages, WORKERS } from './pages.ts'
import type { Statement } from './statement.ts'

/** While few devices are silent for long, they are read as a whole. */
const MOST_SILENT = 3_000

export function deviceLists(installation: Installation): readonly Statement[] {
  const { devices } = installation
  const none = { alias: null, offlineForS: null }
  const silent = Math.ceil(devices / SILENT_ONE_IN) * 12
  const cases: readonly [what: string, filter: DeviceFilter, mostPages: number][] = [
    ['newest', none, (1 + WORKERS) * PAGE * 6],
    ['of an alias', { ...none, alias: `S${devices}` }, 20],
    ['of an unknown alias', { ...none, alias: 'none' }, 20],
    ['offline, all of them', { ...none, offlineForS: 0 }, MOST_SILENT * 1.2 + PAGE * 24],
    ['offline, few of many that may be', { ...none, offlineForS: 1_500 }, 10_000 + devices / 10],
    ['offline, few of them', { ...none, offlineForS: 43_200 }, 200 + silent],
    ['offline, none of them', { ...none, offlineForS: 604_800 }, 20],
    ['of an alias, offline', { offlineForS: 60, alias: 'S1' }, 20],
  ]
  const lists = cases.flatMap(([what, filter, mostPages]) =>
    pages<DeviceRow>(
      `devices: ${what}`,
      (database, page) => deviceStore(database).list(page, filter),
      ({ createdAt, deviceId: id }) => ({ at: createdAt, id }),
      { mostRows: 0, mostPages, ...(filter === none && { index: 'devices_newest' }) },
    ),
  )
  return [...lists, ...selectionLists(installation)]
}

/** A selection may read each live device once, its status and its place among the open commands. */
function selectionLists({
  devices,
  open,
  due,
  ended,
  crowded,
}: Installation): readonly Statement[] {
  const bounds: Bounds = {
    modes: ['custom'],
    mostRows: 2 * (open + due + crowded) + devices,
    mostPages: 12 * devices,
  }
  const context = { offlineAfterS: 1_500, isPushOn: true }
  const list = (where: string, order: DeviceOrder, own: Bounds = bounds) =>
    pages<DeviceRow>(
      `devices: where ${where}, by ${order}`,
      (database, page) =>
        deviceStore(database).select(page, { selection: parseSelection(where), order }, context),
      ({ createdAt, lastSeenAt, alias, deviceId: id }) => ({
        at: order === 'seen' ? (lastSeenAt ?? NEVER_SEEN_AT) : createdAt,
        id: order === 'alias' ? alias : id,
      }),
      own,
    )
  return [
    ...DEVICE_ORDERS.flatMap((order) => [
      ...list('label:none=x', order),
      ...list('battery<0', order),
      ...list('online:true -open:true', order),
      ...list('open:true', order),
    ]),
    ...list('', 'alias', {
      ...bounds,
      mostRows: 0,
      mostPages: PAGE * 12,
      index: 'devices_live_alias',
    }),
    ...list('alias:S7', 'created', { ...bounds, mostRows: 0, mostPages: 60 }),
    ...['', 'label:none=x', 'open:true'].map((where) => ({
      title: `fleet summary: where ${where}`,
      run: (database: Database) => deviceStore(database).summarize(parseSelection(where), context),
      ...bounds,
      modes: ['custom'] as const,
      // Where one command in twenty is open, reading all of them in turn is cheaper than each by the index.
      ...(due > 0 && { wholeTables: ['commands'] }),
      mostRows: 3 * (open + due + crowded) + 2 * devices + (due > 0 ? ended : 0),
      mostPages: 24 * devices,
    })),
  ]
}
