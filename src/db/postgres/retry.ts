/** Retries for operations that should outlast a restart or an overload of the database. */
import { AppError } from '../../domain/errors.ts'
import { retryWhile } from '../../lib/timeouts.ts'

const RETRY_AFTER_MS = [250, 1_000, 2_000] as const

/** Retries for some seconds while the database cannot be reached. `work` must be idempotent. */
export function withRetries<T>(work: () => Promise<T>): Promise<T> {
  return retryWhile(work, (error, tries) =>
    error instanceof AppError ? RETRY_AFTER_MS[tries - 1] : undefined,
  )
}
