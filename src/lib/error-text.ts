/** An error as text, for a log line or a person. */

const MAX_ADDRESSES_SHOWN = 8

/** An AggregateError of Node (every address of a host failed) has no message: the text is that of its errors. */
export function errorText(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  if (error.message !== '') return error.message
  if (error instanceof AggregateError && error.errors.length > 0) {
    return error.errors.slice(0, MAX_ADDRESSES_SHOWN).map(errorText).join(', ')
  }
  return errorCode(error) ?? error.name
}

export function errorCode(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined
  return typeof error.code === 'string' ? error.code : undefined
}
