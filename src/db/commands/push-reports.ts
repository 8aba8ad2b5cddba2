/**
 * The delay of pushes, from FCM's acceptance to the phone. Both times are the database's: the phone's is corrected by the
 * offset of its clock, which its heartbeats show (db/heartbeats/heartbeats.ts).
 */
import { isLowered, type PushReport } from '../../domain/delivery/push-report.ts'
import type { Queryable } from '../postgres/pool.ts'

export interface PushReportStore {
  /**
   * Notes whether FCM lowered the device's priority. Returns the delay in milliseconds, 0 or more; null if it is not known
   * within 5 s: the offset of the clock is not, or no attempt was accepted before the message came.
   */
  note(command: Reported, report: PushReport): Promise<number | null>
}

interface Reported {
  readonly requestId: string
  readonly deviceId: string
}

/** How exactly an offset is known, seconds; the sender's record may follow the response as late. */
const TOLERANCE = /* sql */ `interval '5 s'`

/** Of several attempts the phone got the latest that was accepted by then. */
const NOTE = /* sql */ `
  with lowered as (
    update device_status set push_lowered_at = case when $4 then now() end
    where device_id = $2 and $5 and ($4 or push_lowered_at is not null))
  select date_part('epoch', received.at - accepted.at) * 1000 as "delayMs"
  from device_status s
  cross join lateral (select $3::timestamptz + make_interval(secs => s.clock_offset_s) as at) received
  cross join lateral (
    select max(e.at) as at from command_events e
    where e.request_id = $1 and e.stage = 'push_sent' and e.at <= received.at + ${TOLERANCE}) accepted
  where s.device_id = $2 and received.at <= now() + ${TOLERANCE}`

export function pushReportStore(database: Queryable): PushReportStore {
  return {
    async note({ requestId, deviceId }, report) {
      const isPriorityKnown = report.priority !== null && report.originalPriority !== null
      const { rows } = await database.query<{ delayMs: number | null }>({
        name: 'push_reports.note',
        text: NOTE,
        values: [requestId, deviceId, report.receivedAt, isLowered(report), isPriorityKnown],
      })
      const delayMs = rows[0]?.delayMs ?? null
      return delayMs === null ? null : Math.max(0, delayMs)
    },
  }
}
