/** What the tests of the documents read out of Markdown: fenced blocks and tables. */

/** A fenced block: ```` ```<language> <rest> ````. */
export interface Block {
  /** Empty where the fence names none. */
  readonly language: string
  /** What stands behind the language, such as `run prints ready`; not shown where the page is rendered. */
  readonly rest: string
  readonly text: string
  /** Of its first fence, from 1. */
  readonly line: number
}

export function blocksOf(markdown: string): readonly Block[] {
  const blocks: Block[] = []
  let open: { readonly info: string; readonly line: number; readonly lines: string[] } | undefined
  for (const [index, line] of markdown.split('\n').entries()) {
    const info = /^```(.*)$/.exec(line)?.[1]
    if (open === undefined) {
      if (info !== undefined) open = { info, line: index + 1, lines: [] }
    } else if (info === undefined) {
      open.lines.push(line)
    } else {
      const [language = '', ...rest] = open.info.split(' ')
      blocks.push({
        language,
        rest: rest.join(' '),
        text: `${open.lines.join('\n')}\n`,
        line: open.line,
      })
      open = undefined
    }
  }
  if (open !== undefined) throw new Error(`the block of line ${open.line} is never closed`)
  return blocks
}

/** The part under a heading of any level, up to the next one of the same or a higher level. */
export function sectionOf(markdown: string, heading: string): string {
  const lines = markdown.split('\n')
  const start = lines.findIndex((line) => line.replace(/^#+ /, '') === heading && line[0] === '#')
  const level = /^#+/.exec(lines[start] ?? '')?.[0].length
  if (level === undefined) throw new Error(`there is no heading "${heading}"`)
  const isNext = (line: string) => /^#+ /.test(line) && line.indexOf(' ') <= level
  const length = lines.slice(start + 1).findIndex(isNext)
  return lines.slice(start + 1, length === -1 ? undefined : start + 1 + length).join('\n')
}

/** The cells of the first table, its head left out, each trimmed. */
export function tableOf(markdown: string): readonly (readonly string[])[] {
  const lines = markdown.split('\n')
  const start = lines.findIndex((line) => line.startsWith('|'))
  const rows: (readonly string[])[] = []
  for (const line of lines.slice(start + 2)) {
    if (!line.startsWith('|')) break
    const cells = line.split(/(?<!\\)\|/).slice(1, -1)
    rows.push(cells.map((cell) => cell.trim().replaceAll('\\|', '|')))
  }
  return rows
}

/** The text in backticks. */
export function codesOf(text: string): readonly string[] {
  return [...text.matchAll(/`([^`]+)`/g)].map(([, code = '']) => code)
}
