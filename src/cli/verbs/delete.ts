/** `delete`: phones that are gone for good. */
import { ApiError } from '../api/client.ts'
import { visible } from '../terminal/text.ts'
import { EXIT, type ExitCode, type Verb } from '../verb.ts'
import { allDevices, parseWhere, WHERE_NOTES } from '../where.ts'
import { agree, DRY_RUN, phonePlan, YES } from './agree.ts'

export const deleteVerb: Verb = {
  name: 'delete',
  summary: 'delete phones: their tokens die, their open commands are cancelled',
  words: 'WHERE …',
  count: [1, 16],
  options: { ...DRY_RUN, ...YES },
  calls: ['listDevices', 'deleteDevice'],
  examples: ["delete 'OLD-*' 'seen>30d' --dry-run", 'delete OLD-1'],
  notes: [...WHERE_NOTES, 'More than one phone: it shows them and asks first.'],
  async run(context) {
    const { args, terminal } = context
    const api = context.api()
    const devices = await allDevices(api, parseWhere(args.words))
    if (devices.length === 0) {
      terminal.note('No phone matches.')
      return EXIT.no
    }
    const decision = await agree(context, phonePlan('delete', devices, api.now()))
    if (decision !== 'yes') return decision === 'dry' ? EXIT.ok : EXIT.no
    let code: ExitCode = EXIT.ok
    for (const [index, { device_id, alias }] of devices.entries()) {
      try {
        await api.call('deleteDevice', { path: { device_id } })
        terminal.note(`${visible(alias)} deleted (${index + 1} of ${devices.length})`)
      } catch (error) {
        if (!(error instanceof ApiError) || error.failure !== 'refused') throw error
        terminal.note(error.message)
        code = EXIT.no
      }
    }
    return code
  },
}
