/** What was observed outside: acknowledgements, every message to a phone, and what the phones ran. */
import type { DeviceListener } from '../../sim/device/habits.ts'
import type { FakeFcm } from '../../sim/fcm/fake-fcm.ts'
import type { FleetOptions } from '../../sim/fleet.ts'
import { asJsonObject, bodyOf, isSuccess, type Send, textOf } from '../../testkit/http/client.ts'

export interface Message {
  readonly requestId: string
  readonly attempt: number
}

export interface CommandsJournal {
  readonly accepted: ReadonlySet<string>
  readonly cancelled: ReadonlySet<string>
  /** Commands whose result was acknowledged with 2xx. */
  readonly reported: ReadonlySet<string>
  /** X-Request-ID of each acknowledged heartbeat. */
  readonly heartbeats: ReadonlySet<string>
  /** How often a phone ran each command. */
  readonly runs: ReadonlyMap<string, number>
  /** From heartbeat responses, in order of arrival. */
  readonly mailbox: readonly Message[]
  /** Messages with a wrong signature or addressee. */
  readonly refused: readonly string[]
}

export interface JournalWriter extends CommandsJournal {
  readonly accepted: Set<string>
  readonly cancelled: Set<string>
  readonly heartbeats: Set<string>
  /** The fleet's hooks into the journal; `send` carries the phones' requests. */
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

/**
 * When the service sent it, by its own clock: a push that it gave up (FCM_TIMEOUT_MS) may arrive after the next one.
 */
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
