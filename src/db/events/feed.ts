/**
 * Reads `fleet_events`, which the triggers of sql/0027 write in the transaction of each change. An event about a device that
 * was deleted since is left out, but for its deletion; one about a command of it loses the device.
 */
import { AppError } from '../../domain/errors.ts'
import type { EventPosition, EventType, FleetEvent } from '../../domain/fleet-event.ts'
import { timeText } from '../list-page.ts'
import type { Queryable } from '../postgres/pool.ts'
import type { Settled } from './settled-events.ts'

export interface EventQuery {
  /** null: from the oldest event that is kept. */
  readonly after: EventPosition | null
  readonly settled: Settled
  /** null: all. */
  readonly types: readonly EventType[] | null
  readonly limit: number
}

export interface EventRows {
  readonly events: readonly FleetEvent[]
  /** Everything up to here was looked at; null: nothing is settled yet. */
  readonly position: EventPosition | null
  /** More is settled behind `position`. */
  readonly hasMore: boolean
}

export interface EventFeed {
  /** `gone`: the event of `after` is not there any more, or never was. */
  read(query: EventQuery): Promise<EventRows | 'gone'>
  /** Of the newest settled event. */
  newest(settled: Settled): Promise<EventPosition | null>
}

/** Numbers of events that one statement looks at, whatever the types: a filter that matches few must not read the whole feed. */
const WINDOW = 5_000

const EVENT = (row: string) => /* sql */ `
  json_build_object('id', ${row}.event_id, 'at', ${timeText(`${row}.at`)}`

/** The next event, whose number may be far away: numbers of failed transactions are missing. */
const NEXT = /* sql */ `(select event_id from fleet_events where event_id > $1::bigint order by event_id limit 1)`

/** A range of numbers: by a limit of rows the generic plan could read and sort all that follow. */
const WINDOWED = (row: string) => /* sql */ `
  ${row}.event_id >= ${NEXT} and ${row}.event_id < ${NEXT} + ${WINDOW} and ${row}.event_id <= $2::bigint`

/**
 * $1: after this event, $2: up to this one, $3: limit, $4: types. The index gives the order, so that aliases are looked up for
 * a page only; before 17 PostgreSQL sorts the rows of a CTE once more. A subselect that is not needed is not evaluated.
 */
const READ = /* sql */ `
  with shown as materialized (
    select p.event_id, p.at, p.type, p.subject, p.device_id, p.detail, d.alias from fleet_events p
    cross join lateral (select (
      select alias from devices
      where device_id = p.device_id and (deleted_at is null or p.type = 'device.deleted')) as alias) d
    where ${WINDOWED('p')} and ($4::text[] is null or p.type = any ($4))
      and (p.device_id is null or d.alias is not null or p.type not like 'device.%' or p.type = 'device.deleted')
    order by p.event_id limit $3)
  select pg_postmaster_start_time()::text as "server",
    (select ${timeText('at')} from fleet_events where event_id = $1) as "afterAt",
    (select coalesce(json_agg(${EVENT('s')}, 'type', s.type, 'subject', s.subject, 'alias', s.alias, 'detail', s.detail,
      'deviceId', case when s.alias is not null or s.type = 'device.deleted' then s.device_id end) order by s.event_id), '[]')
      from shown s) as "events",
    case when (select count(*) from shown) < $3 then (
      select ${EVENT('p')}) from fleet_events p where ${WINDOWED('p')} order by p.event_id desc limit 1) end as "last",
    case when (select count(*) from shown) < $3 then coalesce(${NEXT} + ${WINDOW} <= $2::bigint, false) end as "hasMore"`

const NEWEST = /* sql */ `
  select event_id::float8 as "id", ${timeText('at')} as "at", pg_postmaster_start_time()::text as "server" from fleet_events e
  where event_id <= $1::bigint order by event_id desc limit 1`

interface Read {
  readonly server: string
  readonly afterAt: string | null
  readonly events: readonly FleetEvent[]
  /** null: the page is full, or nothing follows. */
  readonly last: EventPosition | null
  /** Behind the window; null: the page is full. */
  readonly hasMore: boolean | null
}

export function eventFeed(database: Queryable): EventFeed {
  return {
    async read({ after, settled, types, limit }) {
      const { rows } = await database.query<Read>({
        name: 'events.read',
        text: READ,
        values: [after?.id ?? 0, settled.through, limit, types],
      })
      const [read] = rows
      if (read === undefined) throw new Error('reading events gave no row')
      refuseOther(settled, read.server)
      if (after !== null && read.afterAt !== after.at) return 'gone'
      const { events, last } = read
      const lastShown = events.at(-1)
      const passed = last ?? lastShown ?? after
      const position = passed && { id: passed.id, at: passed.at }
      const hasMore = read.hasMore ?? (lastShown !== undefined && lastShown.id < settled.through)
      return { events, position, hasMore }
    },

    async newest(settled) {
      const { rows } = await database.query<EventPosition & { server: string }>({
        name: 'events.newest',
        text: NEWEST,
        values: [settled.through],
      })
      const [newest] = rows
      if (newest === undefined) return null
      refuseOther(settled, newest.server)
      return { id: newest.id, at: newest.at }
    },
  }
}

/** What is settled on one server need not be on the next. */
function refuseOther(settled: Settled, server: string): void {
  if (settled.server === '' || server === settled.server) return
  throw new AppError('db_unavailable', 'The database server has changed. Try again.')
}
