/** `wait_for` of a request that waits for a command: for its first push attempt, or for its end. */
import type { CommandRow } from '../../db/commands/commands.ts'
import { stateAt } from '../../domain/commands/command.ts'
import { queryEnum } from '../../http/fields.ts'

const WAIT_FOR = ['push', 'end'] as const
export type WaitFor = (typeof WAIT_FOR)[number]

export function readWaitFor(query: URLSearchParams, fallback: WaitFor): WaitFor {
  return queryEnum(query, 'wait_for', WAIT_FOR) ?? fallback
}

/** Whether the wait is over. */
export const HAS_COME: Readonly<Record<WaitFor, (command: CommandRow) => boolean>> = {
  push: ({ state, pushState }) =>
    state !== 'open' || (pushState !== 'waiting' && pushState !== 'sending'),
  end: (command) => stateAt(command, command.now) !== 'open',
}
