/**
 * Logs background tasks whose database calls fail while the database is up: a statement takes too long, a lock is held, no
 * connection is free. `db.unavailable` reports a database that is away.
 */

import { callTroubleOf } from '../../db/health/trouble.ts'
import { AppError } from '../../domain/errors.ts'
import { failedCallOf } from '../../domain/failed-call.ts'
import { errorText } from '../../lib/error-text.ts'
import { BACKGROUND, type Log } from '../../telemetry/log/log.ts'

export type BackgroundTask =
  | 'dispatch'
  | 'jobs'
  | 'sweep'
  | 'offline'
  | 'count'
  | 'partitions'
  | 'prune'
  | 'builds'
export type ReportFailure = (task: BackgroundTask, error: unknown) => void

/** A task that keeps failing is logged at this interval. */
const REPORT_INTERVAL_MS = 60_000

export function backgroundFailures(deps: {
  readonly log: Log
  /** `isDown`: `db.unavailable` has reported it already. */
  readonly health: { readonly isDown: boolean }
  readonly nowMs: () => number
}): ReportFailure {
  const reportedAtMs = new Map<BackgroundTask, number>()

  return (task, error) => {
    const nowMs = deps.nowMs()
    const isRecent =
      nowMs - (reportedAtMs.get(task) ?? Number.NEGATIVE_INFINITY) < REPORT_INTERVAL_MS
    if (isRecent || deps.health.isDown) return
    reportedAtMs.set(task, nowMs)
    const reason = error instanceof AppError ? (error.cause ?? error) : error
    const { statement, cause } = failedCallOf(error)
    const fields = {
      task,
      error: errorText(reason),
      cause: cause ?? callTroubleOf(reason),
      statement,
    }
    deps.log.write({ event: 'db.statement.fail', fields }, BACKGROUND)
  }
}
