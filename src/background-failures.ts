/**
 * One line for each task of the service's own whose database calls fail while the database is there: a statement that
 * takes too long, a lock, no free connection. db.unavailable tells of one that is away.
 */
import { errorText } from './core/error-text.ts'
import { AppError } from './core/errors.ts'
import { failedCallOf } from './core/failed-call.ts'
import { callTroubleOf } from './db/trouble.ts'
import { BACKGROUND, type Log } from './telemetry/events.ts'

export type BackgroundTask = 'dispatch' | 'sweep' | 'count' | 'partitions' | 'prune'
export type TellFailure = (task: BackgroundTask, error: unknown) => void

/** A task that goes on failing is told of so often. */
const TOLD_AGAIN_MS = 60_000

export function backgroundFailures(deps: {
  readonly log: Log
  /** `isDown`: db.unavailable has been said already. */
  readonly health: { readonly isDown: boolean }
  readonly nowMs: () => number
}): TellFailure {
  const toldAtMs = new Map<BackgroundTask, number>()

  return (task, error) => {
    const nowMs = deps.nowMs()
    const isTold = nowMs - (toldAtMs.get(task) ?? Number.NEGATIVE_INFINITY) < TOLD_AGAIN_MS
    if (isTold || deps.health.isDown) return
    toldAtMs.set(task, nowMs)
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
