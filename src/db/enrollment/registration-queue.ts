/**
 * Registrations wait for each other before they take a connection. Those with one enrollment token lock its row, so only
 * one of them is at work; of all together few are, and other requests find connections when a whole fleet enrolls at once.
 * A registration waits far longer than other requests: its phone does (30 s), and would only come again.
 */
import { AppError } from '../../domain/errors.ts'
import { createKeyedQueue } from '../../lib/keyed-queue.ts'
import { sleep } from '../../lib/timeouts.ts'
import { isDatabaseAway, isSafeToRetry } from '../postgres/call-failure.ts'
import type { Database } from '../postgres/pool.ts'
import {
  type OnJudged,
  type Registration,
  type RegistrationOutcome,
  register,
} from './registration.ts'

export interface RegistrationQueue {
  /** `isWanted` is asked once its turn has come: where nobody waits for the answer any more, it is dropped. */
  register(
    registration: Registration,
    onJudged: OnJudged,
    isWanted: () => boolean,
  ): Promise<RegistrationOutcome>
  readonly waiting: number
  /** Refuses those that wait. */
  close(): void
}

const MAX_WAITING_REGISTRATIONS = 1_024
const MAX_SAME_TOKEN_WAITING = 256
/** From the arrival to the turn. */
const REGISTRATION_WAIT_MS = 20_000
const RETRY_MS = 50

export function registrationQueue(options: {
  readonly database: Database
  /** Of `database`, for registrations. */
  readonly maxAtOnce: number
  /** Since the database last answered. */
  readonly msSinceResponse: () => number
  readonly nowMs: () => number
}): RegistrationQueue {
  const { database, maxAtOnce, msSinceResponse, nowMs } = options
  const queue = createKeyedQueue({
    maxConcurrent: maxAtOnce,
    maxWaiting: MAX_WAITING_REGISTRATIONS,
    maxWaitingPerKey: MAX_SAME_TOKEN_WAITING,
    maxWaitMs: REGISTRATION_WAIT_MS,
    nowMs,
  })

  return {
    register(registration, onJudged, isWanted) {
      const deadlineAtMs = nowMs() + REGISTRATION_WAIT_MS
      return queue.run(registration.enrollmentTokenHash.toString('latin1'), async () => {
        for (;;) {
          if (!isWanted()) throw new AppError('overloaded', 'Nobody waits for this registration.')
          try {
            return await register(database, registration, onJudged)
          } catch (error) {
            const silentMs = msSinceResponse()
            // The others would find out the same, one after the other.
            if (isDatabaseAway(error, silentMs)) queue.rejectAll(error)
            if (!isSafeToRetry(error, silentMs) || nowMs() >= deadlineAtMs) throw error
            await sleep(RETRY_MS)
          }
        }
      })
    },
    get waiting() {
      return queue.waiting
    },
    close() {
      queue.rejectAll(new AppError('shutting_down', 'This server is stopping. Try again.'))
    },
  }
}
