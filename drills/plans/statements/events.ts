/** The feed of events, and the sweep that notices silent devices. */
import { offlineSweep } from '../../../src/db/devices/offline.ts'
import { eventFeed } from '../../../src/db/events/feed.ts'
import { SettledEvents } from '../../../src/db/events/settled-events.ts'
import type { Database } from '../../../src/db/postgres/pool.ts'
import type { EventType } from '../../../src/domain/fleet-event.ts'
import type { Installation } from '../installation.ts'
import { BOTH, type Statement } from './statement.ts'

const PAGE = 100
/** As in src/db/events/feed.ts. */
const WINDOW = 5_000
/** The window, the ends of which are looked up. */
const MOST_ROWS = WINDOW + 6
const ALL = { through: Number.MAX_SAFE_INTEGER, server: '' }

/** Behind the event in the middle. */
async function read(database: Database, types: readonly EventType[] | null, behind = 0) {
  const settled = { ...ALL, through: behind || ALL.through }
  const after = behind === 0 ? null : await eventFeed(database).newest(settled)
  return eventFeed(database).read({ after, settled: ALL, types, limit: PAGE })
}

export function eventStatements({ feed, devices }: Installation): readonly Statement[] {
  return [
    {
      title: 'events from the oldest on',
      modes: BOTH,
      run: (database) => read(database, null),
      index: 'fleet_events_pkey',
      mostRows: MOST_ROWS,
      mostPages: 1_500,
    },
    {
      title: 'events behind one in the middle',
      modes: BOTH,
      run: (database) => read(database, null, Math.max(1, Math.floor(feed / 2))),
      index: 'fleet_events_pkey',
      mostRows: MOST_ROWS,
      mostPages: 1_500,
    },
    {
      title: 'events of a type that hardly any has',
      modes: BOTH,
      run: (database) => read(database, ['build.withdrawn']),
      index: 'fleet_events_pkey',
      mostRows: MOST_ROWS,
      mostPages: 500,
    },
    {
      title: 'up to where events are settled',
      modes: BOTH,
      run: (database) => new SettledEvents(database, () => 0).current(),
      mostRows: 0,
      mostPages: 100, // catalog pages
    },
    {
      title: 'sweep for silent devices',
      modes: BOTH,
      run: (database) => offlineSweep(database, 1_500)(),
      mostRows: 0, // of no table that is read by anything else
      mostPages: 500 + Math.ceil(devices / 10),
    },
  ]
}
