/** Retries for operations that should outlast a restart or an overload of the database. */
import { setTimeout as sleep } from 'node:timers/promises'
import { AppError } from '../../domain/errors.ts'

const RETRY_AFTER_MS = [250, 1_000, 2_000] as const

/** Retries for some seconds while the database cannot be reached. `work` must be idempotent. */
export async function withRetries<T>(work: () => Promise<T>): Promise<T> {
  for (const waitMs of RETRY_AFTER_MS) {
    try {
      return await work()
    } catch (error) {
      if (!(error instanceof AppError)) throw error // not a connection problem
      await sleep(waitMs)
    }
  }
  return await work()
}
