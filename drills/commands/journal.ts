/** What the outside knows of a run: what was acknowledged, every message that came to a phone, what the phones ran. */
import type { DeviceListener } from '../../sim/device/habits.ts'
import type { FakeFcm } from '../../sim/fcm/fake-fcm.ts'
import type { FleetOptions } from '../../sim/fleet.ts'
import { asJsonObject, bodyOf, isSuccess, type Send, textOf } from '../../testkit/http/client.ts'

export interface Message {
  readonly requestId: string
  readonly attempt: number
}

export interface CommandsJournal {
  /** Acknowledged with 2xx. */
  readonly accepted: ReadonlySet<string>
  readonly cancelled: ReadonlySet<string>
  /** Results whose 2xx a phone has seen, by command. */
  readonly reported: ReadonlySet<string>
  /** X-Request-ID of each acknowledged heartbeat. */
  readonly heartbeats: ReadonlySet<string>
  /** How often a phone ran it. */
  readonly runs: ReadonlyMap<string, number>
  /** In heartbeats' answers, in the order in which they came. */
  readonly mailbox: readonly Message[]
  /** Messages that a phone refused: signature or addressee wrong. */
  readonly refused: readonly string[]
}

export interface JournalWriter extends CommandsJournal {
  readonly accepted: Set<string>
  readonly cancelled: Set<string>
  readonly heartbeats: Set<string>
  /** What the fleet needs to write into it; `send` carries the phones' requests. */
  watch(send: Send): Pick<FleetOptions, 'send' | 'run' | 'listener'>
}

export function createCommandsJournal(): JournalWriter {
  const runs = new Map<string, number>()
  const reported = new Set<string>()
  const heartbeats = new Set<string>()
  const mailbox: Message[] = []
  const refused: string[] = []
  const listener: DeviceListener = {
    onHeartbeat: ({ httpRequestId }) => void heartbeats.add(httpRequestId),
    onResult: ({ requestId }) => void reported.add(requestId),
    onCommand({ requestId, kind }) {
      if (kind === 'refused') refused.push(requestId)
    },
  }
  return {
    accepted: new Set(),
    cancelled: new Set(),
    reported,
    heartbeats,
    runs,
    mailbox,
    refused,
    watch: (send) => ({
      listener,
      async send(request) {
        const response = await send(request)
        if (isSuccess(response)) mailbox.push(...messagesOf(bodyOf(response)['commands']))
        return response
      },
      run({ request_id: requestId = '', action = '' }) {
        runs.set(requestId, (runs.get(requestId) ?? 0) + 1)
        return { outcome: 'success', message: `${action} done` }
      },
    }),
  }
}

export type PushJournal = Pick<FakeFcm, 'journal'>['journal']

/** When the service said it, in its own words: what it gave up (FCM_TIMEOUT_MS) may arrive behind what followed. */
export const sentAtMs = ({ data }: PushJournal[number]): number => Date.parse(data['ts'] ?? '')

export function inOrderSent(pushes: PushJournal): PushJournal {
  return pushes.toSorted((one, other) => sentAtMs(one) - sentAtMs(other))
}

export function pushMessageOf({ data }: PushJournal[number]): Message {
  return { requestId: data['request_id'] ?? '', attempt: Number(data['attempt']) }
}

function messagesOf(commands: unknown): readonly Message[] {
  return (Array.isArray(commands) ? commands : []).map((command) => {
    const data = asJsonObject(command) ?? {}
    return { requestId: textOf(data, 'request_id'), attempt: Number(textOf(data, 'attempt')) }
  })
}
