/** The feed as server-sent events (WHATWG HTML, section 9.2). */
import { AppError } from '../../domain/errors.ts'
import type { FleetEvent } from '../../domain/fleet-event.ts'
import { escapeUnsafe } from '../../lib/text.ts'
import type { Events } from './feature.ts'
import { cursorOf } from './query.ts'
import { type EventsRead, eventJson, type ReadFrom, readEvents } from './read.ts'

/** Events in one chunk, all that is held for a slow client: about 40 KiB. */
export const STREAM_LIMIT = 100
/** Then the stream ends between two events, and the client resumes it. */
const LIFETIME_MS = 15 * 60_000
/** For the client: the wait before it resumes. */
const RETRY_MS = 1_000

/** Ends when `signal` aborts, after LIFETIME_MS, and when the feed cannot be read: the request that resumes it gets the error. */
export async function* streamOf(
  deps: Events,
  from: ReadFrom,
  first: EventsRead,
  signal: AbortSignal,
): AsyncGenerator<string> {
  const endsAtMs = deps.nowMs() + LIFETIME_MS
  let read = first
  // An id must not come before the events up to it: the client may lose the rest of this chunk.
  yield `retry: ${RETRY_MS}\n\n${textOf(read.events) || comment(deps, read)}`
  try {
    while (!signal.aborted) {
      const leftMs = endsAtMs - deps.nowMs()
      if (leftMs <= 0) return
      if (!read.hasMore) {
        const waitMs = Math.min(leftMs, deps.keepAliveMs)
        if (!(await deps.waitForMore(read.through, waitMs, signal))) {
          yield comment(deps, read)
          // After a failover the numbers may go on from a lower one.
          read = { ...read, through: Math.min(read.through, deps.settled().through) }
          continue
        }
      }
      read = await readEvents(deps, { ...from, after: read.position ?? from.after }, deps.settled())
      if (read.events.length > 0) yield textOf(read.events)
    }
  } catch (error) {
    if (!(error instanceof AppError)) throw error
  }
}

/** No event, but the client keeps the id: it does not grow old while no event matches `types`. */
function comment(deps: Events, { position }: EventsRead): string {
  const id = position === null ? '' : `id: ${cursorOf(position)}\n`
  return `: behind_s=${Math.round(deps.behindS())}\n${id}\n`
}

/** Without `event`: a browser's `onmessage` gets all of them, and `data` has the type. */
function textOf(events: readonly FleetEvent[]): string {
  return events
    .map((event) => {
      const body = eventJson(event)
      return `id: ${body.id}\ndata: ${escapeUnsafe(JSON.stringify(body))}\n\n`
    })
    .join('')
}
