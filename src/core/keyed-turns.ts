/** One at a time for each key; the others of that key wait in the order in which they came, so many and so long at most. */
import { AppError } from './errors.ts'

export interface KeyedTurnsOptions {
  /** Of one key; one more is refused at once. */
  readonly maxWaiting: number
  /** Whoever has waited longer when the turn comes is refused. */
  readonly maxWaitMs: number
  /** Monotonic clock, milliseconds. */
  readonly nowMs: () => number
}

export function createKeyedTurns({ maxWaiting, maxWaitMs, nowMs }: KeyedTurnsOptions) {
  /** Those who wait, by key; an entry for each key whose work is running. */
  const waitingOf = new Map<string, (() => void)[]>()

  return async function inTurn<T>(key: string, work: () => Promise<T>): Promise<T> {
    const startedAtMs = nowMs()
    const waiting = waitingOf.get(key)
    if (waiting === undefined) waitingOf.set(key, [])
    else if (waiting.length >= maxWaiting) throw overloaded()
    else await new Promise<void>((resolve) => waiting.push(resolve))
    try {
      if (nowMs() - startedAtMs > maxWaitMs) throw overloaded()
      return await work()
    } finally {
      const next = waitingOf.get(key)?.shift()
      if (next === undefined) waitingOf.delete(key)
      else next()
    }
  }
}

function overloaded(): AppError {
  return new AppError('overloaded', 'Too many requests with this credential at once. Try again.')
}
