/** Sentences that several verdicts append to their detail, each with a leading space; empty where they do not apply. */
import { LOWERED_LATELY_DAYS } from '../delivery/push-report.ts'
import type { VerdictFacts } from './command.ts'

const LOWERED_LATELY_MS = LOWERED_LATELY_DAYS * 86_400_000

/** A sentence about the trouble of this replica's sender, to be appended, or an empty text. */
export function outage({ senderTrouble }: VerdictFacts): string {
  if (senderTrouble?.kind !== 'failing') return ''
  const { since, fcmStatus } = senderTrouble
  return ` Every push of this replica has failed since ${since.toISOString()} (last ${fcmStatus}): one a second is tried until FCM takes one.`
}

/** A sentence with FCM's response to the last push, to be appended, or an empty text. */
export function lastPush({ command }: VerdictFacts): string {
  const { fcmHttpCode, fcmStatus } = command
  if (fcmStatus === null) return ''
  return ` Its last push: ${fcmHttpCode === null ? '' : `${fcmHttpCode} `}${fcmStatus}.`
}

/** A sentence about a FID under the name of a token, to be appended, or an empty text. */
export function misnamed({ device }: VerdictFacts): string {
  return device.isFidMisnamed
    ? ' The agent sends a FID as fcm_token: each push is tried by token first, then by FID. Send it as fid.'
    : ''
}

/** A sentence about messages that FCM delivers at normal priority, to be appended, or an empty text. */
export function lowered({ device: { pushLoweredAt }, now }: VerdictFacts): string {
  if (pushLoweredAt === null || now.getTime() - pushLoweredAt.getTime() > LOWERED_LATELY_MS)
    return ''
  return ` FCM lowered the priority of its messages, last at ${pushLoweredAt.toISOString()}: they wait while it sleeps.`
}
