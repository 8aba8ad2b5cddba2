/** `why`: explains a command or a phone. */
import type { Api } from '../api/client.ts'
import { jsonLine, plain } from '../terminal/text.ts'
import { EXIT, type Verb } from '../verb.ts'
import { findCommand } from '../why/command.ts'
import { explain } from '../why/explain.ts'
import { findDevice } from './devices.ts'

export const whyVerb: Verb = {
  name: 'why',
  summary: 'explain why a command has not run, or why a phone is offline or refused',
  words: 'ALIAS | DEVICE_ID | COMMAND',
  count: [1, 1],
  options: {},
  calls: ['readCommand', 'listDevices', 'readDevice', 'listCommands', 'audit', 'listBuilds'],
  examples: ['why D01', 'why ring-1'],
  async run({ terminal, args, isJson, api }) {
    const [name = ''] = args.words
    const client = api()
    const lines = isJson ? await objectOf(client, name) : await explain(client, name)
    if (lines.length === 0) {
      terminal.note(
        `No phone, no command and no enrollment token here has the name ${plain(name)}.`,
      )
      return EXIT.no
    }
    for (const line of lines) await terminal.print(line)
    return EXIT.ok
  },
}

/** The command with its verdict, or else the phone. */
async function objectOf(api: Api, name: string): Promise<readonly string[]> {
  const found = (await findCommand(api, name)) ?? (await findDevice(api, name))
  return found === undefined ? [] : [jsonLine(found)]
}
