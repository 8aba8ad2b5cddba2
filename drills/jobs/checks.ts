/** What the database holds of jobs after a run. */
import type pg from 'pg'
import type { Figure } from '../drill.ts'
import type { JobView } from './admin.ts'

const WINDOW_S = 60

/** At what times members were released, seconds since the first, ascending. */
async function releaseTimes(db: pg.Client, jobId: string): Promise<readonly number[]> {
  const text = /* sql */ `
    select date_part('epoch', at - min(at) over ()) as at
    from command_events where stage = 'accepted' and detail->>'job_id' = $1 order by at`
  const { rows } = await db.query<{ at: number }>(text, [jobId])
  return rows.map(({ at }) => at)
}

/** Most of the times that any window of this length holds. */
function mostWithin(times: readonly number[], seconds: number): number {
  let first = 0
  return times.reduce((most, at, last) => {
    while (at - (times[first] ?? at) >= seconds) first += 1
    return Math.max(most, last - first + 1)
  }, 0)
}

/** The bucket holds a second, so no second has more than two seconds' members. */
export async function paceFigure(db: pg.Client, jobId: string, perMinute: number): Promise<Figure> {
  const times = await releaseTimes(db, jobId)
  const inMinute = mostWithin(times, WINDOW_S)
  const inSecond = mostWithin(times, 1)
  const mostInSecond = Math.ceil((2 * perMinute) / WINDOW_S) + 1
  return {
    promise: `never more than ${perMinute} are released within a minute, nor ${mostInSecond} within a second, whatever was killed or paused`,
    measured: `${times.length} released in ${times.at(-1)?.toFixed(1)} s; at most ${inMinute} within a minute, ${inSecond} within a second`,
    isHeld: times.length > 0 && inMinute <= perMinute && inSecond <= mostInSecond,
  }
}

/** The counts of the ended job against its commands, each in one way. */
export async function countsFigure(
  db: pg.Client,
  jobId: string,
  { counts, devices, state }: JobView,
): Promise<Figure> {
  const text = /* sql */ `
    select case when c.state = 'completed' and c.outcome <> 'success' then 'failed' else c.state end as status,
      count(*)::int as count
    from commands c join jobs j using (job_no) where j.job_id = $1 group by 1`
  const { rows } = await db.query<{ status: string; count: number }>(text, [jobId])
  const stored = Object.fromEntries(rows.map(({ status, count }) => [status, count]))
  const differ = Object.keys(counts).filter((status) => counts[status] !== (stored[status] ?? 0))
  const total = rows.reduce((sum, { count }) => sum + count, 0)
  return {
    promise: 'in the end the job is done, and its counts are those of its commands, one a member',
    measured: `${state}; ${JSON.stringify(stored)} of ${devices}; ${differ.length} counts differ`,
    isHeld: state === 'done' && differ.length === 0 && total === devices,
  }
}
