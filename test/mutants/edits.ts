/**
 * Small changes to JavaScript, such as a slip of a programmer makes: an operator swapped, a condition negated, a constant
 * off by one, a call, an `await` or a `return` dropped, a condition of SQL without effect. Texts, comments and imports
 * stay as they are.
 */
import { sqlChangesOf } from './sql-changes.ts'
import { endsOperand, type Token, type Tokens } from './tokens.ts'

/** `at` is the index of a token. */
export type Edit =
  /** It becomes `text`. */
  | { readonly kind: string; readonly at: number; readonly what: 'token'; readonly text: string }
  /** It goes, its statement or operand stays: `await`, `!`. */
  | { readonly kind: string; readonly at: number; readonly what: 'prefix' }
  /** The condition in the brackets behind it is negated. */
  | { readonly kind: string; readonly at: number; readonly what: 'condition' }
  /** The statement that it begins, up to the semicolon at `end`, goes; of a `throw` what it would throw is only made. */
  | { readonly kind: string; readonly at: number; readonly what: 'statement'; readonly end: number }
  /** Within it, from `start` to `end`. */
  | {
      readonly kind: string
      readonly at: number
      readonly what: 'part'
      readonly start: number
      readonly end: number
      readonly text: string
    }

const SWAPS: Readonly<Record<string, string>> = {
  '===': '!==',
  '!==': '===',
  '<': '<=',
  '<=': '<',
  '>': '>=',
  '>=': '>',
  '&&': '||',
  '||': '&&',
  '??': '&&',
  '+=': '-=',
  '-=': '+=',
  '+': '-',
  '-': '+',
  '*': '/',
  '/': '*',
  '%': '*',
}
const WORD_SWAPS: Readonly<Record<string, string>> = {
  true: 'false',
  false: 'true',
  min: 'max',
  max: 'min',
  some: 'every',
  every: 'some',
}
/** Words that begin a statement which is no call and no assignment. */
// biome-ignore format: one list
const STATEMENT_WORDS: ReadonlySet<string> = new Set([
  'return', 'throw', 'const', 'let', 'var', 'if', 'for', 'while', 'do', 'switch', 'try', 'import', 'export', 'yield',
  'else', 'break', 'continue', 'super', 'new', 'class', 'function', 'case', 'default', 'static', 'async', 'get', 'set',
])
const ASSIGNMENTS: ReadonlySet<string> = new Set(['=', '+=', '-=', '*=', '??=', '||=', '&&='])
/** A larger constant is doubled: one more millisecond is no fault. */
const MOST_OFF_BY_ONE = 1_000

/** `source` is what the tokens were read from: comments mark what is SQL. */
export function editsOf(tokens: Tokens, source: string): readonly Edit[] {
  return tokens.all.flatMap((_, at) => [
    ...swapped(tokens, at),
    ...counted(tokens, at),
    ...negated(tokens, at),
    ...dropped(tokens, at),
    ...otherSql(tokens, at, source),
  ])
}

function swapped(tokens: Tokens, at: number): readonly Edit[] {
  const [before, token, after] = around(tokens, at)
  if (token === undefined) return []
  const { text } = token
  if (token.kind === 'word') {
    const swap = WORD_SWAPS[text]
    const isValue = text === 'true' || text === 'false'
    if (swap === undefined || (!isValue && before?.text !== '.')) return []
    return [{ kind: isValue ? 'value' : 'operator', at, what: 'token', text: swap }]
  }
  const swap = token.kind === 'mark' && endsOperand(before) ? SWAPS[text] : undefined
  const isTextual = before?.kind === 'literal' || after?.kind === 'literal'
  if (swap === undefined || ('+-'.includes(text) && isTextual)) return []
  // A loop that counts the wrong way would be ended by the time limit only.
  if (ASSIGNMENTS.has(text) && isInLoopHead(tokens, at)) return []
  return [{ kind: 'operator', at, what: 'token', text: swap }]
}

function counted({ all }: Tokens, at: number): readonly Edit[] {
  const token = all[at]
  if (token?.kind !== 'number') return []
  const digits = token.text.replaceAll('_', '')
  const suffix = digits.endsWith('n') ? 'n' : ''
  const value = Number(suffix === '' ? digits : digits.slice(0, -1))
  const isSmall = Number.isInteger(value) && value <= MOST_OFF_BY_ONE
  const text = `${isSmall ? value + 1 : value * 2}${suffix}`
  return [{ kind: 'constant', at, what: 'token', text }]
}

function negated(tokens: Tokens, at: number): readonly Edit[] {
  const [before, token, after] = around(tokens, at)
  if (token?.text === '!' && !endsOperand(before))
    return [{ kind: 'condition', at, what: 'prefix' }]
  const isIf = token?.kind === 'word' && token.text === 'if' && after?.text === '('
  return isIf && before?.text !== '.' ? [{ kind: 'condition', at, what: 'condition' }] : []
}

function dropped(tokens: Tokens, at: number): readonly Edit[] {
  const [before, token] = around(tokens, at)
  if (token?.kind !== 'word' || before?.text === '.') return []
  const { text } = token
  if (text === 'await') return before?.text === 'for' ? [] : [{ kind: 'await', at, what: 'prefix' }]
  const end = endOfStatement(tokens, at)
  if (end === undefined) return []
  if (text === 'throw' || text === 'return') return [{ kind: text, at, what: 'statement', end }]
  const isOther = STATEMENT_WORDS.has(text) || !beginsStatement(tokens, at)
  if (isOther || isInClassBody(tokens, at)) return []
  const last = tokens.all[end - 1]?.text ?? ''
  const isAssignment = hasAssignment(tokens, at, end) || last === '++' || last === '--'
  if (!isAssignment && last !== ')') return []
  return [{ kind: isAssignment ? 'assignment' : 'call', at, what: 'statement', end }]
}

/** Of a literal that is marked as SQL, or that reads like a part of it. */
function otherSql({ all, heads }: Tokens, at: number, source: string): readonly Edit[] {
  const token = all[at]
  const first = all[heads.get(at) ?? at]
  if (token?.kind !== 'literal' || first === undefined) return []
  const isMarked = /\/\* sql \*\/ $/.test(source.slice(0, first.start))
  const isPart = /^.\s*(?:and|or|where|select|insert into|update|delete from) /.test(first.text)
  if (!isMarked && !isPart) return []
  const isEnd = !token.text.endsWith('${')
  const sql = token.text.slice(1, isEnd ? -1 : -2)
  return sqlChangesOf(sql, isEnd).map(({ start, end, text }) => {
    return { kind: 'sql', at, what: 'part', start: start + 1, end: end + 1, text }
  })
}

function around({ all }: Tokens, at: number): readonly (Token | undefined)[] {
  return [all[at - 1], all[at], all[at + 1]]
}

/** The opening bracket around it. */
function enclosing({ all, partners }: Tokens, at: number): number | undefined {
  for (let index = at - 1; index >= 0; index -= 1) {
    const partner = partners.get(index)
    if (partner !== undefined && partner < index) index = partner
    else if (partner !== undefined && all[index]?.kind === 'mark') return index
  }
  return undefined
}

function isInLoopHead(tokens: Tokens, at: number): boolean {
  const open = enclosing(tokens, at)
  return open !== undefined && tokens.all[open - 1]?.text === 'for'
}

function isInClassBody(tokens: Tokens, at: number): boolean {
  const open = enclosing(tokens, at)
  if (open === undefined) return false
  return [2, 4].some((back) => tokens.all[open - back]?.text === 'class')
}

function beginsStatement({ all, partners }: Tokens, at: number): boolean {
  const before = all[at - 1]
  if (before === undefined || [';', '{', '}', 'else'].includes(before.text)) return true
  if (before.text !== ')') return false
  const head = all[(partners.get(at - 1) ?? 0) - 1]
  return head !== undefined && ['if', 'for', 'while'].includes(head.text)
}

/** The index of its semicolon; none behind a member of an object. */
function endOfStatement({ all, partners }: Tokens, at: number): number | undefined {
  for (let index = at; index < all.length; index += 1) {
    if (all[index]?.text === ';') return index
    const partner = partners.get(index)
    if (partner !== undefined && partner < index) return undefined
    if (partner !== undefined) index = partner
  }
  return undefined
}

function hasAssignment({ all, partners }: Tokens, at: number, end: number): boolean {
  for (let index = at; index < end; index += 1) {
    const partner = partners.get(index)
    if (partner !== undefined && partner > index) index = partner
    else if (ASSIGNMENTS.has(all[index]?.text ?? '')) return true
  }
  return false
}
