/** For what should outlast a restart of the database, or a crowd before it. */
import { setTimeout as sleep } from 'node:timers/promises'
import { AppError } from '../../domain/errors.ts'

const RETRY_AFTER_MS = [250, 1_000, 2_000] as const

/** Tries again for some seconds where the way to the database fails. `work` may be done twice without harm. */
export async function withRetries<T>(work: () => Promise<T>): Promise<T> {
  for (const waitMs of RETRY_AFTER_MS) {
    try {
      return await work()
    } catch (error) {
      if (!(error instanceof AppError)) throw error // not the way to the database: ours
      await sleep(waitMs)
    }
  }
  return await work()
}
