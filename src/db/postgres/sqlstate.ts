/** Classifies errors of PostgreSQL and of the connection to it. Classes: PostgreSQL manual, appendix A. */

import { AppError } from '../../domain/errors.ts'
import { errorCode, errorText } from '../../lib/error-text.ts'

/** PostgreSQL's error code, which contains a digit (unlike EPIPE); undefined for network errors, timeouts and our own. */
export function sqlstate(error: unknown): string | undefined {
  const code = errorCode(error)
  return code !== undefined && /^(?=.*\d)[0-9A-Z]{5}$/.test(code) ? code : undefined
}

/** All our connections were in use, and none became free in time. */
export class OwnWaitError extends Error {
  override readonly name = 'OwnWaitError'

  constructor() {
    super('no connection came free in time')
  }
}

/** A commit cancelled while it waited for a standby: durable here, perhaps nowhere else, so not acknowledged. */
export class UnreplicatedError extends Error {
  override readonly name = 'UnreplicatedError'
  readonly code = '08007' // transaction_resolution_unknown

  constructor() {
    super('the wait for a standby was cancelled')
  }
}

/** pg's error for a statement over its query_timeout; it may still run on the server. */
export function isGivenUp(error: unknown): boolean {
  return error instanceof Error && error.message === 'Query read timeout'
}

/** There was no connection: none was free or made in time, or the server accepts no more. */
export function isNotConnected(error: unknown): boolean {
  return error instanceof OwnWaitError || /^(08001|53300)$/.test(sqlstate(error) ?? '')
}

/** A failed attempt that costs no server anything. */
export function isNotListening(error: unknown): boolean {
  return /^(ECONNREFUSED|ENOENT)$/.test(errorCode(error) ?? '')
}

/** Messages of pg 8.x without a code. */
const LOST_CONNECTION =
  /Query read timeout|Connection terminated|Client has encountered a connection error|Client was closed and is not queryable|connection is insecure/

/** The same, from a SCRAM exchange. */
const NO_PASSWORD = /client password must be/

/**
 * Normalizes a failed connection attempt. Whatever the cause (DNS, TLS, silence, no PostgreSQL, a login or a check that
 * took the server too long), an error that isAway does not know becomes sqlclient_unable_to_establish_sqlconnection.
 */
export function connectFailure(error: unknown): Error {
  if (error instanceof Error && isAway(error)) return error
  const text = errorText(error)
  const message = NO_PASSWORD.test(text) ? 'it wants a password, and its URL has none' : text
  return Object.assign(new Error(message, { cause: error }), { code: '08001' })
}

/** What happened to one statement or its transaction, while the database is there. */
export const OF_ONE_STATEMENT: ReadonlyMap<
  string,
  'too_slow' | 'locked' | 'conflict' | 'cut_short'
> = new Map([
  ['57014', 'too_slow'],
  ['55P03', 'locked'],
  ['40001', 'conflict'],
  ['40P01', 'conflict'],
  ['25P03', 'cut_short'],
  ['25P04', 'cut_short'],
])
/** Classes 28, 3D and 55000: no login (password, no such database, allow_connections=false). 25006: read-only. */
const AWAY = /^(08|28|3D|53|57P|58)|^(25006|55000)$/

/** The server, or a pooler, ends the session with it, whatever its code. Most languages have these words too. */
function endsSession(error: unknown): boolean {
  return (
    error instanceof Error && 'severity' in error && /^(FATAL|PANIC)$/.test(`${error.severity}`)
  )
}

/** The database is away, starting, stopping, full, read-only or too slow: worth a retry, 503. */
export function isUnavailable(error: unknown): boolean {
  const state = sqlstate(error)
  if (state !== undefined) {
    return AWAY.test(state) || OF_ONE_STATEMENT.has(state) || endsSession(error)
  }
  const code = errorCode(error)
  if (code !== undefined && /^(E[A-Z]+|ERR_SOCKET.*|ERR_STREAM.*)$/.test(code)) return true
  return error instanceof Error && LOST_CONNECTION.test(error.message)
}

/** isUnavailable, except for one statement that waited too long or lost a deadlock: then the database is there. */
export function isAway(error: unknown): boolean {
  const state = sqlstate(error) ?? ''
  return isUnavailable(error) && !OF_ONE_STATEMENT.has(state)
}

/** Other statements may succeed meanwhile: full disk, too many connections, no new logins, no writes. */
export function isPartial(error: unknown): boolean {
  return /^(25|28|3D|53|55|58)/.test(sqlstate(error) ?? '')
}

/** How to treat a failed group of rows: retry as it is, bisect to isolate the bad row, or give up for now. */
export function groupFailureKind(error: unknown): 'retry' | 'poison' | 'unavailable' {
  const cause = error instanceof AppError ? error.cause : error
  const state = sqlstate(cause) ?? ''
  if (state === '40001' || state === '40P01' || isPartitionNew(cause)) return 'retry'
  // heartbeats.ts knows which devices are locked and stores the others without them.
  if (state === '55P03' && error instanceof AppError && error.code === 'overloaded') return 'poison'
  // binary-arrays.ts could not encode a number; nothing was sent.
  if (cause instanceof RangeError) return 'poison'
  return /^(22|23|54)/.test(state) ? 'poison' : 'unavailable'
}

/** A heartbeat for the DEFAULT partition waited while its day's partition was created; a retry finds it. */
function isPartitionNew(error: unknown): boolean {
  const isDefaultPartition =
    error instanceof Error && 'table' in error && error.table === 'heartbeats_default'
  return isDefaultPartition && sqlstate(error) === '23514'
}

/** After these errors the session is usable and returns to the pool. After any other it is closed. */
export function leavesSessionSound(error: unknown): boolean {
  const isSound = /^(22|23|21|40|42|44|54|55|P0|08R00)/.test(sqlstate(error) ?? '')
  return isSound && !endsSession(error)
}
