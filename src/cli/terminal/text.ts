/** Text of phones and admins for a terminal: nothing in it moves the cursor, changes colours or reverses the line. */

const CONTROL = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu
/** U+200C and U+200D stay: scripts and emoji need them, and they move nothing. */
const UNSAFE = /(?![\u200c\u200d])[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Zl}\p{Zp}]/gu

/** Replaces control characters by spaces: for sentences. */
export function plain(text: string): string {
  return text.replace(CONTROL, ' ')
}

/** Shows control and invisible characters as escapes (`\x1b`, `\u{202e}`): for values. */
export function visible(text: string): string {
  return text.replace(UNSAFE, (character) => {
    const code = character.codePointAt(0) ?? 0
    if (code > 0xff) return `\\u{${code.toString(16)}}`
    return NAMED[character] ?? `\\x${code.toString(16).padStart(2, '0')}`
  })
}

const NAMED: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' }

/** One line of JSON. JSON.stringify leaves some control characters as they are; escaped, they mean the same. */
export function jsonLine(value: unknown): string {
  return JSON.stringify(value).replace(UNSAFE, (character) =>
    character
      .split('')
      .map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
      .join(''),
  )
}

const segmenter = new Intl.Segmenter('en', { granularity: 'grapheme' })
/** Two cells each: East Asian wide and full-width forms, and pictures. */
const WIDE =
  /\u{fe0f}|[\p{Emoji_Presentation}\u{1100}-\u{115f}\u{2e80}-\u{303e}\u{3041}-\u{a4cf}\u{a960}-\u{a97f}\u{ac00}-\u{d7a3}\u{f900}-\u{faff}\u{fe30}-\u{fe6f}\u{ff01}-\u{ff60}\u{ffe0}-\u{ffe6}\u{1f300}-\u{1f64f}\u{1f900}-\u{1f9ff}\u{20000}-\u{3fffd}]/u
const NO_CELL = /^[\p{Mn}\p{Me}\u200c\u200d]+$/u

/** Cells that a terminal gives to `text`, which has no control characters. */
export function cells(text: string): number {
  if (/^[\x20-\x7e]*$/.test(text)) return text.length
  let sum = 0
  for (const { segment } of segmenter.segment(text)) sum += cellsOf(segment)
  return sum
}

/** Cut to at most `width` cells, with an ellipsis where something is missing. */
export function clip(text: string, width: number): string {
  if (cells(text) <= width) return text
  let kept = ''
  let sum = 0
  for (const { segment } of segmenter.segment(text)) {
    sum += cellsOf(segment)
    if (sum > width - 1) break
    kept += segment
  }
  return `${kept}…`
}

/**
 * Lines of at most `width` cells, broken at spaces; each but the first begins with `indent` spaces. A word that is longer
 * than a line is broken, too.
 */
export function wrap(text: string, width: number | undefined, indent: number): readonly string[] {
  if (width === undefined || cells(text) <= width) return [text]
  const room = Math.max(MIN_ROOM, width - indent)
  const lines: string[] = []
  let line = ''
  let size = 0
  for (const word of text.split(/(?<=\S)(?= )/)) {
    if (size > 0 && size + cells(word) > (lines.length === 0 ? width : room)) {
      lines.push(line)
      line = ''
      size = 0
    }
    const shown = lines.length > 0 && size === 0 ? word.trimStart() : word
    for (const { segment } of segmenter.segment(shown)) {
      if (size > 0 && size + cellsOf(segment) > (lines.length === 0 ? width : room)) {
        lines.push(line)
        line = ''
        size = 0
      }
      line += segment
      size += cellsOf(segment)
    }
  }
  return [...lines, line].map((each, index) => (index === 0 ? each : ' '.repeat(indent) + each))
}

/** A narrower terminal breaks the lines where it likes. */
const MIN_ROOM = 10

function cellsOf(grapheme: string): number {
  if (WIDE.test(grapheme)) return 2
  return NO_CELL.test(grapheme) ? 0 : 1
}
