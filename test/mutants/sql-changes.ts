/** Small changes to a piece of SQL; what stands in `${…}` is not part of it. */

/** Replaces `start` to `end` (exclusive) with `text`. */
export interface SqlEdit {
  readonly start: number
  readonly end: number
  readonly text: string
}

/** Where a condition ends, at its own depth of brackets. */
const END =
  /^(?:\s+(?:and|or|order by|group by|limit|returning|for (?:update|share|no key)|then|union|on|do|as|is not false)\b|\s*[;,]|\n\s*\n)/
const SWAPS: readonly (readonly [pattern: RegExp, after: string])[] = [
  [/ <= /g, ' < '],
  [/ < /g, ' <= '],
  [/ >= /g, ' > '],
  [/ > /g, ' >= '],
  [/ \+ /g, ' - '],
  [/ - (?!>)/g, ' + '],
  [/ desc\b/g, ' asc'],
  [/\bis not null\b/g, 'is null'],
  [/\bis null\b/g, 'is not null'],
  [/\bnot exists\b/g, 'exists'],
  [/(?<!not |if )\bexists\b(?= \()/g, 'not exists'],
  [/\bgreatest\(/g, 'least('],
  [/\bleast\(/g, 'greatest('],
  [/\bmax\(/g, 'min('],
  [/\bmin\(/g, 'max('],
  [/\bunion all\b/g, 'union'],
  [/ for update skip locked\b/g, ''],
  [/ for (?:no key )?update\b(?! skip)/g, ''],
  [/ for share\b/g, ''],
  [/ on conflict (?:\([^)]*\) )?do nothing\b/g, ''],
]

/** `isEnd`: the statement ends with the piece, so that a condition may. */
export function sqlChangesOf(sql: string, isEnd: boolean): SqlEdit[] {
  const edits: SqlEdit[] = []
  for (const [pattern, text] of SWAPS) {
    for (const { index, 0: found } of sql.matchAll(pattern)) {
      edits.push({ start: index, end: index + found.length, text })
    }
  }
  for (const { index, 0: word } of sql.matchAll(/\b(?:where|and|or|when)\b(?!\s+\()/g)) {
    const start = index + word.length
    if (word === 'and' && /\bbetween\s+\S+\s+$/.test(sql.slice(0, index))) continue
    const end = endOfCondition(sql, start, isEnd)
    if (end === undefined) continue
    const condition = sql.slice(start, end).trim()
    const text = { or: `(${condition}) and false`, when: `not (${condition})` }[word]
    // A parameter or a column that is named nowhere would be another fault.
    edits.push({ start, end, text: ` (${text ?? `${condition} or true`})` })
  }
  return edits
}

/** undefined: it goes on in an expression that is not part of the piece. */
function endOfCondition(sql: string, from: number, isEnd: boolean): number | undefined {
  let depth = 0
  for (let at = from; at < sql.length; at += 1) {
    if (sql[at] === '(' || sql[at] === '[') depth += 1
    if (sql[at] === ')' || sql[at] === ']') depth -= 1
    if (depth < 0) return at
    if (depth === 0 && at > from && END.test(sql.slice(at, at + 20))) return at
  }
  return isEnd && depth === 0 ? sql.trimEnd().length : undefined
}
