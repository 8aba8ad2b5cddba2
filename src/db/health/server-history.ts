/**
 * Remembers the database server: its cluster, the highest timeline (each promotion starts the next one) and the
 * position in its log. A server that is behind may lack acknowledged data, so it gets no writes.
 *
 * A position counts after a later commit was acknowledged (`confirm`), also by the standby if the cluster waits for
 * one: a failover may lose data that was not acknowledged. A loss of data acknowledged after that position stays
 * unnoticed.
 */
import type pg from 'pg'
import type { Line } from '../../telemetry/log/log.ts'
import { type Position, RewoundError, type ServerClient } from '../postgres/server-client.ts'
import { sqlstate } from '../postgres/sqlstate.ts'

export type RewoundReason = 'cluster' | 'timeline' | 'lsn'

/** Stored for the next process. */
export interface Seen extends Position {
  /** A server of this timeline lacked part of the log: it and its descendants get no writes. */
  readonly hasLost?: true
}

export interface Rewound {
  readonly reason: RewoundReason
  readonly seen: Position
  readonly found: Position
}

export interface ServerHistoryDeps {
  /** From an earlier process; undefined: unknown. */
  readonly before: Seen | undefined
  /** ALLOW_UNSAFE_DATABASE: losses are reported and accepted, except an old timeline. */
  readonly isUnsafeAllowed: boolean
  readonly onRewound: (rewound: Rewound) => void
  /** Monotonic. */
  readonly nowMs: () => number
}

/** Interval between reports of the same server. */
const REPORT_AGAIN_MS = 600_000
/** Without the positions, which are in db.rewound: a start prints each cause once. */
const REASONS: Readonly<Record<RewoundReason, string>> = {
  cluster: 'it is another cluster than before',
  timeline: 'its timeline is older than one seen before',
  lsn: 'it has lost a part of its log that was seen before',
}

/** Any role may run this, unless a provider revoked one of the functions. */
const POSITION = /* sql */ `
  select system_identifier::text as "systemId", pg_current_wal_flush_lsn()::text as "lsn",
    pg_walfile_name(pg_current_wal_flush_lsn()) as "walFile"
  from pg_control_system()`
/** No such function, or not for this role or server. */
const REVOKED = /^(42|0A|55)/
/** A log file's name starts with the timeline in hexadecimal. */
const TIMELINE_DIGITS = 8

/** Within `timeoutMs`. undefined if the server does not reveal it. */
async function readPosition(
  client: ServerClient,
  timeoutMs: number,
): Promise<Position | undefined> {
  const query: pg.QueryConfig & pg.ClientConfig = { text: POSITION, query_timeout: timeoutMs }
  try {
    const { rows } = await client.query<{ systemId: string; lsn: string; walFile: string }>(query)
    const [row] = rows
    if (row === undefined) return undefined
    const { systemId, lsn, walFile } = row
    return { systemId, lsn, timeline: Number.parseInt(walFile.slice(0, TIMELINE_DIGITS), 16) }
  } catch (error) {
    if (REVOKED.test(sqlstate(error) ?? '')) return undefined
    throw error
  }
}

/** No position counts yet. */
const NOTHING = '0/0'

export class ServerHistory {
  readonly #deps: ServerHistoryDeps
  #seen: Seen | undefined
  /** #seen is from an earlier process; the service may have moved to another cluster since. */
  #isFromBefore: boolean
  readonly #reported = new Map<RewoundReason, { readonly what: string; readonly atMs: number }>()

  constructor(deps: ServerHistoryDeps) {
    this.#deps = deps
    this.#seen = deps.before
    this.#isFromBefore = deps.before !== undefined
  }

  /** The last confirmed position, on the highest timeline seen. */
  get seen(): Seen | undefined {
    return this.#seen
  }

  /**
   * Reads the server's position over a new connection within `timeoutMs`, and marks the connection if the server is
   * behind. Throws RewoundError for another cluster, which may not even have our tables.
   */
  readonly verify = async (client: ServerClient, timeoutMs: number): Promise<void> => {
    const before = this.#seen
    client.position = await readPosition(client, timeoutMs)
    if (client.position !== undefined) this.#judge(client, client.position, before)
  }

  /** `before`: the history when `found` was requested; it may have advanced since. */
  #judge(client: ServerClient, found: Position, before: Position | undefined): void {
    const now = this.#seen
    if (now === undefined || (found.systemId !== now.systemId && this.#isFromBefore)) {
      this.#see({ ...found, lsn: NOTHING })
      return
    }
    const lsn = before?.systemId === now.systemId ? before.lsn : NOTHING
    const timeline = Math.max(now.timeline, found.timeline)
    const reason = rewoundReason({ ...now, lsn }, found)
    if (reason === undefined) {
      this.#see({ ...now, timeline })
      return
    }
    if (this.#deps.isUnsafeAllowed && reason !== 'timeline') {
      this.#see({ ...found, lsn: NOTHING })
      this.#report({ reason, seen: now, found })
      return
    }
    // The previous primary must not return. Since the log grows, a later comparison would not show the loss.
    if (reason === 'lsn') this.#see({ ...now, timeline, hasLost: true })
    this.#report({ reason, seen: now, found })
    if (reason === 'cluster') throw new RewoundError(REASONS[reason])
    client.rewound = REASONS[reason]
  }

  /** A commit that started after `position` was read was acknowledged on the same connection. */
  confirm(position: Position): void {
    const isBehind = this.#seen !== undefined && rewoundReason(this.#seen, position) !== undefined
    if (!isBehind) this.#see(position)
  }

  #see(position: Seen): void {
    this.#seen = position
    this.#isFromBefore = false
  }

  #report(rewound: Rewound): void {
    const { reason, found } = rewound
    const what = `${found.systemId} ${found.timeline}`
    const nowMs = this.#deps.nowMs()
    const last = this.#reported.get(reason)
    if (last?.what === what && nowMs - last.atMs < REPORT_AGAIN_MS) return
    this.#reported.set(reason, { what, atMs: nowMs })
    this.#deps.onRewound(rewound)
  }
}

function rewoundReason(seen: Seen, found: Position): RewoundReason | undefined {
  if (found.systemId !== seen.systemId) return 'cluster'
  if (found.timeline < seen.timeline) return 'timeline'
  return seen.hasLost || bytesOf(found.lsn) < bytesOf(seen.lsn) ? 'lsn' : undefined
}

export function rewoundLine({ reason, seen, found }: Rewound): Line {
  return { event: 'db.rewound', fields: { reason, seen: shown(seen), found: shown(found) } }
}

/** For a log line: `system 7713260900917559113, timeline 2, 16/B374D848`. */
function shown({ systemId, timeline, lsn }: Position): string {
  return `system ${systemId}, timeline ${timeline}, ${lsn}`
}

/** Parses two hexadecimal halves. */
function bytesOf(lsn: string): bigint {
  const [high = '0', low = '0'] = lsn.split('/')
  return (BigInt(`0x${high}`) << 32n) + BigInt(`0x${low}`)
}
