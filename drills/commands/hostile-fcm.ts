/** A hostile FCM: a tenth each of 429, 503, 500, reset after accepting, and hang; half succeeds. */

import type { Behaviour, FakeFcm } from '../../sim/fcm/fake-fcm.ts'
import type { FcmMode } from '../../sim/fcm/responses.ts'

const HOSTILE: readonly FcmMode[] = [
  'quota',
  'unavailable',
  'internal',
  'accept_then_reset',
  'hang',
]
const SHARE_OF_EACH = 0.1
const RETRY_AFTER_S: Partial<Readonly<Record<FcmMode, number>>> = { quota: 2, unavailable: 1 }

export const RETRY_AFTER_MS: Partial<Readonly<Record<FcmMode, number>>> = Object.fromEntries(
  Object.entries(RETRY_AFTER_S).map(([mode, seconds]) => [mode, seconds * 1_000]),
)

export function makeHostile(fcm: Pick<FakeFcm, 'setMode'>, random: () => number): void {
  fcm.setMode({ fcm: () => behaviour(random()) })
}

function behaviour(drawn: number): Behaviour {
  const mode = HOSTILE[Math.floor(drawn / SHARE_OF_EACH)] ?? 'ok'
  const retryAfterS = RETRY_AFTER_S[mode]
  return retryAfterS === undefined ? mode : { mode, retryAfter: String(retryAfterS) }
}

/** Formats shares as `429: 10 %, …`. */
export function answersOf(journal: FakeFcm['journal']): string {
  const counts = new Map<FcmMode, number>()
  for (const { mode } of journal) counts.set(mode, (counts.get(mode) ?? 0) + 1)
  return [...counts].map(([mode, count]) => `${count} ${mode}`).join(', ')
}
