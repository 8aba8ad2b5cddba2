/**
 * What the pool makes of a call that failed: our trouble, 503, and an error that says which statement it was and why.
 * And what such a failure is worth to a caller that may try again.
 */
import { AppError } from '../../domain/errors.ts'
import { withFailedCall } from '../../domain/failed-call.ts'
import { callTroubleOf } from '../health/trouble.ts'
import { isAway, isNotConnected, isUnavailable, OwnWaitError } from './sqlstate.ts'

/** Remembers in `error` that it is the statement's; `name` is empty where it has none. */
export function withStatement(error: unknown, name: string): unknown {
  if (!(error instanceof Error)) return error
  const isTrouble = error instanceof AppError || isUnavailable(error)
  const cause = isTrouble ? callTroubleOf(error) : null
  return withFailedCall(error, { statement: name || null, cause })
}

/** 503 `db_unavailable`: the database is away, or this one call took too long. */
export function unavailable(cause: unknown): AppError {
  const message = isAway(cause)
    ? 'The database does not answer. Try again shortly.'
    : 'This took the database too long, or something else held it up. Try again shortly.'
  return new AppError('db_unavailable', message, { cause })
}

/** 503 `overloaded`: no connection came free for the statement `name`. */
export function overloaded(name: string, cause?: unknown): AppError {
  const message = 'Too many requests wait for the database. Try again shortly.'
  const error = new AppError('overloaded', message, { cause })
  return withFailedCall(error, { statement: name || null, cause: 'no_connection' })
}

/** A database that answered something within that is busy, not away. */
const ALIVE_MS = 2_000

/** No connection came free, or a busy database made none in time: nothing was begun. `silentMs`: since it last answered. */
export function isSafeToRetry(error: unknown, silentMs: number): boolean {
  if (!(error instanceof AppError)) return false
  if (error.code === 'overloaded') return true
  return error.code === 'db_unavailable' && silentMs < ALIVE_MS && isNotConnected(error.cause)
}

/** Whoever asks next will learn the same. `silentMs`: since the database last answered. */
export function isDatabaseAway(error: unknown, silentMs: number): boolean {
  if (!(error instanceof AppError) || error.code !== 'db_unavailable') return false
  return silentMs >= ALIVE_MS && (isAway(error.cause) || error.cause instanceof OwnWaitError)
}
