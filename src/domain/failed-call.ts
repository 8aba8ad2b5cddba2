/** The database call that failed, for log lines. The pool attaches it to the error; failedCallOf reads it. */

export interface FailedCall {
  /** Name of the statement, `begin` or `commit`; never its text or parameters. null: it has no name. */
  readonly statement: string | null
  /** A code of db/health/trouble.ts, or `complex_bodies`: no call at all. null: a bug rather than trouble of the database. */
  readonly cause: string | null
}

export const NO_CALL: FailedCall = { statement: null, cause: null }
const MAX_CAUSES_READ = 5

/** Marks and returns `error`. */
export function withFailedCall<E extends Error>(error: E, failedCall: FailedCall): E {
  return Object.assign(error, { failedCall })
}

/** NO_CALL if neither `error` nor its causes are marked. */
export function failedCallOf(error: unknown): FailedCall {
  let each = error
  for (let read = 0; read < MAX_CAUSES_READ && each instanceof Error; read += 1) {
    if (isMarked(each)) return each.failedCall
    each = each.cause
  }
  return NO_CALL
}

function isMarked(error: Error): error is Error & { readonly failedCall: FailedCall } {
  return 'failedCall' in error
}
