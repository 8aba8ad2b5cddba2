/** `label`: labels of a selection of phones. */
import type { LabelChange } from '../api/openapi.ts'
import { agree, DRY_RUN, YES } from '../terminal/agree.ts'
import { jsonLine, visible } from '../terminal/text.ts'
import { refuseTwice, UsageError } from '../usage.ts'
import { EXIT, type Verb } from '../verb.ts'
import { WHERE_NOTES, whereToChange } from '../where.ts'

export const labelVerb: Verb = {
  name: 'label',
  summary: 'set labels of a selection of phones, or remove them',
  words: 'WHERE KEY=VALUE …',
  count: [2, 17],
  options: { ...DRY_RUN, ...YES },
  calls: ['labelSelection'],
  examples: ['label D01 site=zrh', "label 'STORE-*' ring=canary old= --yes"],
  notes: [...WHERE_NOTES, 'KEY= removes a label. More than one phone: it asks first.'],
  async run(context) {
    const { args, terminal } = context
    const [given = '', ...pairs] = args.words
    const labels = labelsOf(pairs)
    const where = whereToChange([given])
    const api = context.api()
    const preview = await api.call('labelSelection', { body: { where, labels, dry_run: true } })
    if (preview.devices === 0) {
      terminal.note('No phone matches.')
      return EXIT.no
    }
    const rows = preview.sample.map(({ alias, device_id }) => [alias, device_id])
    const titles = ['ALIAS', 'DEVICE ID']
    const { devices: count } = preview
    const plan = { verb: 'label', noun: 'phones', titles, rows, count, objects: [preview] }
    const decision = await agree(context, plan)
    if (decision !== 'yes') return decision === 'dry' ? EXIT.ok : EXIT.no
    const body = { where, labels, expect_devices: preview.devices }
    const labelled = await api.call('labelSelection', { body })
    if (context.isJson) await terminal.print(jsonLine(labelled))
    else terminal.note(`${labelled.changed} of ${preview.devices} phones changed`)
    return EXIT.ok
  },
}

/** Throws UsageError. */
export function labelsOf(pairs: readonly string[]): LabelChange {
  const labels = pairs.map((pair) => {
    const [, key, value] = /^([^=]+)=(.*)$/s.exec(pair) ?? []
    if (key === undefined) throw new UsageError(`${visible(pair)} is no KEY=VALUE.`)
    return [key, value || null] as const
  })
  const keys = labels.map(([key]) => key)
  refuseTwice(keys, (key) => `${key}= is given twice.`)
  return Object.fromEntries(labels)
}
