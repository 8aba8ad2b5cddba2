/** How statements and connections went, and whether that says anything of writes: health.ts makes episodes of it. */
import type pg from 'pg'
import type { Query } from '../postgres/pool.ts'

/** How a statement went, an attempt to connect, or a connection: `what` is the query's name, `begin`, `commit`, CONNECT or LOST. */
export type Outcome =
  | {
      readonly kind: 'failed'
      readonly what: string
      readonly error: unknown
      /** It may have been about to write. */
      readonly isWrite: boolean
    }
  | {
      readonly kind: 'worked'
      readonly what: string
      /** It has written for certain, and what it wrote is where the server was told to have it: on standbys too. */
      readonly isWrite: boolean
      /** When it was begun, and when its connection was made: by performance.now(). */
      readonly startedAtMs: number
      readonly connectedAtMs: number
    }

/** What is said of a connection that could not be made. */
export const CONNECT = 'connect'
/** And of one that ended; what was asked on it fails by itself. */
export const LOST = 'lost connection'
/** What may write, and so wait for a standby. */
const MAY_WRITE =
  /\b(insert|update|delete|merge|create|drop|alter|commit|pg_logical_emit_message)\b/i
const CHANGES: ReadonlySet<string> = new Set(['INSERT', 'UPDATE', 'DELETE', 'MERGE'])

/** Whether it would have waited for a standby, had it gone well. */
export function mayWrite({ text }: Query): boolean {
  return MAY_WRITE.test(text)
}

/** Whether it has written for certain. Others may have as well: a `select` does not say what its CTEs did. */
export function hasChanged({ isWrite }: Query, { command, rowCount }: pg.QueryResult): boolean {
  return isWrite === true || (CHANGES.has(command) && (rowCount ?? 0) > 0)
}
