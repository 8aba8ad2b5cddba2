/** What follows a term's operator: texts, words, numbers, durations, ids. */
import { isPackageName } from '../app-versions.ts'
import { isUuid } from '../ids.ts'
import { LABEL_KEY } from '../labels.ts'
import { code, didYouMean, termError } from './errors.ts'
import {
  indexOutsideQuotes,
  type Operator,
  splitAtOperator,
  splitValues,
  type TermParts,
  unquoted,
} from './lexer.ts'
import { type NumberTest, type ReadTest, TERM_EXAMPLES, TERM_NAMES, type Test } from './terms.ts'

/** A hundred years: what is subtracted from the time must leave one that PostgreSQL has. */
const MAX_DURATION_S = 36_500 * 86_400
const SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600, d: 86_400 }

const COMPARISONS = ['=', '!=', '<', '<=', '>', '>='] as const

/** Where `*` stands for any run of characters. */
export function readPatterns(parts: TermParts): readonly string[] {
  return valuesOf(parts).map(patternOf)
}

export function readDeviceIds(parts: TermParts): readonly string[] {
  return valuesOf(parts).map((value) => {
    const id = unquoted(value)
    if (!isUuid(id)) throw termError(parts, `${code(id)} is no device id, which is a UUID`)
    return id.toLowerCase()
  })
}

export function readWords(parts: TermParts, known: readonly string[]): readonly string[] {
  return valuesOf(parts).map((value) => {
    const word = unquoted(value)
    if (known.includes(word)) return word
    throw termError(parts, `${code(word)} is none of ${known.join(', ')}${didYouMean(word, known)}`)
  })
}

export function readBoolean(parts: TermParts): boolean {
  const [value = '', ...others] = valuesOf(parts)
  if (others.length > 0 || !['true', 'false'].includes(unquoted(value))) {
    throw termError(parts, 'the value is true or false')
  }
  return unquoted(value) === 'true'
}

/** `site=zrh,bern`: any of its values. `site,ring`: has any of them. */
export function readLabel(parts: TermParts): Test {
  requireOperator(parts, [':'])
  const [first = '', ...others] = listOf(parts, parts.rest, asWritten)
  const [key, value] = splitLabel(first)
  if (value === undefined) {
    return { kind: 'has_label', keys: [first, ...others].map((name) => labelKey(parts, name)) }
  }
  if (key.endsWith('!')) {
    const instead = `-label:${key.slice(0, -1)}=${value}`
    throw termError(parts, `a label is compared by \`=\` only; write ${code(instead)}`)
  }
  const patterns = listOf(parts, [value, ...others].join(','), asWritten).map((each) => {
    if (indexOutsideQuotes(each, '=') < each.length) {
      throw termError(parts, 'one label a term; quote a value that holds `=`')
    }
    return patternOf(each)
  })
  return { kind: 'label', key: labelKey(parts, key), patterns }
}

/** The value with its quotes: `site="a b"` and `"site=a b"` are one. undefined: a key only. */
function splitLabel(label: string): [string, string | undefined] {
  const at = indexOutsideQuotes(label, '=')
  if (at < label.length) return [label.slice(0, at), label.slice(at + 1)]
  const text = unquoted(label)
  const inside = text.indexOf('=')
  return inside < 0 ? [label, undefined] : [text.slice(0, inside), `"${text.slice(inside + 1)}"`]
}

/** `com.example.app<42`, or packages of which any was reported. */
export function readPackage(parts: TermParts): ReadTest {
  requireOperator(parts, [':'])
  const [name, operator, rest] = splitAtOperator(parts.rest)
  if (operator === undefined) {
    const packages = valuesOf(parts).map((value) => packageName(parts, value))
    return { test: { kind: 'has_package', packages } }
  }
  const { isOpposite, ...numbers } = readNumbers(parts, operator, rest, readWholeNumber)
  return { test: { kind: 'package', package: packageName(parts, name), ...numbers }, isOpposite }
}

type ReadNumber = (parts: TermParts, value: string) => number

/** Any of several with `=`, none of several with `!=`. */
export function readNumbers(
  parts: TermParts,
  operator: Operator | undefined,
  rest: string,
  read: ReadNumber,
): NumberTest & { readonly isOpposite: boolean } {
  const isOpposite = operator === '!='
  const comparison = isOpposite ? '=' : operator
  if (comparison === undefined || comparison === ':') throw wrongOperator(parts, COMPARISONS)
  const values = listOf(parts, rest).map((value) => read(parts, unquoted(value)))
  if (values.length > 1 && comparison !== '=') {
    throw termError(parts, `\`${comparison}\` takes one value`)
  }
  return { comparison, values, isOpposite }
}

export function readWholeNumber(parts: TermParts, value: string): number {
  if (/^\d{1,16}$/.test(value) && Number.isSafeInteger(Number(value))) return Number(value)
  throw termError(parts, `${code(value)} is no whole number from 0 to ${Number.MAX_SAFE_INTEGER}`)
}

/** In seconds. */
export function readDuration(parts: TermParts, value: string): number {
  const [, count, unit = ''] = /^(\d{1,10})([smhd])$/.exec(value) ?? []
  if (count === undefined) {
    throw termError(parts, `${code(value)} is no duration, such as 90s, 30m, 12h or 7d`)
  }
  const seconds = Number(count) * (SECONDS[unit] ?? 0)
  if (seconds <= MAX_DURATION_S) return seconds
  throw termError(parts, `${code(value)} is longer than ${MAX_DURATION_S / 86_400}d`)
}

/** Less than so long ago, or more. */
export function readAge(parts: TermParts): {
  readonly comparison: '<' | '>'
  readonly seconds: number
} {
  const { operator } = parts
  if (operator !== '<' && operator !== '>') throw wrongOperator(parts, ['<', '>'])
  const [value = '', ...others] = listOf(parts, parts.rest)
  if (others.length > 0) throw termError(parts, `\`${operator}\` takes one value`)
  return { comparison: operator, seconds: readDuration(parts, unquoted(value)) }
}

/** The values after `:`. */
function valuesOf(parts: TermParts): readonly string[] {
  requireOperator(parts, [':'])
  return listOf(parts, parts.rest)
}

/** For labels, whose value may be `""`. */
const asWritten = (value: string) => value

/** With their quotes; none is empty. A script whose variable is not set writes `-alias:""`: that would be every device. */
function listOf(parts: TermParts, rest: string, contentOf = unquoted): readonly string[] {
  const values = splitValues(rest)
  if (values.some((value) => contentOf(value) === '')) {
    const isList = values.length > 1
    throw termError(parts, isList ? 'a value is missing beside a comma' : 'the value is missing')
  }
  return values
}

function patternOf(value: string): string {
  return unquoted(value).replace(/\*{2,}/g, '*')
}

function labelKey(parts: TermParts, value: string): string {
  const key = unquoted(value)
  if (LABEL_KEY.test(key)) return key
  throw termError(parts, `${code(key)} is no label: it must match ${LABEL_KEY.source}`)
}

function packageName(parts: TermParts, value: string): string {
  const name = unquoted(value)
  if (isPackageName(name)) return name
  throw termError(parts, `${code(name)} is no package, such as com.example.app`)
}

function requireOperator(parts: TermParts, allowed: readonly Operator[]): void {
  if (parts.operator === undefined || !allowed.includes(parts.operator)) {
    throw wrongOperator(parts, allowed)
  }
}

function wrongOperator(parts: TermParts, allowed: readonly Operator[]) {
  const name = TERM_NAMES.find((known) => known === parts.name)
  const example = name === undefined ? '' : `, such as ${code(TERM_EXAMPLES[name])}`
  return termError(parts, `${parts.name} takes ${allowed.join(' ')}${example}`)
}
