/** SQL errors during a fuzz: bad input that reaches PostgreSQL shows a missing validator. */
import { readFileSync } from 'node:fs'
import { withClient } from '../../testkit/database/postgres.ts'

/** Data exceptions, limits, syntax and unknown names, internal errors (PostgreSQL manual, appendix A). */
const OURS = /^(22|42|54|0A|XX)/
const ERROR = /^(?:ERROR|FATAL|PANIC): {2}([0-9A-Z]{5}): (.*)$/gm

/** Makes its log name the SQLSTATE of each error. */
export async function nameErrors(databaseUrl: string): Promise<void> {
  await withClient(databaseUrl, async (db) => {
    await db.query(`alter system set log_error_verbosity = 'verbose'`)
    await db.query(`alter system set log_line_prefix = ''`)
    await db.query('select pg_reload_conf()')
  })
}

export interface PostgresErrors {
  readonly bySqlstate: Readonly<Record<string, number>>
  readonly faults: readonly string[]
}

export function readErrors(logFile: string): PostgresErrors {
  const bySqlstate: Record<string, number> = {}
  const faults = new Set<string>()
  for (const [, state = '', message] of readFileSync(logFile, 'utf8').matchAll(ERROR)) {
    bySqlstate[state] = (bySqlstate[state] ?? 0) + 1
    if (OURS.test(state)) faults.add(`PostgreSQL: ${state} ${message}`)
  }
  return { bySqlstate, faults: [...faults] }
}
