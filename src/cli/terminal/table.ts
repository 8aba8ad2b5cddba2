/** Prints rows in columns, measured in terminal cells and cut to the width of the terminal. */
import { cells, clip, visible, wrap } from './text.ts'

export type Cell = string | number | boolean | null | undefined

export interface Column {
  readonly title: string
  /** Numbers stand on the right. */
  readonly align?: 'right'
  /** Whether it may be cut; ids are of no use in part. */
  readonly isFixed?: boolean
  /** Whether it is shown even where its line is longer than the terminal is wide. */
  readonly isKept?: boolean
}

export interface Table {
  /** Lines without a newline; the first page begins with the titles. */
  page(rows: readonly (readonly Cell[])[]): readonly string[]
}

const GAP = '  '
/** No column is cut below this. */
const LEAST = 12
/** Stands for an unknown value. */
const NOTHING = '-'

/**
 * `width`: of the terminal, in cells; undefined: no limit. The last columns are left out where even cut columns do not
 * fit. Pages share the columns of the first one; a later value that is too long is cut, or without a width stands out.
 */
export function createTable(
  columns: readonly Column[],
  width: number | undefined,
  paintTitle: (text: string) => string,
): Table {
  let widths: readonly number[] | undefined

  function line(texts: readonly string[], isCut: boolean): string {
    const shown = widths ?? []
    const parts = shown.map((size, index) => {
      const text = isCut ? clip(texts[index] ?? '', size) : (texts[index] ?? '')
      const space = ' '.repeat(Math.max(0, size - cells(text)))
      return columns[index]?.align === 'right' ? space + text : text + space
    })
    return parts.join(GAP).trimEnd()
  }

  return {
    page(rows) {
      const texts = rows.map((row) => row.map(textOf))
      const isFirst = widths === undefined
      widths ??= fit(columns, texts, width)
      const lines = texts.map((row) => line(row, width !== undefined))
      const titles = columns.map(({ title }) => title)
      return isFirst ? [paintTitle(line(titles, width !== undefined)), ...lines] : lines
    },
  }
}

/** Cells of each column that is shown. */
function fit(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  width = Number.POSITIVE_INFINITY,
): readonly number[] {
  const widths = columns.map(({ title }, index) =>
    rows.reduce((most, row) => Math.max(most, cells(row[index] ?? '')), cells(title)),
  )
  const total = (sizes: readonly number[]) =>
    sizes.reduce((sum, size) => sum + size + GAP.length, -GAP.length)
  const leastOf = (size: number, index: number) =>
    columns[index]?.isFixed ? size : Math.min(size, LEAST)
  const kept = Math.max(1, columns.findLastIndex(({ isKept }) => isKept) + 1)
  while (widths.length > kept && total(widths.map(leastOf)) > width) widths.pop()
  while (total(widths) > width) {
    const widest = Math.max(
      ...widths.map((size, index) => (size > leastOf(size, index) ? size : 0)),
    )
    if (widest === 0) return kept > 1 ? widths : [width] // not even these fit
    widths[widths.lastIndexOf(widest)] = widest - 1
  }
  return widths
}

function textOf(cell: Cell): string {
  if (cell === null || cell === undefined || cell === '') return NOTHING
  return visible(String(cell))
}

/** `name  value` rows without titles, for one object. A long value goes on below itself. */
export function factLines(
  facts: readonly (readonly [name: string, value: Cell])[],
  width: number | undefined,
): readonly string[] {
  const longest = Math.max(...facts.map(([name]) => cells(name)))
  return facts.flatMap(([name, value]) =>
    wrap(`${name.padEnd(longest)}${GAP}${textOf(value)}`, width, longest + GAP.length),
  )
}
