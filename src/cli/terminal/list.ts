/** What the verbs that list share: a table on stdout, or with --json the API's objects. */
import { UsageError } from '../usage.ts'
import type { Context } from '../verb.ts'
import { ago } from './ago.ts'
import { type Cell, type Column, createTable } from './table.ts'
import { jsonLine } from './text.ts'

const BOLD = '1'
export const DEFAULT_LIMIT = 50

export interface List<T> {
  readonly columns: readonly Column[]
  readonly row: (item: T) => readonly Cell[]
  /** Printed on stderr instead of an empty table. */
  readonly nothing: string
}

/** Prints page by page; returns how many items there were. */
export async function printList<T>(
  { terminal, isJson }: Context,
  { columns, row, nothing }: List<T>,
  pages: AsyncIterable<{ readonly items: readonly T[]; readonly hasMore: boolean }>,
): Promise<number> {
  const table = createTable(columns, terminal.width, (titles) => terminal.paint(titles, BOLD))
  let count = 0
  let isCut = false
  for await (const { items, hasMore } of pages) {
    isCut = hasMore
    count += items.length
    if (items.length === 0) continue
    const lines = isJson ? items.map(jsonLine) : table.page(items.map(row))
    for (const line of lines) await terminal.print(line)
  }
  if (count === 0 && !isJson) terminal.note(nothing)
  if (isCut) terminal.note(`${count} shown, and there are more: --limit N`)
  return count
}

/** One page of known items. */
export async function* onePage<T>(items: readonly T[]) {
  yield { items, hasMore: false }
}

export const LIMIT = {
  limit: { value: 'N', help: `at most so many; default ${DEFAULT_LIMIT}` },
} as const

/** Throws UsageError. */
export function limitOf({ args }: Context, fallback = DEFAULT_LIMIT): number {
  return numberOf(args.text('limit'), '--limit', fallback)
}

/** Throws UsageError. */
export function numberOf<T>(text: string | undefined, name: string, fallback: T): number | T {
  if (text === undefined) return fallback
  if (/^[1-9]\d{0,14}$/.test(text)) return Number(text)
  throw new UsageError(`${name} takes a whole number from 1.`)
}

const SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600, d: 86_400 }

/** `90s`, `30m`, `12h`, `2d`. Throws UsageError. */
export function secondsOf<T>(text: string | undefined, name: string, fallback: T): number | T {
  if (text === undefined) return fallback
  const [, count = '', unit = ''] = /^(\d{1,9})([smhd])$/.exec(text) ?? []
  const size = SECONDS[unit]
  if (size === undefined) {
    throw new UsageError(`${name} takes a duration such as 90s, 30m, 12h or 2d.`)
  }
  return Number(count) * size
}

const MAX_TIME_MS = Date.UTC(9999, 0)

/** Returns `now` plus `seconds`, from 1970 to 9999. Pass the service's clock; this machine's may be off. */
export function timeAfter(seconds: number, now: Date): string {
  const atMs = now.getTime() + seconds * 1_000
  return new Date(Math.min(MAX_TIME_MS, Math.max(0, atMs))).toISOString()
}

/** For a cell; null: never. */
export function agoOrNever(at: string | null, now: Date): string {
  return at === null ? 'never' : ago(at, now)
}

/** `2026-11-29 08:05` in UTC. */
export function minute(at: string | null): string | null {
  return at === null ? null : at.slice(0, 16).replace('T', ' ')
}
