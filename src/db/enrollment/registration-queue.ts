/**
 * Queues registrations before they take a connection. Those with the same enrollment token lock its row, so one runs
 * at a time; overall few run, and other requests find connections when a whole fleet enrolls at once. A registration
 * waits far longer than other requests: its phone does too (30 s), and would only return.
 */
import { AppError, shuttingDown } from '../../domain/errors.ts'
import { createKeyedQueue } from '../../lib/keyed-queue.ts'
import { retryWhile } from '../../lib/timeouts.ts'
import { isDatabaseAway, isSafeToRetry } from '../postgres/call-failure.ts'
import type { Database } from '../postgres/pool.ts'
import {
  type OnJudged,
  type Registration,
  type RegistrationOutcome,
  register,
} from './registration.ts'

export interface RegistrationQueue {
  /** `isWanted` is called at its turn: false drops the registration, since its client has left. */
  register(
    registration: Registration,
    onJudged: OnJudged,
    isWanted: () => boolean,
  ): Promise<RegistrationOutcome>
  readonly waiting: number
  /** Rejects those that wait. */
  close(): void
}

const MAX_WAITING_REGISTRATIONS = 1_024
const MAX_SAME_TOKEN_WAITING = 256
/** From arrival to turn. */
const REGISTRATION_WAIT_MS = 20_000
const RETRY_MS = 50

export function registrationQueue(options: {
  readonly database: Database
  /** Connections of `database` for registrations. */
  readonly maxAtOnce: number
  /** Since the database's last response. */
  readonly msSinceResponse: () => number
  readonly nowMs: () => number
}): RegistrationQueue {
  const { database, maxAtOnce, msSinceResponse, nowMs } = options
  const queue = createKeyedQueue({
    maxConcurrent: maxAtOnce,
    maxWaiting: MAX_WAITING_REGISTRATIONS,
    maxWaitingPerKey: MAX_SAME_TOKEN_WAITING,
    maxWaitMs: REGISTRATION_WAIT_MS,
    refusal: () => new AppError('overloaded', 'Too many registrations at once. Try again shortly.'),
    nowMs,
  })

  return {
    register(registration, onJudged, isWanted) {
      const deadlineAtMs = nowMs() + REGISTRATION_WAIT_MS
      const attempt = async () => {
        if (!isWanted()) throw new AppError('overloaded', 'Nobody waits for this registration.')
        return register(database, registration, onJudged)
      }
      const pauseMs = (error: unknown) => {
        const silentMs = msSinceResponse()
        // The others would fail too, one by one.
        if (isDatabaseAway(error, silentMs)) queue.rejectAll(error)
        const isWorthIt = isWanted() && isSafeToRetry(error, silentMs) && nowMs() < deadlineAtMs
        return isWorthIt ? RETRY_MS : undefined
      }
      return queue.run(registration.enrollmentTokenHash.toString('latin1'), () =>
        retryWhile(attempt, pauseMs),
      )
    },
    get waiting() {
      return queue.waiting
    },
    close() {
      queue.rejectAll(shuttingDown())
    },
  }
}
