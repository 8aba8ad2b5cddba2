/** How long to wait before a failed push is retried. Pure: time and randomness are arguments. */

export interface Retry {
  /** Consecutive failures, including this one. */
  readonly failures: number
  /** The shortest wait; FCM asks for at least 10 s (https://firebase.google.com/docs/cloud-messaging/scale-fcm). */
  readonly baseMs: number
  /** The longest wait, unless Retry-After is longer. */
  readonly maxMs: number
  /** From parseRetryAfterMs; null if the response had none. */
  readonly retryAfterMs: number | null
  /** Returns a number in [0, 1), as Math.random does. */
  readonly random: () => number
}

/** A longer Retry-After is cut to this, the default lifetime of a command. */
const MAX_RETRY_AFTER_MS = 24 * 60 * 60 * 1000

/** Retry-After is extended by up to this share, so that a backlog does not return all at once. */
const RETRY_AFTER_SPREAD = 0.1

/**
 * Whole milliseconds: at least Retry-After if there is one, otherwise a random time between `baseMs` and `baseMs` doubled
 * once per failure, at most `maxMs`.
 */
export function retryDelayMs({ failures, baseMs, maxMs, retryAfterMs, random }: Retry): number {
  if (retryAfterMs !== null && retryAfterMs > 0) {
    return Math.ceil(retryAfterMs * (1 + RETRY_AFTER_SPREAD * random()))
  }
  const shortestMs = Math.min(baseMs, maxMs)
  const longestMs = Math.min(baseMs * 2 ** failures, maxMs)
  return Math.round(shortestMs + (longestMs - shortestMs) * random())
}

/**
 * The wait that a `Retry-After` header asks for (RFC 9110, 10.2.3: seconds or an HTTP date), at most a day. null if it is
 * missing, malformed or asks for no wait.
 */
export function parseRetryAfterMs(header: string | null, now: Date): number | null {
  const text = header?.trim() ?? ''
  const waitMs = /^\d{1,15}$/.test(text)
    ? Number(text) * 1000
    : /^[A-Z][a-z]{2,8}, .{10,40} GMT$/.test(text)
      ? Date.parse(text) - now.getTime()
      : Number.NaN
  return waitMs > 0 ? Math.min(waitMs, MAX_RETRY_AFTER_MS) : null
}
