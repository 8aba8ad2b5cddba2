/** Outcomes of statements and connections, from which health.ts derives outages. */
import type pg from 'pg'
import type { Query } from '../postgres/pool.ts'

/** Outcome of a statement or connection (attempt). `what`: the query's name, `begin`, `commit`, CONNECT or LOST. */
export type Outcome =
  | {
      readonly kind: 'failed'
      readonly what: string
      readonly error: unknown
      /** It may have written. */
      readonly isWrite: boolean
      /** Start of its connection, in performance.now() time; undefined for an attempt to connect. */
      readonly connectedAtMs: number | undefined
    }
  | {
      readonly kind: 'worked'
      readonly what: string
      /** It certainly wrote, as durably as the server's settings ask: on standbys too. */
      readonly isWrite: boolean
      /** Start of the statement and of its connection, in performance.now() time. */
      readonly startedAtMs: number
      readonly connectedAtMs: number
    }

/** A failed connection attempt. */
export const CONNECT = 'connect'
/** A connection that ended; its statements fail separately. */
export const LOST = 'lost connection'
/** Statements that may write and therefore wait for a standby. */
const MAY_WRITE =
  /\b(insert|update|delete|merge|create|drop|alter|commit|pg_logical_emit_message)\b/i
const CHANGES: ReadonlySet<string> = new Set(['INSERT', 'UPDATE', 'DELETE', 'MERGE'])

/** Whether it may wait for a standby. */
export function mayWrite({ text }: Query): boolean {
  return MAY_WRITE.test(text)
}

/** Whether it certainly wrote. Others may have written too: a `select` does not show what its CTEs did. */
export function hasChanged({ isWrite }: Query, { command, rowCount }: pg.QueryResult): boolean {
  return isWrite === true || (CHANGES.has(command) && (rowCount ?? 0) > 0)
}
