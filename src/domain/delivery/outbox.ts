/** The dispatcher's view of the database: commands that are due for push, each under a lease. */
import type { PushState } from '../commands/command.ts'
import type { PushId, PushKind } from './push-id.ts'

/** A command that this replica may send once, within the lease. Without a push identity it is only recorded. */
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
  /** null: the device had no valid one. Nothing is sent; attempt and push_attempts were not increased. */
  readonly pushId: PushId | null
  /** Of the push identity, as the database's text: another one, or null instead of one, was reported later. */
  readonly pushIdAt: string | null
  readonly enrollmentNo: number
  readonly hmacSecretId: string
}

/** The outcome of an attempt. */
export interface AttemptRecord {
  readonly pushState: Extract<PushState, 'sent' | 'backoff' | 'gave_up' | 'paused'>
  readonly fcmHttpCode: number | null
  readonly fcmStatus: string
  /** null: no HTTP request was made. */
  readonly latencyMs: number | null
  /** Of the last request; of the claim if there was none. */
  readonly pushKind: PushKind
  /** null: there will be no further push. */
  readonly retryInMs: number | null
  /** Why it failed, for the timeline; null if it did not. Bounded, without secrets. */
  readonly reason: string | null
}

export interface Outbox {
  /** Leases at most `limit` due commands to `leaseId` for 60 s. It may return fewer although more are due: see hasMoreDue. */
  claim(limit: number, leaseId: string): Promise<readonly Claim[]>
  /** Another claim right now may find more. */
  hasMoreDue(): boolean
  /** Returns false, and changes nothing, if another replica has taken over the lease. */
  record(claim: Claim, record: AttemptRecord): Promise<boolean>
  /**
   * Records a push identity that FCM calls dead. It is marked once, if the device still has it; otherwise the newer one is
   * due. One that the device has reported again since the claim is not marked: the command is due again a little later.
   */
  recordDeadToken(claim: Claim, record: AttemptRecord): Promise<{ readonly isMarked: boolean }>
  /** For a claim without a push identity. `due`: the device has reported one meanwhile. */
  recordNoToken(claim: Claim): Promise<'no_token' | 'due' | 'lease_lost'>
  /** Returns claims, which are due at once. What was recorded meanwhile stays. */
  handBack(claims: readonly Claim[]): Promise<void>
}
