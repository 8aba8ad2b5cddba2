/**
 * Looks enrollment tokens up that only log lines name: those of registrations whose bodies are refused. One statement runs at a
 * time, and a token waits once, however many requests name it: a flood of one token delays no other.
 */
import type { EnrollmentVerdict } from '../../domain/identity.ts'
import { joinReads } from '../../lib/timeouts.ts'
import type { Database } from '../postgres/pool.ts'
import { boundedShareOf } from '../postgres/share.ts'
import { enrollmentTokenStore } from './tokens.ts'

/** Tokens. */
const MAX_WAITING_LOOKUPS = 256
const LOOKUP_WAIT_MS = 1_000

/** The look-up rejects with 503 if too many wait, or its token has waited too long. */
export function lookUpForLines(
  database: Database,
  nowMs: () => number,
): (tokenHash: Buffer) => Promise<EnrollmentVerdict> {
  const limits = { maxConcurrent: 1, maxWaiting: MAX_WAITING_LOOKUPS, maxWaitMs: LOOKUP_WAIT_MS }
  const { judge } = enrollmentTokenStore(boundedShareOf(database, { ...limits, nowMs }))
  const joined = joinReads((tokenHash) => judge(Buffer.from(tokenHash, 'latin1')))
  return (tokenHash) => joined(tokenHash.toString('latin1'))
}
