/** `cancel`: commands that have not run yet. */
import { agree, YES } from '../terminal/agree.ts'
import { oneByOne } from '../terminal/one-by-one.ts'
import { OutputClosedError } from '../terminal/terminal.ts'
import { jsonLine, visible } from '../terminal/text.ts'
import { EXIT, type Verb } from '../verb.ts'

export const cancelVerb: Verb = {
  name: 'cancel',
  summary: 'cancel commands that are still open',
  words: 'COMMAND …',
  count: [1, 500],
  options: { ...YES },
  calls: ['cancelCommand'],
  examples: ['cancel ring-1'],
  async run(context) {
    const { args, terminal, isJson } = context
    const api = context.api()
    const rows = args.words.map((id) => [id])
    const decision = await agree(context, {
      verb: 'cancel',
      noun: 'commands',
      titles: ['COMMAND'],
      rows,
    })
    if (decision !== 'yes') return EXIT.no
    return oneByOne(terminal, args.words, async (request_id) => {
      const command = await api.call('cancelCommand', { path: { request_id } })
      const text = isJson ? jsonLine(command) : `${visible(request_id)} ${command.status}`
      await terminal.print(text).catch((error) => {
        // `| head -1` has enough lines; the others are cancelled all the same.
        if (!(error instanceof OutputClosedError)) throw error
      })
    })
  },
}
