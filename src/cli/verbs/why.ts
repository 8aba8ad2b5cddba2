/** `why`: explains a command, a phone, a job or an enrollment token. */
import type { Api } from '../api/client.ts'
import { jsonLine, wrap } from '../terminal/text.ts'
import { EXIT, type Verb } from '../verb.ts'
import { findCommand } from '../why/command.ts'
import { explain, nothingHas, refuseSecret } from '../why/explain.ts'
import { findJob } from '../why/job.ts'
import { findDevice } from '../why/phone.ts'
import { findToken } from '../why/token.ts'

/** Of what a long line goes on with. */
const INDENT = 4

export const whyVerb: Verb = {
  name: 'why',
  summary: 'explain why a command or a job has not run, a phone is offline, or a token is refused',
  words: 'ALIAS | DEVICE_ID | COMMAND | JOB | TOKEN_ID',
  count: [1, 1],
  options: {},
  calls: [
    ...(['readCommand', 'readJob', 'listMembers', 'listDevices', 'readDevice'] as const),
    ...(['listCommands', 'listEnrollmentTokens', 'audit', 'listBuilds'] as const),
  ],
  examples: ['why D01', 'why ring-1', 'why reboot-1'],
  async run({ terminal, args, isJson, api }) {
    const [name = ''] = args.words
    const client = api()
    const lines = isJson ? await objectOf(client, name) : await explain(client, name)
    if (lines.length === 0) {
      terminal.note(nothingHas(name))
      return EXIT.no
    }
    for (const line of lines) {
      const shown = isJson ? [line] : wrap(line, terminal.width, INDENT)
      for (const part of shown) await terminal.print(part)
    }
    return EXIT.ok
  },
}

/** The command with its verdict, or else the job, the phone or the token. */
async function objectOf(api: Api, name: string): Promise<readonly string[]> {
  refuseSecret(name)
  for (const find of [findCommand, findJob, findDevice, findToken]) {
    const found = await find(api, name)
    if (found !== undefined) return [jsonLine(found)]
  }
  return []
}
