/** Sends one command and derives the record and the log line of the attempt. */
import { retryDelayMs } from '../domain/delivery/backoff.ts'
import { commandData } from '../domain/delivery/command-message.ts'
import type { AttemptRecord, Claim } from '../domain/delivery/outbox.ts'
import type { PushId } from '../domain/delivery/push-id.ts'
import { failedCallOf } from '../domain/failed-call.ts'
import type { Line } from '../telemetry/log/log.ts'
import type { FcmClient, SendOutcome } from './fcm.ts'

export interface RetryOptions {
  readonly retryBaseMs: number
  /** How long commands wait while the sender is paused. */
  readonly probeMs: number
  readonly random: () => number
  readonly now: () => Date
}

/** Longest backoff between two attempts. */
const MAX_RETRY_MS = 60 * 60_000

export interface SendClaimDeps {
  readonly fcm: Pick<FcmClient, 'send'>
  /** The key that signs a device's commands; undefined if its secret is not configured. */
  readonly commandKey: (claim: Claim) => string | undefined
  readonly now: () => Date
}

/** No request to FCM was made. */
const NOT_ASKED = {
  kind: 'retry',
  retryAfterMs: null,
  fcmHttpCode: null,
  latencyMs: 0,
  httpAttempts: 0,
} as const

/** Sends one signed message. Never rejects: an internal error fails only this command. */
export async function sendClaim(
  claim: Claim,
  pushId: PushId,
  deps: SendClaimDeps,
): Promise<SendOutcome> {
  const notAsked = { ...NOT_ASKED, pushKind: pushId.kind }
  try {
    const hmacKey = deps.commandKey(claim)
    if (hmacKey === undefined) {
      // Only another replica has this device's secret: the command waits for it, the sender goes on.
      const detail = `HMAC secret ${claim.hmacSecretId} is not configured`
      return { ...notAsked, fcmStatus: 'FAILED_PRECONDITION', detail }
    }
    const data = commandData({ ...claim, ts: deps.now(), hmacKey })
    return await deps.fcm.send({ pushId, data, expiresAt: claim.expiresAt })
  } catch (error) {
    return { ...notAsked, fcmStatus: 'INTERNAL', detail: `a fault of ours: ${faultText(error)}` }
  }
}

/** Text of any thrown value, prefixed with its statement; at most 200 characters. */
export function faultText(error: unknown): string {
  const { statement } = failedCallOf(error)
  return `${statement ? `${statement}: ` : ''}${error}`.slice(0, 200)
}

export function recordOf(claim: Claim, outcome: SendOutcome, options: RetryOptions): AttemptRecord {
  const { fcmHttpCode, fcmStatus, pushKind } = outcome
  const latencyMs =
    outcome.httpAttempts === 0 ? null : Math.round(outcome.latencyMs * 1_000) / 1_000
  const reason = outcome.kind === 'sent' ? null : outcome.detail
  const base = { fcmHttpCode, fcmStatus, latencyMs, reason, pushKind }
  switch (outcome.kind) {
    case 'sent':
      return { ...base, pushState: 'sent', retryInMs: null }
    case 'token_dead':
    case 'rejected':
      return { ...base, pushState: 'gave_up', retryInMs: null }
    case 'unauthenticated':
    case 'misconfigured':
      return { ...base, pushState: 'paused', retryInMs: options.probeMs }
    case 'retry': {
      const retryInMs = retryDelayMs({
        failures: claim.pushFailures + 1,
        baseMs: options.retryBaseMs,
        maxMs: MAX_RETRY_MS,
        retryAfterMs: outcome.retryAfterMs,
        random: options.random,
      })
      const isTooLate = options.now().getTime() + retryInMs >= claim.expiresAt.getTime()
      return isTooLate
        ? { ...base, pushState: 'gave_up', retryInMs: null }
        : { ...base, pushState: 'backoff', retryInMs }
    }
  }
}

export function lineOf(claim: Claim, outcome: SendOutcome, record: AttemptRecord): Line {
  const attempt = {
    action: claim.action,
    fcm_http_code: outcome.fcmHttpCode,
    fcm_status: outcome.fcmStatus,
    dispatch_latency_ms: record.latencyMs,
    attempt: claim.attempt,
  }
  const { pushKind: push_kind } = record
  if (outcome.kind === 'sent') return { event: 'dispatch.sent', fields: { ...attempt, push_kind } }
  const isFinal = record.pushState === 'gave_up'
  return {
    event: 'dispatch.fail',
    fields: { ...attempt, final: isFinal, retry_in_ms: record.retryInMs, push_kind },
    level: isFinal ? 'ERROR' : 'WARN',
  }
}
