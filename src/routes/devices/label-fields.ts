/** Reads `labels` of a body: of an enrollment token, or the change of a device's labels. */
import { invalidField } from '../../domain/errors.ts'
import {
  LABEL_KEY,
  type LabelChange,
  type Labels,
  MAX_CHANGED_LABELS,
  MAX_LABEL_LENGTH,
  MAX_LABELS,
} from '../../domain/labels.ts'
import { type Fields, field, isObject, refuseUnsafe } from '../../http/fields.ts'

/** Labels that are all set; none if the field is absent. */
export function readLabels(body: Fields): Labels {
  const entries = entriesOf(field(body, 'labels') ?? {}, MAX_LABELS)
  return Object.fromEntries(entries.map(([key, value]) => [key, labelText(key, value)]))
}

export function readLabelChange(body: Fields): LabelChange {
  const labels = field(body, 'labels')
  if (labels === undefined) throw invalidField('labels', 'is required')
  const entries = entriesOf(labels, MAX_CHANGED_LABELS)
  if (entries.length === 0) throw invalidField('labels', 'must name a label')
  return Object.fromEntries(
    entries.map(([key, value]) => [key, value === null ? null : labelText(key, value)]),
  )
}

function entriesOf(labels: unknown, most: number): readonly (readonly [string, unknown])[] {
  if (!isObject(labels)) throw invalidField('labels', 'must be an object of strings')
  const entries = Object.entries(labels)
  if (entries.length > most) {
    throw invalidField('labels', `may name at most ${most} labels, not ${entries.length}`)
  }
  for (const [key] of entries) {
    if (LABEL_KEY.test(key)) continue
    throw invalidField(`labels.${key.slice(0, 64)}`, `names must match ${LABEL_KEY.source}`)
  }
  return entries
}

function labelText(key: string, value: unknown): string {
  const name = `labels.${key}`
  if (typeof value !== 'string') throw invalidField(name, 'must be a string')
  if (value.length > MAX_LABEL_LENGTH) {
    throw invalidField(name, `must be at most ${MAX_LABEL_LENGTH} characters`)
  }
  refuseUnsafe(name, value, '')
  return value
}
