/**
 * Looks up enrollment tokens without our tag, which release 0.1 issued and anybody can make up. All that wait share one
 * statement on one connection: a flood of made-up tokens takes nothing from others, and a fleet of honest phones passes.
 */
import { AppError } from '../../domain/errors.ts'
import type { EnrollmentVerdict } from '../../domain/identity.ts'
import { Throttle } from '../../lib/throttle.ts'
import { sleep } from '../../lib/timeouts.ts'
import { isSafeToRetry } from '../postgres/call-failure.ts'

export interface UntaggedTokens {
  judge(tokenHash: Buffer): Promise<EnrollmentVerdict>
  /** 503 `overloaded` so far. */
  readonly refused: number
  /** Refuses those that wait. */
  close(): void
}

interface Waiter {
  readonly tokenHash: Buffer
  resolve(verdict: EnrollmentVerdict): void
  reject(error: unknown): void
}

const MAX_UNTAGGED_WAITING = 512
/** Of one statement. */
const MAX_UNTAGGED_GROUP = 64
/** A group for which no connection is made tries again for this long. */
const UNTAGGED_RETRY_MS = 5_000
const RETRY_MS = 50

export function untaggedTokens(options: {
  /** On a connection of its own; verdicts in the order of the hashes. */
  readonly judgeAll: (tokenHashes: readonly Buffer[]) => Promise<readonly EnrollmentVerdict[]>
  /** Since the database last answered. */
  readonly msSinceResponse: () => number
  readonly nowMs: () => number
}): UntaggedTokens {
  const { judgeAll, msSinceResponse, nowMs } = options
  const waiting: Waiter[] = []
  /** Dozens whose requests went on in one turn of the event loop would hold up all others. */
  const settling = new Throttle()
  let isAtWork = false
  let refused = 0

  async function work(): Promise<void> {
    isAtWork = true
    while (waiting.length > 0) await judgeGroup(waiting.splice(0, MAX_UNTAGGED_GROUP))
    isAtWork = false
  }

  async function judgeGroup(group: readonly Waiter[]): Promise<void> {
    try {
      const verdicts = await lookUp(group.map(({ tokenHash }) => tokenHash))
      for (const [index, { resolve }] of group.entries()) {
        settling.add(() => resolve(verdicts[index] ?? { kind: 'unknown' }))
      }
    } catch (error) {
      // Those behind it would learn the same, one statement later each.
      const refusedNow = [...group, ...waiting.splice(0)]
      if (error instanceof AppError && error.code === 'overloaded') refused += refusedNow.length
      for (const { reject } of refusedNow) settling.add(() => reject(error))
    }
  }

  async function lookUp(tokenHashes: readonly Buffer[]): Promise<readonly EnrollmentVerdict[]> {
    const deadlineAtMs = nowMs() + UNTAGGED_RETRY_MS
    for (;;) {
      try {
        return await judgeAll(tokenHashes)
      } catch (error) {
        if (!isSafeToRetry(error, msSinceResponse()) || nowMs() >= deadlineAtMs) throw error
        await sleep(RETRY_MS)
      }
    }
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
      const error = new AppError('shutting_down', 'This server is stopping. Try again.')
      for (const { reject } of waiting.splice(0)) reject(error)
    },
  }
}
