/**
 * No push sooner than allowed. Between two pushes of one command, by what became of the first:
 *   recorded as sent    none may follow: nothing in these runs changes a push token
 *   recorded as failed  FCM's Retry-After, where that answer was read and had one; else FCM_RETRY_BASE_MS
 *   not recorded        its holder was killed in between: the lease has to run out. These are the exceptions, counted
 */
import type { FcmMode } from '../../sim/fcm/responses.ts'
import type { Figure } from '../drill.ts'
import { type PushJournal, pushMessageOf, sentAtMs } from './journal.ts'
import type { Stored } from './stored.ts'

export interface SpacingRules {
  readonly retryBaseMs: number
  readonly retryAfterMs: Partial<Readonly<Record<FcmMode, number>>>
  /** Less than the lease, which begins before the first push. 0: leases are cut short. */
  readonly unrecordedMs: number
}

/** Both instants have whole milliseconds. */
const ROUNDING_MS = 1

type Push = PushJournal[number]

/** `pushes` in the order of sending. */
export function checkSpacing(pushes: PushJournal, stored: Stored, rules: SpacingRules): Figure {
  const last = new Map<string, Push>()
  const faults: string[] = []
  let retries = 0
  let unrecorded = 0
  for (const push of pushes) {
    const { requestId } = pushMessageOf(push)
    const before = last.get(requestId)
    last.set(requestId, push)
    if (before === undefined) continue
    retries += 1
    const { attempt } = pushMessageOf(before)
    const recorded = stored.recorded(requestId, attempt)
    if (recorded === undefined) unrecorded += 1
    const gapMs = sentAtMs(push) - sentAtMs(before)
    const isSent = recorded?.stage === 'push_sent'
    const waitMs = waitOf(before, recorded?.fcmStatus, rules)
    if (!isSent && gapMs + ROUNDING_MS >= waitMs) continue
    const story = isSent ? 'was sent' : `${recorded?.fcmStatus ?? 'not recorded'}, ${waitMs} ms`
    faults.push(`${requestId} attempt ${attempt} (${story}) again after ${gapMs} ms`)
  }
  return {
    promise: 'no push sooner than allowed: Retry-After, else the base; after a kill its lease',
    measured: `${retries} repeats, ${unrecorded} of them of attempts that a kill left unrecorded; ${faults.length} too soon${faults.length === 0 ? '' : `: ${faults.slice(0, 5).join('; ')}`}`,
    isHeld: faults.length === 0,
  }
}

function waitOf({ mode }: Push, fcmStatus: string | undefined, rules: SpacingRules): number {
  if (fcmStatus === undefined) return rules.unrecordedMs
  const isRead = fcmStatus !== 'TIMEOUT' && fcmStatus !== 'NETWORK'
  return (isRead ? rules.retryAfterMs[mode] : undefined) ?? rules.retryBaseMs
}
