/**
 * Limits how often a changed push identity makes a device's open commands due again. `devices.fcm_token_due_at` is the
 * whole counter (a GCRA), shared by all replicas: each change advances it by six minutes, starting an hour ago. While
 * it is in the past, commands are due at once. A change that would move it past now sets it an hour later instead:
 * commands are due then, and changes until then are stored and move nothing.
 */
import { fidOf, tokenOf } from './push-id.ts'

/** A burst; the changes regenerate one by one within an hour. */
const TOKEN_CHANGES_PER_HOUR = 10

const SINCE = /* sql */ `greatest(fcm_token_due_at, now() - interval '1 hour')`
const STEP = /* sql */ `interval '1 hour' / ${TOKEN_CHANGES_PER_HOUR}`

/** `fcm_token_due_at` of a devices row after its push identity changed. `least`: the server's clock may have been set back. */
export const NEXT_DUE_AT = /* sql */ `
  case when fcm_token_due_at > now() then least(fcm_token_due_at, now() + interval '1 hour')
       when ${SINCE} + ${STEP} > now() then ${SINCE} + interval '1 hour'
       else ${SINCE} + ${STEP} end`

/**
 * Sets the columns of a changed push identity from a registration; null keeps it. Its time is not the phone's, so the
 * next heartbeat's identity is not older.
 */
export function withPushId(parameter: '$2' | '$5'): string {
  const orElse = (is: string, was: string) =>
    `${was} = case when ${parameter}::text is not null then ${is} else ${was} end`
  return [
    orElse(tokenOf(parameter), 'fcm_token'),
    orElse(fidOf(parameter), 'fid'),
    'fcm_token_at = null',
    orElse('null', 'fcm_token_died_at'),
    orElse(NEXT_DUE_AT, 'fcm_token_due_at'),
  ].join(', ')
}

/** When open commands are due for the push identity of devices row `d`. */
export const DUE_AT = /* sql */ `greatest(now(), d.fcm_token_due_at)`
