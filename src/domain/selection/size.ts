/** Refuses to act on a selection of another size than the caller expects. */
import { AppError, invalidField } from '../errors.ts'

/**
 * Throws AppError `selection_empty`, `selection_changed`, or `invalid_field` for more than `most` devices. `expected`
 * undefined: any number. `nothingDone` ends the message, such as `Nothing was sent.`
 */
export function requireSize(
  devices: number,
  {
    expected = devices,
    most,
    nothingDone,
  }: {
    readonly expected: number | undefined
    readonly most: number
    readonly nothingDone: string
  },
): void {
  if (devices === 0) {
    throw new AppError('selection_empty', 'No device is in this selection.', {
      errors: [{ field: 'where', message: 'selects no device' }],
    })
  }
  if (devices !== expected) {
    const message = `The selection has ${devices} devices, not ${expected}. ${nothingDone}`
    throw new AppError('selection_changed', message)
  }
  if (devices > most) {
    throw invalidField('where', `selects ${devices} devices; at most ${most} at once`)
  }
}
