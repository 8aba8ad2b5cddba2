/**
 * Looks up enrollment tokens without our tag, which release 0.1 issued and anybody can invent. All callers share one
 * statement on one connection: a flood of invented tokens takes nothing from others; a fleet of real phones passes.
 */
import { AppError, shuttingDown } from '../../domain/errors.ts'
import type { EnrollmentVerdict } from '../../domain/identity.ts'
import { Throttle } from '../../lib/throttle.ts'
import { retryWhile, sleep } from '../../lib/timeouts.ts'
import { isSafeToRetry } from '../postgres/call-failure.ts'

export interface UntaggedTokens {
  judge(tokenHash: Buffer): Promise<EnrollmentVerdict>
  /** Number of 503 `overloaded` responses. */
  readonly refused: number
  /** Rejects those that wait. */
  close(): void
}

interface Waiter {
  readonly tokenHash: Buffer
  resolve(verdict: EnrollmentVerdict): void
  reject(error: unknown): void
}

const MAX_UNTAGGED_WAITING = 512
/** Tokens per statement. */
const MAX_UNTAGGED_GROUP = 256
/**
 * After each statement, for more tokens to join the next: however many come, there are at most 20 statements a second. Beside
 * 1,000 made-up tokens a second the heartbeats' p99 was 21.8 ms, and 23.6 ms with 100 statements (18.1 ms without such tokens).
 */
const GROUP_PAUSE_MS = 50
/** How long a group without a connection is retried. */
const UNTAGGED_RETRY_MS = 5_000
const RETRY_MS = 50

export function untaggedTokens(options: {
  /** Uses its own connection; verdicts are in the order of the hashes. */
  readonly judgeAll: (tokenHashes: readonly Buffer[]) => Promise<readonly EnrollmentVerdict[]>
  /** Since the database's last response. */
  readonly msSinceResponse: () => number
  readonly nowMs: () => number
}): UntaggedTokens {
  const { judgeAll, msSinceResponse, nowMs } = options
  const waiting: Waiter[] = []
  /** Resuming dozens of requests in one turn of the event loop would delay all others. */
  const settling = new Throttle()
  let isAtWork = false
  let refused = 0

  async function work(): Promise<void> {
    isAtWork = true
    while (waiting.length > 0) {
      await judgeGroup(waiting.splice(0, MAX_UNTAGGED_GROUP))
      await sleep(GROUP_PAUSE_MS)
    }
    isAtWork = false
  }

  async function judgeGroup(group: readonly Waiter[]): Promise<void> {
    try {
      const verdicts = await lookUp(group.map(({ tokenHash }) => tokenHash))
      for (const [index, { resolve }] of group.entries()) {
        settling.add(() => resolve(verdicts[index] ?? { kind: 'unknown' }))
      }
    } catch (error) {
      // The next groups would fail too, one statement later each.
      const refusedNow = [...group, ...waiting.splice(0)]
      if (error instanceof AppError && error.code === 'overloaded') refused += refusedNow.length
      for (const { reject } of refusedNow) settling.add(() => reject(error))
    }
  }

  function lookUp(tokenHashes: readonly Buffer[]): Promise<readonly EnrollmentVerdict[]> {
    const deadlineAtMs = nowMs() + UNTAGGED_RETRY_MS
    const mayRetry = (error: unknown) =>
      isSafeToRetry(error, msSinceResponse()) && nowMs() < deadlineAtMs
    return retryWhile(
      () => judgeAll(tokenHashes),
      (error) => (mayRetry(error) ? RETRY_MS : undefined),
    )
  }

  return {
    async judge(tokenHash) {
      if (waiting.length + settling.waiting >= MAX_UNTAGGED_WAITING) {
        refused += 1
        const message = 'Too many tokens wait to be looked up. Try again shortly.'
        throw new AppError('overloaded', message)
      }
      return new Promise((resolve, reject) => {
        waiting.push({ tokenHash, resolve, reject })
        if (!isAtWork) void work()
      })
    },
    get refused() {
      return refused
    },
    close() {
      for (const { reject } of waiting.splice(0)) reject(shuttingDown())
    },
  }
}
