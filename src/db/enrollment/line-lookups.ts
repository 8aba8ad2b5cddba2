/**
 * Looks enrollment tokens up that only log lines name: those of registrations whose bodies are refused. One statement runs at a
 * time, with a pause after each, and a token waits once, however many requests name it: a flood of one token delays no other.
 */
import type { EnrollmentVerdict } from '../../domain/identity.ts'
import { joinReads, sleep } from '../../lib/timeouts.ts'
import type { Database, Query } from '../postgres/pool.ts'
import { boundedShareOf } from '../postgres/share.ts'
import { enrollmentTokenStore } from './tokens.ts'

/** Tokens. */
const MAX_WAITING_LOOKUPS = 256
const LOOKUP_WAIT_MS = 1_000
/** After each statement: however many bodies are refused, there are at most 200 statements a second. */
const LOOKUP_PAUSE_MS = 5

/** The look-up rejects with 503 if too many wait, or its token has waited too long. */
export function lookUpForLines(
  database: Database,
  nowMs: () => number,
): (tokenHash: Buffer) => Promise<EnrollmentVerdict> {
  const limits = { maxConcurrent: 1, maxWaiting: MAX_WAITING_LOOKUPS, maxWaitMs: LOOKUP_WAIT_MS }
  const paced: Database = {
    transaction: database.transaction,
    async query<Row extends object>(query: Query) {
      try {
        return await database.query<Row>(query)
      } finally {
        await sleep(LOOKUP_PAUSE_MS)
      }
    },
  }
  const { judge } = enrollmentTokenStore(boundedShareOf(paced, { ...limits, nowMs }))
  const joined = joinReads((tokenHash) => judge(Buffer.from(tokenHash, 'latin1')))
  return (tokenHash) => joined(tokenHash.toString('latin1'))
}
