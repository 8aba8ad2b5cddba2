/** Turns a failed database call into a 503 with the statement and the cause, and decides whether a retry is safe. */
import { AppError } from '../../domain/errors.ts'
import { withFailedCall } from '../../domain/failed-call.ts'
import { callTroubleOf } from '../health/trouble.ts'
import { isAway, isNotConnected, isUnavailable, OwnWaitError } from './sqlstate.ts'

/** Attaches the statement to the error; `name` may be empty. */
export function withStatement(error: unknown, name: string): unknown {
  if (!(error instanceof Error)) return error
  const isTrouble = error instanceof AppError || isUnavailable(error)
  const cause = isTrouble ? callTroubleOf(error) : null
  return withFailedCall(error, { statement: name || null, cause })
}

/** 503 `db_unavailable`: the database is away, or this call took too long. */
export function unavailable(cause: unknown): AppError {
  const message = isAway(cause)
    ? 'The database does not answer. Try again shortly.'
    : 'This took the database too long, or something else held it up. Try again shortly.'
  return new AppError('db_unavailable', message, { cause })
}

/** 503 `overloaded`: no connection became free for the statement `name`. */
export function overloaded(name: string, cause?: unknown): AppError {
  const message = 'Too many requests wait for the database. Try again shortly.'
  const error = new AppError('overloaded', message, { cause })
  return withFailedCall(error, { statement: name || null, cause: 'no_connection' })
}

/** A database that responded within this time is busy, not away. */
const ALIVE_MS = 2_000

/** Nothing was started: no connection was free or made in time by a busy database. `silentMs`: since its last response. */
export function isSafeToRetry(error: unknown, silentMs: number): boolean {
  if (!(error instanceof AppError)) return false
  if (error.code === 'overloaded') return true
  return error.code === 'db_unavailable' && silentMs < ALIVE_MS && isNotConnected(error.cause)
}

/** The next caller would fail too. `silentMs`: since the last response of the database. */
export function isDatabaseAway(error: unknown, silentMs: number): boolean {
  if (!(error instanceof AppError) || error.code !== 'db_unavailable') return false
  return silentMs >= ALIVE_MS && (isAway(error.cause) || error.cause instanceof OwnWaitError)
}
