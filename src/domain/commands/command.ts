/**
 * Decides the status of a command that admins see, and the reason why it has not run.
 *
 * state: open → completed (a result in time) | expired (now >= expires_at) | cancelled (by an admin, or because the
 * device was deleted). The last three are final; a later result is stored and marked late.
 *
 * push_state, while open: waiting → sending (leased by a dispatcher) → sent | backoff → sending … | gave_up | no_token.
 * All but sending return to waiting when the device reports another push token: at once, or when its limit of changes
 * allows. paused: the sender is misconfigured. off: push is not configured. In every push_state the next heartbeat
 * delivers the command.
 */
import { lastPush, lowered, misnamed, outage } from './verdict-sentences.ts'

export type CommandState = 'open' | 'completed' | 'expired' | 'cancelled'

export type PushState =
  | 'off'
  | 'no_token'
  | 'waiting'
  | 'sending'
  | 'backoff'
  | 'paused'
  | 'sent'
  | 'gave_up'

/** Of a command that has not ended. */
export const OPEN_STATUSES = ['queued', 'sent', 'delivered', 'push_failed'] as const

export const COMMAND_STATUSES = [...OPEN_STATUSES, 'completed', 'expired', 'cancelled'] as const

export type CommandStatus = (typeof COMMAND_STATUSES)[number]

export const OUTCOMES = ['success', 'failure', 'timeout', 'rejected'] as const

export type Outcome = (typeof OUTCOMES)[number]

export interface CommandFacts {
  readonly state: CommandState
  readonly pushState: PushState
  readonly expiresAt: Date
  readonly deliveredAt: Date | null
  readonly outcome: Outcome | null
  readonly isLateResult: boolean
  readonly nextAttemptAt: Date | null
  /** Of the last push; null if FCM did not respond. */
  readonly fcmHttpCode: number | null
  /** Of the last push; null if there was none. */
  readonly fcmStatus: string | null
}

export interface DeviceFacts {
  readonly isDeleted: boolean
  readonly lastSeenAt: Date | null
  readonly hasPushToken: boolean
  readonly isPushTokenDead: boolean
  /** A fcm_token with the form of a FID: FCM takes it as a FID only. */
  readonly isFidMisnamed: boolean
  /** When FCM last lowered the priority of a message; null once one came unchanged. */
  readonly pushLoweredAt: Date | null
}

/** `now` is the database's clock. A command is expired from `expiresAt` on, even before the sweep has stored it. */
export function stateAt(
  command: Pick<CommandFacts, 'state' | 'expiresAt'>,
  now: Date,
): CommandState {
  return command.state === 'open' && now >= command.expiresAt ? 'expired' : command.state
}

export function statusAt(
  command: Pick<CommandFacts, 'state' | 'expiresAt' | 'pushState' | 'deliveredAt'>,
  now: Date,
): CommandStatus {
  const state = stateAt(command, now)
  if (state !== 'open') return state
  if (command.deliveredAt !== null) return 'delivered'
  switch (command.pushState) {
    case 'sent':
      return 'sent'
    case 'gave_up':
    case 'no_token':
      return 'push_failed'
    default:
      return 'queued'
  }
}

export type VerdictCode =
  | 'completed'
  | 'failed_on_device'
  | 'ran_after_end'
  | 'expired'
  | 'cancelled'
  | 'device_deleted'
  | 'delivered_waiting_for_result'
  | 'device_never_seen'
  | 'push_off'
  | 'push_misconfigured'
  | 'push_token_dead'
  | 'no_push_token'
  | 'device_offline'
  | 'push_backoff'
  | 'pushed_waiting_for_device'
  | 'waiting_first_push'

/** Why a replica's sender does not push the commands that are due. */
export type SenderTrouble =
  /** FCM refuses our credentials or project. */
  | { readonly kind: 'paused'; readonly since: Date }
  /** Every push since then has failed. `fcmStatus` is the latest. */
  | { readonly kind: 'failing'; readonly since: Date; readonly fcmStatus: string }

/** The moment and the replica that a verdict is for. */
export interface AskedAt {
  /** The database's clock. */
  readonly now: Date
  /** DEVICE_OFFLINE_S. */
  readonly offlineAfterS: number
  readonly senderTrouble: SenderTrouble | undefined
}

export interface Verdict {
  readonly code: VerdictCode
  readonly detail: string
}

/** Says whether the command ran, or why not. The first rule that holds gives the code; `detail` names the others. */
export function verdictAt(command: CommandFacts, device: DeviceFacts, asked: AskedAt): Verdict {
  const facts = { command, device, ...asked }
  const [first = WAITING, ...others] = RULES.filter((rule) => rule.holds(facts))
  const also = others.length === 0 ? '' : ` Also: ${others.map(({ code }) => code).join(', ')}.`
  return { code: first.code, detail: first.explain(facts) + also }
}

export interface VerdictFacts extends AskedAt {
  readonly command: CommandFacts
  readonly device: DeviceFacts
}

interface Rule {
  readonly code: VerdictCode
  readonly holds: (facts: VerdictFacts) => boolean
  readonly explain: (facts: VerdictFacts) => string
}

const isOpen = ({ command, now }: VerdictFacts) => stateAt(command, now) === 'open'
const isExpired = ({ command, now }: VerdictFacts) => stateAt(command, now) === 'expired'
/** Without a result, and open or expired: then the push state says what kept it from running. */
const lacksResult = (facts: VerdictFacts) =>
  facts.command.outcome === null && (isOpen(facts) || isExpired(facts))
const isPush = ({ command }: VerdictFacts, ...states: readonly PushState[]) =>
  states.includes(command.pushState)
const seen = ({ device }: VerdictFacts) => device.lastSeenAt?.toISOString() ?? 'never'

/** For an expired command, as of its expiry: a device that came back later was still offline then. */
function isOffline({ command, device, now, offlineAfterS }: VerdictFacts): boolean {
  const atMs = Math.min(now.getTime(), command.expiresAt.getTime())
  return device.lastSeenAt !== null && atMs - device.lastSeenAt.getTime() > offlineAfterS * 1_000
}

/** Also the verdict when no rule holds, that is when push gave up: there is no code for that. */
const WAITING: Rule = {
  code: 'waiting_first_push',
  holds: (facts) => lacksResult(facts) && isPush(facts, 'waiting', 'sending'),
  explain(facts) {
    if (isPush(facts, 'gave_up'))
      return `Push gave up; the next heartbeat delivers it.${lastPush(facts)}`
    if (isPush(facts, 'sending')) return `The push is under way.${outage(facts)}`
    const { nextAttemptAt } = facts.command
    if (nextAttemptAt !== null && nextAttemptAt > facts.now) {
      return `The device changes its push token too often: the push is due at ${nextAttemptAt.toISOString()}.`
    }
    return `The push is due.${outage(facts)}`
  },
}

/** In order of precedence. */
const RULES: readonly Rule[] = [
  {
    code: 'completed',
    holds: ({ command }) => command.state === 'completed' && command.outcome === 'success',
    explain: () => 'The device ran it and reported success.',
  },
  {
    code: 'failed_on_device',
    holds: ({ command }) => command.outcome !== null && command.outcome !== 'success',
    explain: ({ command }) => `The device reported ${command.outcome}: see the result.`,
  },
  {
    code: 'ran_after_end',
    holds: ({ command }) => command.isLateResult,
    explain: ({ command }) =>
      `The device reported ${command.outcome} after the command had ended (${command.state}).`,
  },
  {
    code: 'expired',
    holds: isExpired,
    explain: (facts) => {
      const { expiresAt, deliveredAt } = facts.command
      const handedOver = deliveredAt === null ? '; it was never' : ', though it was'
      return `No result came before ${expiresAt.toISOString()}${handedOver} handed over.${lastPush(facts)}`
    },
  },
  {
    code: 'cancelled',
    holds: ({ command }) => command.state === 'cancelled',
    explain: () => 'It was cancelled: the timeline names by whom.',
  },
  {
    code: 'device_deleted',
    holds: ({ device }) => device.isDeleted,
    explain: () => 'The device was deleted.',
  },
  {
    code: 'delivered_waiting_for_result',
    holds: (facts) => isOpen(facts) && facts.command.deliveredAt !== null,
    explain: (facts) =>
      `Handed over at ${facts.command.deliveredAt?.toISOString()}; no result yet. Device last seen ${seen(facts)}.`,
  },
  {
    code: 'device_never_seen',
    holds: (facts) => lacksResult(facts) && facts.device.lastSeenAt === null,
    explain: () => 'The device enrolled but has never sent a heartbeat.',
  },
  {
    code: 'push_off',
    holds: (facts) => lacksResult(facts) && isPush(facts, 'off'),
    explain: () => 'No FCM credentials are configured; the next heartbeat delivers it.',
  },
  {
    code: 'push_misconfigured',
    holds: (facts) => lacksResult(facts) && isPush(facts, 'paused'),
    explain: (facts) =>
      `FCM refuses our credentials or project: see push.paused in the log. The next heartbeat delivers it.${lastPush(facts)}`,
  },
  {
    code: 'push_token_dead',
    holds: (facts) =>
      lacksResult(facts) && facts.device.hasPushToken && facts.device.isPushTokenDead,
    explain: (facts) =>
      `FCM calls the push token dead; the next heartbeat delivers it.${lastPush(facts)}${misnamed(facts)}`,
  },
  {
    // Neither a token that came after the end counts, nor one that was removed with the device.
    code: 'no_push_token',
    holds: (facts) =>
      lacksResult(facts) &&
      !facts.device.isPushTokenDead &&
      (isPush(facts, 'no_token') || (!facts.device.hasPushToken && !facts.device.isDeleted)),
    explain: () => 'The device gave no push token; the next heartbeat delivers it.',
  },
  {
    code: 'device_offline',
    holds: (facts) => lacksResult(facts) && isOffline(facts),
    explain: (facts) => `No contact since ${seen(facts)}.`,
  },
  {
    code: 'push_backoff',
    holds: (facts) => lacksResult(facts) && isPush(facts, 'backoff'),
    explain: (facts) =>
      `The last push failed; the next is due at ${facts.command.nextAttemptAt?.toISOString() ?? 'once'}.${lastPush(facts)}${outage(facts)}`,
  },
  {
    code: 'pushed_waiting_for_device',
    holds: (facts) => lacksResult(facts) && isPush(facts, 'sent'),
    explain: (facts) =>
      `FCM accepted it; the device was last seen ${seen(facts)}.${lowered(facts)}${misnamed(facts)}`,
  },
  WAITING,
]
