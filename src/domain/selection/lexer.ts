/**
 * Splits a selection into terms and a term into its parts. A double quote begins or ends a quoted part anywhere in a value;
 * inside it spaces, commas and operators are plain characters.
 */
import { unsafeCharacter } from '../../lib/text.ts'
import { code, selectionError, termError } from './errors.ts'

export const MAX_TERMS = 16
/** In UTF-16 units, as every text of the API. */
export const MAX_CHARACTERS = 1_024

/** A term as it is written, with the position of its first character from 1. */
export interface Written {
  readonly text: string
  readonly at: number
}

export interface TermParts extends Written {
  readonly isNegated: boolean
  readonly name: string
  readonly operator: Operator | undefined
  /** What follows the operator, its quotes included. */
  readonly rest: string
}

const OPERATORS = [':', '!=', '<=', '>=', '<', '>', '='] as const
export type Operator = (typeof OPERATORS)[number]

/** Characters that look like the grammar's own, and come from texts that were typeset. */
const LOOKALIKE = /[^\P{Zs} ]|[“”„‟″＂]/u

/** Throws 422 `invalid_field` for a text that is no list of terms. */
export function splitTerms(text: string): readonly Written[] {
  if (text.length > MAX_CHARACTERS) {
    throw selectionError(`must be at most ${MAX_CHARACTERS} characters, not ${text.length}`)
  }
  const unsafe = unsafeCharacter(text)
  if (unsafe !== undefined) {
    throw selectionError(`holds ${unsafe}: control, direction and invisible characters are refused`)
  }
  refuseOpenQuote(text)
  const terms: Written[] = []
  for (let start = 0; start < text.length; ) {
    const end = indexOutsideQuotes(text, ' ', start)
    if (end > start) terms.push({ text: text.slice(start, end), at: start + 1 })
    start = end + 1
  }
  const surplus = terms[MAX_TERMS]
  if (surplus !== undefined) {
    throw termError(surplus, `at most ${MAX_TERMS} terms, not ${terms.length}`)
  }
  terms.forEach(refuseLookalike)
  return terms
}

export function partsOf(term: Written): TermParts {
  const isNegated = term.text.startsWith('-')
  const body = isNegated ? term.text.slice(1) : term.text
  const [name, operator, rest] = splitAtOperator(body)
  return { ...term, isNegated, name, operator, rest }
}

/** Before the first operator, the operator, after it. */
export function splitAtOperator(text: string): [string, Operator | undefined, string] {
  for (let at = 0; at < text.length; at += 1) {
    at = indexOutsideQuotes(text, ':!<>=', at)
    const operator = OPERATORS.find((known) => text.startsWith(known, at))
    if (operator !== undefined) {
      return [text.slice(0, at), operator, text.slice(at + operator.length)]
    }
  }
  return [text, undefined, '']
}

/** The parts between commas, with their quotes. */
export function splitValues(text: string): readonly string[] {
  const values: string[] = []
  for (let start = 0; start <= text.length; ) {
    const end = indexOutsideQuotes(text, ',', start)
    values.push(text.slice(start, end))
    start = end + 1
  }
  return values
}

export function unquoted(text: string): string {
  return text.replaceAll('"', '')
}

/** Of the first of `characters` outside quotes, at `from` or later; the text's length where there is none. */
export function indexOutsideQuotes(text: string, characters: string, from = 0): number {
  let isQuoted = false
  for (let at = from; at < text.length; at += 1) {
    const character = text.charAt(at)
    if (character === '"') isQuoted = !isQuoted
    else if (!isQuoted && characters.includes(character)) return at
  }
  return text.length
}

function refuseOpenQuote(text: string): void {
  const quotes = text.split('"').length - 1
  if (quotes % 2 === 0) return
  const at = text.lastIndexOf('"')
  throw termError({ text: text.slice(at), at: at + 1 }, 'this quote is never closed')
}

function refuseLookalike(term: Written): void {
  const outside = term.text.replace(/"[^"]*"/g, '')
  const [found] = LOOKALIKE.exec(outside) ?? []
  if (found === undefined) return
  const isSpace = /\p{Zs}/u.test(found)
  const name = `U+${found.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}`
  const what = isSpace ? `holds ${name}, another kind of space` : `${code(found)} is no plain quote`
  throw termError(term, `${what}; type a plain ${isSpace ? 'space' : '`"`'}, or quote the value`)
}
