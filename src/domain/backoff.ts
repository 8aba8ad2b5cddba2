/** How long to wait before a failed push is tried again. Pure: time and randomness are arguments. */

export interface Retry {
  /** Failures in a row, this one included: 1 after the first. */
  readonly failures: number
  /** The shortest wait of our own; FCM asks for at least 10 s before any retry (scale-fcm.md). */
  readonly baseMs: number
  /** The longest wait of our own; a longer Retry-After still holds. */
  readonly maxMs: number
  /** From `parseRetryAfterMs`; null where the answer named none. */
  readonly retryAfterMs: number | null
  /** In [0, 1), such as Math.random. */
  readonly random: () => number
}

/** Longest Retry-After we believe, milliseconds: the default life of a command. */
const MAX_RETRY_AFTER_MS = 24 * 60 * 60 * 1000

/** A Retry-After is kept, and stretched by up to a tenth, so that a whole backlog does not return at one instant. */
const RETRY_AFTER_SPREAD = 0.1

/**
 * Milliseconds, whole. Retry-After wins and is never undercut; else anywhere within
 * [base, base doubled once per failure], the upper end at most `maxMs`.
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
 * Milliseconds from now that a `Retry-After` header asks for (RFC 9110, 10.2.3: seconds, or an HTTP date), at most a day.
 * Null where it is missing, not readable, or asks for no wait at all: then our own backoff decides.
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
