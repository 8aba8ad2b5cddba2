/** Refusals of a selection: which term, where it is, and what to write instead. */
import { nearest } from '../../lib/nearest.ts'
import { type AppError, invalidField } from '../errors.ts'

const SHOWN_CHARACTERS = 64

/** 422 `invalid_field` about the field `where`. */
export function selectionError(reason: string): AppError {
  return invalidField('where', reason)
}

/** "`vesion_code<42` at 12: unknown term". */
export function termError(
  { text, at }: { readonly text: string; readonly at: number },
  reason: string,
): AppError {
  return selectionError(`${code(text)} at ${at}: ${reason}`)
}

/** In backquotes; cut where it is long. */
export function code(text: string): string {
  const characters = [...text]
  const isLong = characters.length > SHOWN_CHARACTERS
  return `\`${isLong ? `${characters.slice(0, SHOWN_CHARACTERS).join('')}…` : text}\``
}

/** "; did you mean `version_code`?", or nothing where no known word is near. */
export function didYouMean(word: string, known: readonly string[]): string {
  const meant = nearest(word, known)
  return meant === undefined ? '' : `; did you mean ${code(meant)}?`
}
