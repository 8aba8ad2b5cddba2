/**
 * Notices devices that went silent, and marks them; the trigger of sql/0027 notes each in the feed of events. A heartbeat
 * takes the mark away. No index has the time of the last contact, because each heartbeat changes it: the sweep reads
 * the table itself, a part at each call, and all of it within SWEEPS calls, unless very many are silent.
 */
import type { Database } from '../postgres/pool.ts'

/** Calls after which every device was looked at; one every 5 s (app/parts/maintenance.ts). */
const SWEEPS = 6
/** Pages that one statement reads: 4 MiB, about 15,000 devices. */
const SLICE_PAGES = 512
/** Devices that one statement marks. */
const BATCH = 500
/** A call ends after so many devices, which is 1,000 a second at each replica: a whole network may fail. */
const ENOUGH = 5_000

const PAGES = /* sql */ `
  select (pg_relation_size('device_status') / current_setting('block_size')::int)::int as "pages"`

/** $1 and $2: from this row to before that one; $3: seconds of silence. A device that was never heard of is not silent. */
const MARK = /* sql */ `
  with silent as materialized (
    select device_id from device_status
    where ctid >= $1::tid and ctid < $2::tid and offline_at is null and not is_deleted
      and last_seen_at < now() - make_interval(secs => $3)
    limit ${BATCH} for no key update skip locked)
  update device_status set offline_at = now() where device_id = any (array(select device_id from silent))`

/** Returns the sweep; each call returns how many it marked. Any number of replicas may call theirs. */
export function offlineSweep(database: Database, offlineAfterS: number): () => Promise<number> {
  let page = 0
  const mark = async (from: number, to: number): Promise<number> => {
    const values = [`(${from},0)`, `(${to},0)`, offlineAfterS]
    return (await database.query({ name: 'devices.mark_offline', text: MARK, values })).rowCount
  }
  return async () => {
    const query = { name: 'devices.status_pages', text: PAGES }
    const pages = (await database.query<{ pages: number }>(query)).rows[0]?.pages ?? 0
    const slices = Math.max(1, Math.ceil(pages / SWEEPS / SLICE_PAGES))
    if (page >= pages) page = 0
    let [marked, slice] = [0, 0]
    while (slice < slices && page < pages && marked < ENOUGH) {
      const found = await mark(page, page + SLICE_PAGES)
      marked += found
      if (found === BATCH) continue // it may have left some
      slice += 1
      page += SLICE_PAGES
    }
    return marked
  }
}
