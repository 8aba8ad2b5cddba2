/** Takes from the events of a deleted device all but its device_id; the rows stay, since cursors name them. */
import type { Queryable } from '../postgres/pool.ts'

/** Events that one statement looks at: no index has the device, since every event would pay for it. */
const WINDOW = 10_000

const RANGE = /* sql */ `
  select coalesce(min(event_id), 0)::float8 as "first", coalesce(max(event_id), 0)::float8 as "last" from fleet_events`

/** The id of a command is its caller's choice, and may hold the alias. */
const ERASE = /* sql */ `
  update fleet_events set subject = $1, detail = null
  where event_id >= $2::bigint and event_id < $3::bigint and device_id = $1::uuid`

export async function eraseEvents(database: Queryable, deviceId: string): Promise<void> {
  const range = { name: 'erase.events_range', text: RANGE }
  const [all] = (await database.query<{ first: number; last: number }>(range)).rows
  if (all === undefined) return
  for (let from = all.first; from <= all.last; from += WINDOW) {
    const values = [deviceId, from, from + WINDOW]
    await database.query({ name: 'erase.events', text: ERASE, values })
  }
}
