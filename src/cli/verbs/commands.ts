/** `commands`: what was sent, and how it ended. */
import type { Command, CommandStatus } from '../api/openapi.ts'
import { pages } from '../api/pages.ts'
import { ago } from '../terminal/ago.ts'
import { LIMIT, limitOf, printList } from '../terminal/list.ts'
import type { Cell } from '../terminal/table.ts'
import { visible } from '../terminal/text.ts'
import { UsageError } from '../usage.ts'
import { EXIT, type Verb } from '../verb.ts'
import { findDevice } from '../why/phone.ts'

const STATUSES: Readonly<Record<CommandStatus, true>> = {
  queued: true,
  sent: true,
  delivered: true,
  push_failed: true,
  completed: true,
  expired: true,
  cancelled: true,
}

export const commandList = (now: () => Date) => ({
  columns: [
    { title: 'SENT', isFixed: true },
    { title: 'ALIAS' },
    { title: 'ACTION' },
    { title: 'STATUS', isFixed: true },
    { title: 'OUTCOME', isFixed: true },
    { title: 'COMMAND' },
    { title: 'BY' },
    { title: 'PUSH', isFixed: true },
    { title: 'MESSAGE' },
  ] as const,
  nothing: 'No command matches.',
  row: ({
    created_at,
    alias,
    action,
    status,
    result,
    request_id,
    admin,
    push,
  }: Command): readonly Cell[] => [
    ...[ago(created_at, now()), alias, action, status, result?.outcome, request_id, admin],
    ...[push.state, result?.message],
  ],
})

export const commandsVerb: Verb = {
  name: 'commands',
  summary: 'list commands, newest first',
  words: '[ALIAS | DEVICE_ID]',
  count: [0, 1],
  options: {
    status: { value: 'STATUS', help: Object.keys(STATUSES).join(', ') },
    action: { value: 'ACTION', help: 'only of this action' },
    ...LIMIT,
  },
  calls: ['listCommands', 'listDevices', 'readDevice'],
  examples: ['commands', 'commands D01 --limit 10', 'commands --status queued --action ring'],
  async run(context) {
    const { args, terminal } = context
    const api = context.api()
    const [name] = args.words
    const status = statusOf(args.text('status'))
    const action = args.text('action')
    const phone = name === undefined ? undefined : await findDevice(api, name)
    if (name !== undefined && phone === undefined) {
      terminal.note(`No phone has the name ${visible(name)}. fleetloop why ${visible(name)}`)
      return EXIT.no
    }
    const query = {
      ...(phone !== undefined && { device_id: phone.device_id }),
      ...(status !== undefined && { status }),
      ...(action !== undefined && { action }),
    }
    const found = pages(api, 'listCommands', 'commands', query, limitOf(context))
    await printList(context, commandList(api.now), found)
    return EXIT.ok
  },
}

function statusOf(text: string | undefined): CommandStatus | undefined {
  if (text === undefined || isStatus(text)) return text
  throw new UsageError(`--status takes ${Object.keys(STATUSES).join(', ')}.`)
}

function isStatus(text: string): text is CommandStatus {
  return Object.hasOwn(STATUSES, text)
}
