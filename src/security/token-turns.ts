/**
 * The requests of one token that are served at once: without a bound, one phone's own would fill the queue for database
 * connections and keep others out. Per replica.
 */
import { AppError } from '../domain/errors.ts'
import { type Denial, rateLimited } from './denial.ts'

/** A phone drains its queue by two requests at once. Fewer than the general connections of DATABASE_POOL_MAX=10. */
const MAX_AT_ONCE = 4
const MAX_WAITING_OF_TOKEN = 256
/** Of all tokens: 64 MiB of bodies. Honest phones wait only if they share an enrollment token and download. */
const MAX_WAITING_OF_TOKENS = 1_024
/** Checked when the turn comes: those before it end within their own bounds. */
const MAX_TURN_WAIT_MS = 2_000

/**
 * Settles as `work` does. Rejects with 429 `rate_limited` where too many of this token wait, or if this one waited for too long,
 * and with 503 `overloaded` where too many of all tokens wait.
 */
export type InTurn = <T>(token: HashedToken, work: () => Promise<T>) => Promise<T>

export interface HashedToken {
  readonly tokenHash: Buffer
}

/** 31 bits are a cheap key; two tokens that share them share their turns. */
export function keyOfToken({ tokenHash }: HashedToken): number {
  return tokenHash.readUInt32BE() >>> 1
}

interface Turns {
  running: number
  /** In order of arrival. */
  readonly waiting: (() => void)[]
}

/** Each heartbeat takes a turn: 0.4 µs, where one of lib/semaphore.ts would take 2. */
export function createTokenTurns(nowMs = () => performance.now()): InTurn {
  const turnsOf = new Map<number, Turns>()
  let allWaiting = 0

  /** Whether it took too long. */
  async function wait({ waiting }: Turns): Promise<boolean> {
    if (waiting.length >= MAX_WAITING_OF_TOKEN) throw refusal()
    if (allWaiting >= MAX_WAITING_OF_TOKENS) throw tooMany()
    allWaiting += 1
    const sinceMs = nowMs()
    await new Promise<void>((start) => waiting.push(start))
    allWaiting -= 1
    return nowMs() - sinceMs >= MAX_TURN_WAIT_MS
  }

  return async (token, work) => {
    const key = keyOfToken(token)
    const turns = turnsOf.get(key) ?? { running: 0, waiting: [] }
    const isFree = turns.running < MAX_AT_ONCE
    if (isFree) turns.running += 1
    if (turns.running === 1) turnsOf.set(key, turns)
    const isLate = !isFree && (await wait(turns))
    try {
      if (isLate) throw refusal()
      return await work()
    } finally {
      const next = turns.waiting.shift()
      if (next === undefined) turns.running -= 1
      else next() // takes over the turn
      if (turns.running === 0) turnsOf.delete(key)
    }
  }
}

function tooMany(): AppError {
  return new AppError('overloaded', 'Too many requests wait for others of their token. Try again.')
}

function refusal(): Denial {
  const counts = 'requests at once of this token'
  const reached = { name: 'at_once_per_token', limit: MAX_AT_ONCE, used: MAX_AT_ONCE, counts }
  return rateLimited({ ...reached, retryAfterS: 1 }, null)
}
