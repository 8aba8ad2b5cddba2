/** Compares the journals of promise R5: fake FCM, phones and database. */

import type { Figure } from '../drill.ts'
import {
  type CommandsJournal,
  inOrderSent,
  type Message,
  type PushJournal,
  pushMessageOf,
} from './journal.ts'
import { checkSpacing, type SpacingRules } from './spacing.ts'
import type { Stored, StoredCommand } from './stored.ts'

export interface Evidence {
  readonly journal: CommandsJournal
  readonly pushes: PushJournal
  readonly stored: Stored
  readonly rules: SpacingRules
  /** Sends under way at once, over all killed processes: these attempts may be unrecorded. */
  readonly mostLostAttempts: number
}

export function checkCommands(given: Evidence): readonly Figure[] {
  const evidence = { ...given, pushes: inOrderSent(given.pushes) }
  return [
    allEnded(evidence),
    nothingMissing(evidence),
    oneEnding(evidence),
    ranOnce(evidence),
    attemptsRise(evidence),
    attemptsAccounted(evidence),
    checkSpacing(evidence.pushes, evidence.stored, evidence.rules),
  ]
}

/** The evidence about the endings of commands. */
type Endings = Pick<Evidence, 'journal' | 'stored'>

export function allEnded({ stored, journal }: Endings): Figure {
  const counts = { completed: 0, expired: 0, cancelled: 0, open: 0 }
  for (const { state } of stored.commands.values()) counts[state] += 1
  const { completed, expired, cancelled, open } = counts
  return {
    promise: 'created = completed + expired + cancelled + open, none open at the end',
    measured: `${stored.commands.size} = ${completed} + ${expired} + ${cancelled} + ${open}; ${journal.accepted.size} acknowledged`,
    isHeld: open === 0 && stored.commands.size === journal.accepted.size,
  }
}

export function nothingMissing({ stored, journal }: Endings): Figure {
  const isMissing = (requestId: string) => !stored.commands.has(requestId)
  const commands = [...journal.accepted].filter(isMissing)
  const cancels = [...journal.cancelled].filter(
    (requestId) => stored.commands.get(requestId)?.state !== 'cancelled',
  )
  const results = [...journal.reported].filter(
    (requestId) => stored.commands.get(requestId)?.hasResult !== true,
  )
  const heartbeats = [...journal.heartbeats].filter((id) => !stored.heartbeats.has(id))
  return {
    promise: 'nothing acknowledged is missing: commands, cancellations, results, heartbeats',
    measured: `missing: ${commands.length} of ${journal.accepted.size}, ${cancels.length} of ${journal.cancelled.size}, ${results.length} of ${journal.reported.size}, ${heartbeats.length} of ${journal.heartbeats.size}${shown([...commands, ...cancels, ...results])}`,
    isHeld:
      [commands, cancels, results, heartbeats].every(({ length }) => length === 0) &&
      [journal.accepted, journal.reported, journal.heartbeats].every(({ size }) => size > 0),
  }
}

function isOneEnding(stored: Stored, { requestId, state, hasResult, isLate }: StoredCommand) {
  const results = stored.endings(requestId, 'result')
  const expired = stored.endings(requestId, 'expired')
  const cancelled = stored.endings(requestId, 'cancelled')
  if (results !== Number(hasResult)) return false
  if (state === 'completed') return hasResult && !isLate && expired + cancelled === 0
  if (hasResult !== isLate) return false
  return expired === Number(state === 'expired') && cancelled === Number(state === 'cancelled')
}

function oneEnding({ stored }: Evidence): Figure {
  const commands = [...stored.commands.values()]
  const odd = commands.filter((command) => !isOneEnding(stored, command))
  const late = commands.filter(({ isLate }) => isLate).length
  return {
    promise: 'each command in exactly one terminal state, and its timeline says so once',
    measured: `${odd.length} with another story${shown(odd.map(({ requestId }) => requestId))}; ${late} ran after their end, marked late`,
    isHeld: odd.length === 0,
  }
}

export function ranOnce({ stored, journal }: Endings): Figure {
  const twice = [...journal.runs].filter(([, times]) => times > 1).map(([id]) => id)
  const untold = [...journal.runs.keys()].filter(
    (id) => stored.commands.get(id)?.hasResult !== true,
  )
  const notRun = [...stored.commands.values()]
    .filter(({ requestId, hasResult }) => hasResult && !journal.runs.has(requestId))
    .map(({ requestId }) => requestId)
  return {
    promise:
      'none run twice; each that ran has its result, each result was run; no message refused',
    measured: `${journal.runs.size} ran, ${twice.length} twice, ${untold.length} without result, ${notRun.length} with a result that none ran, ${journal.refused.length} messages refused${shown([...twice, ...untold, ...notRun])}`,
    isHeld: [twice, untold, notRun, journal.refused].every(({ length }) => length === 0),
  }
}

/** Messages by command, in the order of the list. */
function byCommand(messages: readonly Message[]): ReadonlyMap<string, readonly number[]> {
  const attempts = new Map<string, number[]>()
  for (const { requestId, attempt } of messages) {
    const known = attempts.get(requestId)
    if (known === undefined) attempts.set(requestId, [attempt])
    else known.push(attempt)
  }
  return attempts
}

const isRising = (attempts: readonly number[]) =>
  attempts.every((attempt, index) => attempt > (attempts[index - 1] ?? 0))

/** The two channels may overtake each other, so the order counts in each; no number is used twice. */
function attemptsRise({ stored, journal, pushes }: Evidence): Figure {
  const pushed = byCommand(pushes.map(pushMessageOf))
  const mailed = byCommand(journal.mailbox)
  const ids = new Set([...pushed.keys(), ...mailed.keys()])
  const faults = [...ids].filter((id) => {
    const [byPush, byMailbox] = [pushed.get(id) ?? [], mailed.get(id) ?? []]
    const all = [...byPush, ...byMailbox]
    return (
      !isRising(byPush) ||
      !isRising(byMailbox) ||
      new Set(all).size < all.length ||
      Math.max(...all) > (stored.commands.get(id)?.attempt ?? 0)
    )
  })
  const repeats = pushes.length + journal.mailbox.length - ids.size
  return {
    promise: 'every repeated message carries a higher attempt, by push and by mailbox',
    measured: `${pushes.length} pushes, ${journal.mailbox.length} by mailbox, ${repeats} of them repeats; ${faults.length} commands at fault${shown(faults)}`,
    isHeld: faults.length === 0,
  }
}

function attemptsAccounted({ stored, pushes, mostLostAttempts }: Evidence): Figure {
  const pushed = byCommand(pushes.map(pushMessageOf))
  let lost = 0
  const odd: string[] = []
  for (const { requestId, attempt, pushAttempts, deliveries } of stored.commands.values()) {
    if (attempt !== pushAttempts + deliveries) odd.push(requestId)
    const known = new Set(pushed.get(requestId))
    for (let nth = 1; nth <= attempt; nth += 1) {
      if (stored.recorded(requestId, nth) !== undefined) known.add(nth)
    }
    lost += pushAttempts - known.size
  }
  return {
    promise: `attempt = pushes + hand-overs; at most ${mostLostAttempts} pushes neither arrived nor recorded, by kills`,
    measured: `${odd.length} do not add up${shown(odd)}; ${lost} lost`,
    isHeld: odd.length === 0 && lost >= 0 && lost <= mostLostAttempts,
  }
}

function shown(ids: readonly string[]): string {
  return ids.length === 0 ? '' : ` (${ids.slice(0, 5).join(', ')})`
}
