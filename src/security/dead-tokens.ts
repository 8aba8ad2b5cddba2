/**
 * Enrollment tokens that the database has just called expired or revoked: refused without another look-up, so that a flood
 * of them costs nothing. A used-up token is not dead: it downloads, and its registration may be repeated. Per replica.
 */
import type { EnrollmentVerdict } from '../domain/identity.ts'

/** About 300 bytes each. One more evicts the oldest. */
const MAX_DEAD_TOKENS = 1_024
/** Then it is looked up again: a restored database may accept it. */
const DEAD_TOKEN_MS = 10_000

export type DeadVerdict = Extract<EnrollmentVerdict, { kind: 'expired' | 'revoked' }>

export interface DeadTokens {
  /** Remembers the verdict, if it is final. */
  note(tokenHash: Buffer, verdict: EnrollmentVerdict): void
  find(tokenHash: Buffer): DeadVerdict | undefined
}

/** `nowMs`: monotonic clock. */
export function createDeadTokens(nowMs = () => performance.now()): DeadTokens {
  /** The oldest comes first. */
  const dead = new Map<string, { readonly verdict: DeadVerdict; readonly endsAtMs: number }>()
  return {
    note(tokenHash, verdict) {
      if (verdict.kind !== 'expired' && verdict.kind !== 'revoked') return
      const key = tokenHash.toString('latin1')
      dead.delete(key)
      dead.set(key, { verdict, endsAtMs: nowMs() + DEAD_TOKEN_MS })
      const [oldest] = dead.keys()
      if (dead.size > MAX_DEAD_TOKENS && oldest !== undefined) dead.delete(oldest)
    },
    find(tokenHash) {
      const found = dead.get(tokenHash.toString('latin1'))
      return found !== undefined && nowMs() < found.endsAtMs ? found.verdict : undefined
    },
  }
}
