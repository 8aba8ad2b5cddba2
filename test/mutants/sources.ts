/**
 * The files of src as they are and as they are compiled. Changes are found in what is compiled, which has no types, and
 * made where the source map says that it came from; places of coverage are those of the compiled file.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { SourceMap } from 'node:module'
import { join } from 'node:path'
import { type Edit, editsOf } from './edits.ts'
import { type Tokens, tokensOf } from './tokens.ts'

export interface Change {
  /** `src/db/postgres/pool.ts` */
  readonly file: string
  readonly kind: string
  /** In the source; `end` exclusive. */
  readonly start: number
  readonly end: number
  readonly text: string
  /** In the compiled file. */
  readonly compiledAt: number
}

export interface Source {
  readonly file: string
  readonly text: string
  readonly compiled: Tokens
  readonly changes: readonly Change[]
}

/** `root` is that of the project, compiled. */
export function readSources(root: string): readonly Source[] {
  return readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .sort()
    .map((name) => readSource(root, join('src', name)))
}

export function changed(source: string, { start, end, text }: Change): string {
  return source.slice(0, start) + text + source.slice(end)
}

/** `src/db/postgres/pool.ts` to `build/src/db/postgres/pool.js`. */
export function compiledPath(file: string): string {
  return join('build', file.replace(/\.ts$/, '.js'))
}

function readSource(root: string, file: string): Source {
  const text = readFileSync(join(root, file), 'utf8')
  const compiledText = readFileSync(join(root, compiledPath(file)), 'utf8')
  const map: unknown = JSON.parse(readFileSync(join(root, `${compiledPath(file)}.map`), 'utf8'))
  const compiled = tokensOf(compiledText)
  const original = tokensOf(text)
  const pairs = pairsOf(compiled, compiledText, original, text, map)
  const changes = editsOf(compiled, compiledText).flatMap((edit) => {
    const compiledAt = compiled.all[edit.at]?.start
    const place = placeOf(edit, original, pairs, text)
    return place === undefined || compiledAt === undefined
      ? []
      : [{ file, kind: edit.kind, compiledAt, ...place }]
  })
  return { file, text, compiled, changes }
}

/** Index of a compiled token to that of the one it came from: by the source map, else as the next one behind such a pair. */
function pairsOf(
  compiled: Tokens,
  compiledText: string,
  original: Tokens,
  text: string,
  map: unknown,
): ReadonlyMap<number, number> {
  // What tsc wrote.
  const sourceMap = new SourceMap(map as ConstructorParameters<typeof SourceMap>[0])
  const [compiledLines, lines] = [lineStarts(compiledText), lineStarts(text)]
  const byStart = new Map(original.all.map(({ start }, index) => [start, index]))
  const pairs = new Map<number, number>()
  let line = 0
  for (const [index, token] of compiled.all.entries()) {
    while ((compiledLines[line + 1] ?? Number.POSITIVE_INFINITY) <= token.start) line += 1
    const column = token.start - (compiledLines[line] ?? 0)
    const entry = sourceMap.findEntry(line, column)
    const isExact =
      'originalLine' in entry && entry.generatedLine === line && entry.generatedColumn === column
    const mapped = isExact
      ? byStart.get((lines[entry.originalLine] ?? 0) + entry.originalColumn)
      : undefined
    const before = pairs.get(index - 1)
    for (const candidate of [mapped, before === undefined ? undefined : before + 1]) {
      if (candidate === undefined || original.all[candidate]?.text !== token.text) continue
      pairs.set(index, candidate)
      break
    }
  }
  return pairs
}

function lineStarts(text: string): readonly number[] {
  return [0, ...[...text.matchAll(/\n/g)].map(({ index }) => index + 1)]
}

function placeOf(
  edit: Edit,
  { all, partners }: Tokens,
  pairs: ReadonlyMap<number, number>,
  source: string,
): Pick<Change, 'start' | 'end' | 'text'> | undefined {
  const at = pairs.get(edit.at)
  const [token, next] = [all[at ?? -1], all[(at ?? -2) + 1]]
  if (at === undefined || token === undefined || next === undefined) return undefined
  if (edit.what === 'token') return { start: token.start, end: token.end, text: edit.text }
  if (edit.what === 'prefix') return { start: token.start, end: next.start, text: '' }
  if (edit.what === 'part') {
    return { start: token.start + edit.start, end: token.start + edit.end, text: edit.text }
  }
  if (edit.what === 'condition') {
    const close = all[partners.get(at + 1) ?? -1]
    if (close === undefined) return undefined
    const [start, end] = [next.start + 1, close.start]
    return { start, end, text: `!(${source.slice(start, end)})` }
  }
  const last = all[(pairs.get(edit.end + 1) ?? 0) - 1]
  if (last === undefined || last.start < token.start) return undefined
  const value = source.slice(token.end, last.end).replace(/;$/, '').trim()
  const isMade = edit.kind === 'throw' || (edit.kind === 'return' && value !== '')
  return { start: token.start, end: last.end, text: isMade ? `void (${value});` : ';' }
}
