/**
 * Checks the database server every few seconds over a new connection, for facts that open connections miss: whether
 * they still lead to the primary, and whether a standby has the acknowledged data.
 *
 * A log position enters the history after a later commit was acknowledged: an empty log message waits for the disk
 * and the standby like any write.
 */
import type pg from 'pg'
import type { Line } from '../../telemetry/log/log.ts'
import { WRITE_NOTHING } from '../postgres/confirm-replicated.ts'
import type { Dialer } from '../postgres/dialer.ts'
import type { ServerClient } from '../postgres/server-client.ts'
import { SessionError } from '../postgres/session-check.ts'
import { isGivenUp, sqlstate } from '../postgres/sqlstate.ts'
import type { ServerHistory } from './server-history.ts'

export interface ServerWatchDeps {
  readonly dialer: Dialer
  /** Makes a connection like the main pool's. */
  readonly attempt: (signal: AbortSignal) => Promise<ServerClient>
  readonly history: ServerHistory
  /** Closes immediately the connections for which `isOld` holds. */
  readonly drop: (isOld: (client: ServerClient) => boolean) => void
  /** Stores the history for the next process. */
  readonly keep: () => Promise<void>
  readonly log: (line: Line) => void
  /** Prints a notice on stderr. */
  readonly printNotice: (text: string) => void
  /** Monotonic. */
  readonly nowMs: () => number
}

export interface ServerWatch {
  /** Checks once if a check is due. Rejects without a server, which the pools notice too. */
  check(): Promise<void>
  /** Abandons a running check, which may wait long for the server. */
  stop(): void
  /** Attached synchronous standbys; NaN if unknown for FRESH_MS. */
  readonly syncStandbys: number
}

/** Of each statement of a check. */
const STATEMENT_TIMEOUT_MS = 1_000
/** How long a result is valid. */
const FRESH_MS = 30_000
/** Largest share of time spent connecting: for a server with a twentieth of a core a login every 3 s is a load. */
const CONNECT_SHARE = 0.05
/** Longest pause because of CONNECT_SHARE. */
const MAX_PAUSE_MS = 20_000
/** No such function, or not for this role. */
const REVOKED = /^(42|0A)/

const STANDBYS = /* sql */ `
  select current_setting('synchronous_standby_names') as "names", count(*)::int as "senders",
    (count(*) filter (where sync_state in ('sync', 'quorum')))::int as "attached",
    pg_has_role('pg_read_all_stats', 'usage') as "mayRead", quote_ident(current_user) as "role"
  from pg_stat_replication`

interface Standbys {
  readonly names: string
  readonly senders: number
  /** Senders whose state the role may read. */
  readonly attached: number
  /** The role may read the state of all senders; otherwise it only sees their number. */
  readonly mayRead: boolean
  readonly role: string
}

export function createServerWatch(deps: ServerWatchDeps): ServerWatch {
  const { dialer, history, log, printNotice, nowMs } = deps
  let attached = Number.NaN
  let attachedAtMs = Number.NEGATIVE_INFINITY
  /** The last non-empty setting: a cluster manager that gives up on standbys empties it. */
  let names = ''
  let missingSinceMs: number | undefined
  let isNoted = false
  let nextAtMs = Number.NEGATIVE_INFINITY
  let stop = () => {}

  function count(found: Standbys): void {
    const isKnown = found.mayRead || found.senders === 0
    attached = isKnown ? found.attached : Number.NaN
    attachedAtMs = nowMs()
    if (found.names !== '') names = found.names
    if (!isKnown) {
      if (!isNoted && names !== '') {
        printNotice(
          `note: only members of pg_read_all_stats see whether a synchronous standby is attached: grant pg_read_all_stats to ${found.role}`,
        )
        isNoted = true
      }
    } else if (attached > 0 && missingSinceMs !== undefined) {
      const fields = { missing_ms: nowMs() - missingSinceMs }
      missingSinceMs = undefined
      log({ event: 'db.sync_standby_attached', fields })
    } else if (attached === 0 && names !== '' && missingSinceMs === undefined) {
      missingSinceMs = nowMs()
      const fields = { synchronous_standby_names: found.names }
      log({ event: 'db.sync_standby_missing', fields })
    }
  }

  async function checkOn(client: ServerClient): Promise<void> {
    const { position } = client
    if (position !== undefined) deps.drop((older) => isOutdated(older, client))
    count(await standbysOf(client))
    if (position === undefined || client.rewound !== undefined) return
    if (await isAcknowledged(client)) history.confirm(position)
    await deps.keep()
  }

  async function check(): Promise<void> {
    const startedAtMs = nowMs()
    if (startedAtMs < nextAtMs) return
    try {
      const client = await dialer.dial({
        attempt: deps.attempt,
        isWanted: () => true,
        onSilent: () => {},
        silentAfterMs: STATEMENT_TIMEOUT_MS,
      })
      if (client === undefined) return
      const tookMs = nowMs() - startedAtMs
      nextAtMs = nowMs() + Math.min(MAX_PAUSE_MS, tookMs / CONNECT_SHARE)
      try {
        await checkOn(client)
      } catch (error) {
        client.isAbandoned = isGivenUp(error)
        throw error
      } finally {
        await dialer.hangUp(client)
      }
    } catch (error) {
      // After a reload the setting applies to open connections too.
      if (error instanceof SessionError) deps.drop(() => true)
      throw error
    }
  }

  return {
    check: () =>
      new Promise((resolve, reject) => {
        stop = resolve
        check().then(resolve, reject)
      }),
    stop: () => stop(),
    get syncStandbys() {
      return nowMs() - attachedAtMs <= FRESH_MS ? attached : Number.NaN
    },
  }
}

/** The connection leads to a former primary, or to a server that lost data while `fresh` leads to a better one. */
function isOutdated({ position, rewound }: ServerClient, fresh: ServerClient): boolean {
  if (position === undefined || fresh.position === undefined) return false
  const { systemId, timeline } = fresh.position
  const isOther = position.systemId !== systemId
  if (!isOther && position.timeline < timeline) return true
  return fresh.rewound === undefined && (isOther || rewound !== undefined)
}

async function standbysOf(client: pg.ClientBase): Promise<Standbys> {
  const { rows } = await client.query<Standbys>(timed(STANDBYS))
  const [standbys] = rows
  if (standbys === undefined) throw new Error('the server says nothing of its standbys')
  return standbys
}

/** False if the role may not call the function; then no position is ever confirmed. */
async function isAcknowledged(client: ServerClient): Promise<boolean> {
  try {
    await client.query(timed(WRITE_NOTHING.text))
    return !client.isUnreplicated
  } catch (error) {
    if (REVOKED.test(sqlstate(error) ?? '')) return false
    throw error
  }
}

function timed(text: string): pg.QueryConfig & pg.ClientConfig {
  return { text, query_timeout: STATEMENT_TIMEOUT_MS }
}
