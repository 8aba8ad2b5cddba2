/** `delete` and `erase`: phones that are gone for good. */
import { agree, DRY_RUN, phonePlan, YES } from '../terminal/agree.ts'
import { oneByOne } from '../terminal/one-by-one.ts'
import { visible } from '../terminal/text.ts'
import { EXIT, type Verb } from '../verb.ts'
import { allDevices, WHERE_NOTES, whereToChange } from '../where.ts'
import { findDevice, UUID } from '../why/phone.ts'

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
    const where = whereToChange(args.words)
    const api = context.api()
    const devices = await allDevices(api, where)
    if (devices.length === 0) {
      terminal.note('No phone matches.')
      return EXIT.no
    }
    const decision = await agree(context, phonePlan('delete', devices, api.now()))
    if (decision !== 'yes') return decision === 'dry' ? EXIT.ok : EXIT.no
    return oneByOne(terminal, devices, async ({ device_id, alias }, index) => {
      await api.call('deleteDevice', { path: { device_id } })
      terminal.note(`${visible(alias)} deleted (${index + 1} of ${devices.length})`)
    })
  },
}

export const eraseVerb: Verb = {
  name: 'erase',
  summary: 'delete a phone and all that is known of it',
  words: 'ALIAS | DEVICE_ID',
  count: [1, 1],
  options: { ...YES },
  calls: ['readDevice', 'listDevices', 'deleteDevice'],
  examples: ['erase OLD-2 --yes'],
  notes: ['A phone that was deleted earlier is erased by its device id. It asks first.'],
  async run(context) {
    const { args, terminal } = context
    const [name = ''] = args.words
    const api = context.api()
    const device = await findDevice(api, name)
    const device_id = device?.device_id ?? (UUID.test(name) ? name.toLowerCase() : undefined)
    if (device_id === undefined) {
      terminal.note(`No phone has the name ${visible(name)}.`)
      return EXIT.no
    }
    const plan = {
      ...{ verb: 'erase', noun: 'phones', titles: ['ALIAS', 'DEVICE ID'], isFinal: true },
      rows: [[device?.alias ?? null, device_id]],
    }
    if ((await agree(context, plan)) !== 'yes') return EXIT.no
    await api.call('deleteDevice', { path: { device_id }, query: { erase: 'true' } })
    terminal.note(`${visible(name)} erased`)
    return EXIT.ok
  },
}
