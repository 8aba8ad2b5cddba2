/** The phones of the jobs drill: how each answers a command, and what they know of it. */
import type { CommandData, RunResult } from '../../sim/device/commands.ts'
import type { Habits } from '../../sim/device/habits.ts'
import type { FleetOptions } from '../../sim/fleet.ts'
import type { Send } from '../../testkit/http/client.ts'
import type { JournalWriter } from '../commands/journal.ts'

/** `never`: runs a command and never reports it. `offline`: is never heard of. */
type Kind = 'prompt' | 'late' | 'twice' | 'failing' | 'never' | 'offline'

/** Of each 50 phones, by number; the others are prompt. */
const KINDS: readonly Kind[] = [
  ...['offline', 'never', 'late', 'late', 'late', 'twice', 'twice'],
  ...['failing', 'failing', 'failing', 'failing', 'failing'],
] as const
const OF_EACH = 50
const LATE_MS = 5_000
const NEVER_S = 10_000_000
/** Two of three failing phones say this. */
export const COMMON_FAILURE = 'battery low'
const RARE_FAILURE = 'disk full'
/** Param of a job at which three phones of ten fail. */
export const FRAGILE = { part: 'fragile' } as const

/** One command that a phone has run. */
export interface Ran {
  readonly outcome: RunResult['outcome']
  readonly message: string
  readonly expiresAtMs: number
  /** Its result was acknowledged before the command expired. */
  isReported: boolean
}

export interface Phones {
  readonly aliases: readonly string[]
  /** The first so many of their commands cannot end by a result. */
  readonly silent: number
  readonly offline: number
  habitsOf(index: number): Partial<Habits>
  watch(send: Send): Pick<FleetOptions, 'send' | 'run' | 'listener'>
  /** By request_id. */
  readonly ran: ReadonlyMap<string, Ran>
}

/** `hasSilent`: some are offline or never report, and their commands expire. */
export function jobPhones(
  devices: number,
  options: {
    readonly hasSilent: boolean
    readonly heartbeatIntervalS: number
    readonly journal: JournalWriter
  },
): Phones {
  const { hasSilent, heartbeatIntervalS, journal } = options
  const ran = new Map<string, Ran>()
  /** Byte order is the order of release. */
  const aliases = Array.from({ length: devices }, (_, n) => `J-${String(n).padStart(6, '0')}`)
  const kindOf = (index: number): Kind => {
    const kind = KINDS[index % OF_EACH] ?? 'prompt'
    return !hasSilent && (kind === 'offline' || kind === 'never') ? 'prompt' : kind
  }
  const count = (kind: Kind) => aliases.filter((_, index) => kindOf(index) === kind).length

  function run(command: CommandData, index: number): RunResult {
    const kind = kindOf(index)
    const result = resultOf(command, index, kind)
    ran.set(command['request_id'] ?? '', {
      ...result,
      expiresAtMs: Date.parse(command['expires_at'] ?? ''),
      isReported: false,
    })
    if (kind === 'never') return { ...result, report: 'never' }
    if (kind === 'late') return { ...result, report: { afterMs: LATE_MS } }
    return kind === 'twice' ? { ...result, report: 'twice' } : result
  }

  return {
    aliases,
    silent: count('offline') + count('never'),
    offline: count('offline'),
    ran,
    habitsOf(index) {
      if (kindOf(index) === 'offline') return { pushToken: null, heartbeatIntervalS: NEVER_S }
      return index % 3 === 0 ? { pushToken: null, heartbeatIntervalS } : { heartbeatIntervalS }
    },
    watch(send) {
      const watched = journal.watch(send)
      return {
        ...watched,
        listener: {
          onHeartbeat: (fact) => watched.listener?.onHeartbeat(fact),
          onCommand: (fact) => watched.listener?.onCommand(fact),
          onResult(fact) {
            watched.listener?.onResult(fact)
            const one = ran.get(fact.requestId)
            if (one !== undefined) one.isReported ||= Date.now() < one.expiresAtMs
          },
        },
        run(command, device) {
          const index = Number(device.alias.slice(2))
          // The journal expects a result of each run that it knows.
          if (kindOf(index) !== 'never') watched.run?.(command, device)
          else if (ran.has(command['request_id'] ?? '')) throw new Error('it ran twice')
          return run(command, index)
        },
      }
    },
  }
}

function resultOf(command: CommandData, index: number, kind: Kind) {
  const fails = command['part'] === FRAGILE.part ? index % 10 < 3 : kind === 'failing'
  if (!fails) return { outcome: 'success', message: 'done' } as const
  const message = index % 3 === 0 ? RARE_FAILURE : COMMON_FAILURE
  return { outcome: 'failure', message } as const
}
