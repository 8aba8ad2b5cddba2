/** The fields of a body that acts on a selection: which devices, and how many the caller expects. */
import { invalidField } from '../../domain/errors.ts'
import { parseSelection } from '../../domain/selection/parse.ts'
import type { Selection } from '../../domain/selection/terms.ts'
import { type Fields, field, optionalInt } from '../../http/fields.ts'

const EXPECTED = { min: 0, max: 1_000_000_000 } as const

export interface SelectionFields {
  /** As it was written. */
  readonly where: string
  readonly selection: Selection
  /** undefined: any number. */
  readonly expectDevices: number | undefined
}

/** An empty text selects every device, so that leaving `where` out must not. */
export function readSelection(body: Fields): SelectionFields {
  const where = field(body, 'where')
  if (where === undefined) throw invalidField('where', 'is required; "" selects every device')
  if (typeof where !== 'string') throw invalidField('where', 'must be a string')
  const expectDevices = optionalInt(body, 'expect_devices', EXPECTED)
  return { where, selection: parseSelection(where), expectDevices }
}
