/** What an error says of itself, for a line or a person. */

/** Addresses of one name that are told. */
const ADDRESSES_NAMED = 8

/** Node's AggregateError (each address of a host failed) has no message of its own: theirs then. */
export function errorText(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  if (error.message !== '') return error.message
  if (error instanceof AggregateError && error.errors.length > 0) {
    return error.errors.slice(0, ADDRESSES_NAMED).map(errorText).join(', ')
  }
  return errorCode(error) ?? error.name
}

export function errorCode(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined
  return typeof error.code === 'string' ? error.code : undefined
}
