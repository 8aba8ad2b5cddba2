/** What the dispatcher asks of the database: commands that are due for push, each under a lease. */
import type { PushState } from './command.ts'

/** A command that this replica may send, once, within the lease; or has to record as one without a push token. */
export interface Claim {
  readonly requestId: string
  readonly leaseId: string
  readonly deviceId: string
  readonly alias: string
  readonly action: string
  readonly params: Readonly<Record<string, string>>
  readonly attempt: number
  readonly pushFailures: number
  readonly expiresAt: Date
  /** null: the device had no live one. Nothing is sent, and neither attempt nor push_attempts was raised. */
  readonly fcmToken: string | null
  readonly enrollmentNo: number
  readonly hmacSecretId: string
}

/** How an attempt went. */
export interface AttemptRecord {
  readonly pushState: Extract<PushState, 'sent' | 'backoff' | 'gave_up' | 'paused'>
  readonly fcmHttpCode: number | null
  readonly fcmStatus: string
  /** null: no HTTP attempt was made. */
  readonly latencyMs: number | null
  /** null: nothing more to push. */
  readonly retryInMs: number | null
  /** Why it failed, for the timeline; null where it did not. Bounded, free of secrets. */
  readonly reason: string | null
}

export interface Outbox {
  /** At most `limit` due commands, leased to `leaseId` for 60 s; perhaps not all of them at once, see hasMoreDue. */
  claim(limit: number, leaseId: string): Promise<readonly Claim[]>
  /** A further claim now may find more. */
  hasMoreDue(): boolean
  /** False: somebody else took the lease over; nothing was changed. */
  record(claim: Claim, record: AttemptRecord): Promise<boolean>
  /** As record, for a token that FCM calls dead: it is marked so, once, if the device still has it; else push is due for the newer one. */
  recordDeadToken(claim: Claim, record: AttemptRecord): Promise<{ readonly isMarked: boolean }>
  /** For a claim without a push token: one that came since makes the command due. */
  recordNoToken(claim: Claim): Promise<'no_token' | 'due' | 'lease_lost'>
  /** Gives claims back that this replica holds no longer, due at once; what was recorded meanwhile stays. */
  handBack(claims: readonly Claim[]): Promise<void>
}
