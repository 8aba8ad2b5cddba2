/** Compiled JavaScript as a list of tokens, without comments, each bracket with its partner. */
import { createScanner, SyntaxKind } from 'typescript/unstable/ast'

export interface Token {
  /** `literal`: a string, a template or a part of one, a regular expression. */
  readonly kind: 'word' | 'number' | 'literal' | 'mark'
  readonly text: string
  readonly start: number
  readonly end: number
}

export interface Tokens {
  readonly all: readonly Token[]
  /** Index of an opening bracket to that of its closing one, and back; so for the first and last part of a template. */
  readonly partners: ReadonlyMap<number, number>
  /** Index of a later part of a template to that of its first one. */
  readonly heads: ReadonlyMap<number, number>
}

const LITERALS: ReadonlySet<SyntaxKind> = new Set([
  SyntaxKind.StringLiteral,
  SyntaxKind.RegularExpressionLiteral,
  SyntaxKind.NoSubstitutionTemplateLiteral,
  SyntaxKind.TemplateHead,
  SyntaxKind.TemplateMiddle,
  SyntaxKind.TemplateTail,
])
const NUMBERS: ReadonlySet<SyntaxKind> = new Set([
  SyntaxKind.NumericLiteral,
  SyntaxKind.BigIntLiteral,
])

/** Words behind which an operand is still to come. */
// biome-ignore format: one list
const BEFORE_OPERAND: ReadonlySet<string> = new Set([
  'async', 'await', 'case', 'default', 'delete', 'do', 'else', 'export', 'function', 'import', 'in', 'instanceof', 'new',
  'of', 'return', 'static', 'throw', 'typeof', 'void', 'yield',
])

/** Whether an operand ends with it, so that a mark behind it stands between two. */
export function endsOperand(token: Token | undefined): boolean {
  if (token === undefined) return false
  if (token.kind === 'word') return !BEFORE_OPERAND.has(token.text)
  if (token.kind === 'literal') return !token.text.endsWith('${')
  return token.kind === 'number' || [')', ']', '}', '++', '--'].includes(token.text)
}

export function tokensOf(source: string): Tokens {
  const scanner = createScanner(true, undefined, source)
  const all: Token[] = []
  const open: number[] = []
  const partners = new Map<number, number>()
  const heads = new Map<number, number>()
  for (;;) {
    let kind = scanner.scan()
    if (kind === SyntaxKind.EndOfFile) return { all, partners, heads }
    const opened = open.at(-1) ?? -1
    const isInTemplate = all[opened]?.kind === 'literal'
    const mark = scanner.getTokenText()
    if (mark === '>') kind = scanner.reScanGreaterToken()
    else if (mark === '}' && isInTemplate) kind = scanner.reScanTemplateToken(false)
    else if (/^\/=?$/.test(mark) && !endsOperand(all.at(-1))) kind = scanner.reScanSlashToken()

    const text = scanner.getTokenText()
    const token: Token = {
      kind: kindOf(kind, text),
      text,
      start: scanner.getTokenStart(),
      end: scanner.getTokenEnd(),
    }
    const index = all.push(token) - 1
    const isLastPart = kind === SyntaxKind.TemplateTail
    if (kind === SyntaxKind.TemplateMiddle || isLastPart) heads.set(index, opened)
    if (isLastPart || (token.kind === 'mark' && [')', ']', '}'].includes(text))) {
      partners.set(index, opened).set(opened, index)
      open.pop()
    }
    const isFirstPart = kind === SyntaxKind.TemplateHead
    if (isFirstPart || (token.kind === 'mark' && ['(', '[', '{'].includes(text))) open.push(index)
  }
}

function kindOf(kind: SyntaxKind, text: string): Token['kind'] {
  if (LITERALS.has(kind)) return 'literal'
  if (NUMBERS.has(kind)) return 'number'
  return /^[\w$#]/.test(text) ? 'word' : 'mark'
}
