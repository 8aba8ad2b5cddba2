/** One read of the feed, up to where it is settled. */
import type { Settled } from '../../db/events/settled-events.ts'
import { AppError } from '../../domain/errors.ts'
import type { EventPosition, EventType, FleetEvent } from '../../domain/fleet-event.ts'
import type { Events } from './feature.ts'
import { cursorOf } from './query.ts'

export interface EventsRead {
  readonly events: readonly FleetEvent[]
  /** null: nothing is settled yet. */
  readonly position: EventPosition | null
  readonly hasMore: boolean
  /** The feed was read up to this event. */
  readonly through: number
}

export interface ReadFrom {
  readonly after: EventPosition | 'now' | null
  readonly types: readonly EventType[] | null
  readonly limit: number
}

/** Throws 410 `cursor_gone`. */
export async function readEvents(
  { feed }: Events,
  { after, types, limit }: ReadFrom,
  settled: Settled,
): Promise<EventsRead> {
  const { through } = settled
  if (after === 'now') {
    return { events: [], position: await feed.newest(settled), hasMore: false, through }
  }
  const rows = await feed.read({ after, settled, types, limit })
  if (rows !== 'gone') return { ...rows, through }
  const advice = 'Read the fleet anew, then events from after=now on.'
  throw new AppError('cursor_gone', `The event of this cursor is not kept any more. ${advice}`)
}

/** `id` is the cursor behind this event. */
export function eventJson(event: FleetEvent) {
  return {
    id: cursorOf(event),
    at: event.at,
    type: event.type,
    subject: event.subject,
    device_id: event.deviceId,
    alias: event.alias,
    detail: event.detail,
  }
}
