/** Which database call failed, and why: for a log line. The pool marks the error, whoever writes a line about it asks here. */

export interface FailedCall {
  /** The name of the statement, `begin` or `commit`; never its text or its parameters. null: it has none. */
  readonly statement: string | null
  /** A code of db/health/trouble.ts. null: a fault, no trouble of the database. */
  readonly cause: string | null
}

/** No database call failed. */
export const NO_CALL: FailedCall = { statement: null, cause: null }
/** An error within the error of another call is that one's cause. */
const CAUSES_READ = 5

/** `error` itself, marked. */
export function withFailedCall<E extends Error>(error: E, failedCall: FailedCall): E {
  return Object.assign(error, { failedCall })
}

/** As the fields of a line: NO_CALL where none failed. */
export function failedCallOf(error: unknown): FailedCall {
  let each = error
  for (let read = 0; read < CAUSES_READ && each instanceof Error; read += 1) {
    if (isMarked(each)) return each.failedCall
    each = each.cause
  }
  return NO_CALL
}

function isMarked(error: Error): error is Error & { readonly failedCall: FailedCall } {
  return 'failedCall' in error
}
