/** GET /admin/events: what changed, in order and without a gap, as pages with a long poll or as server-sent events. */
import { AppError } from '../../domain/errors.ts'
import { type Endpoint, json, type Reply, type Request } from '../../http/route.ts'
import type { Events } from './feature.ts'
import { asksForStream, cursorOf, type EventsQuery, readQuery, readStreamQuery } from './query.ts'
import { type EventsRead, eventJson, readEvents } from './read.ts'
import { STREAM_LIMIT, streamOf } from './stream.ts'

export function readEventsEndpoint(deps: Events): Endpoint<'admin'> {
  return {
    handle: (request) =>
      asksForStream(request.headers) ? openStream(deps, request) : readPage(deps, request),
  }
}

async function readPage(deps: Events, request: Request<'admin'>): Promise<Reply> {
  const { events, position, hasMore } = await readUntilSome(deps, request, readQuery(request.query))
  return json(200, {
    events: events.map(eventJson),
    cursor: position && cursorOf(position),
    has_more: hasMore,
    behind_s: Math.round(deps.behindS()),
  })
}

/** Reads again while nothing is there and `waitMs` have not passed. */
async function readUntilSome(
  deps: Events,
  { signal, admin }: Request<'admin'>,
  asked: EventsQuery,
): Promise<EventsRead> {
  const endsAtMs = deps.nowMs() + asked.waitMs
  let read = await readEvents(deps, asked, await deps.current())
  let release: (() => void) | undefined
  try {
    while (read.events.length === 0 && !read.hasMore) {
      const leftMs = endsAtMs - deps.nowMs()
      if (leftMs <= 0 || signal.aborted) break
      release ??= acquire(deps, admin)
      if (!(await deps.waitForMore(read.through, leftMs, signal))) break
      const after = read.position ?? asked.after
      read = await readEvents(deps, { ...asked, after }, deps.settled())
    }
    return read
  } finally {
    release?.()
  }
}

async function openStream(deps: Events, request: Request<'admin'>): Promise<Reply> {
  const { signal } = request
  const { after, types } = readStreamQuery(request.query, request.headers)
  const release = acquire(deps, request.admin)
  // Aborted when the exchange ends, however it does.
  signal.addEventListener('abort', release)
  if (signal.aborted) release()
  const from = { after, types, limit: STREAM_LIMIT }
  const first = await readEvents(deps, from, await deps.current()).catch((error: unknown) => {
    release()
    throw error
  })
  return {
    kind: 'live',
    status: 200,
    contentType: 'text/event-stream',
    headers: { 'x-accel-buffering': 'no' }, // nginx passes each chunk on
    chunks: streamOf(deps, from, first, signal),
    dropped: deps.streamDropped,
  }
}

function acquire(deps: Events, admin: string): () => void {
  const release = deps.tryAcquireReader(admin)
  if (release !== undefined) return release
  throw new AppError(
    'overloaded',
    'Too many readers wait for events. Ask without wait_ms, or later.',
  )
}
