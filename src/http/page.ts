/**
 * Paging of lists: `limit` and an opaque `cursor` that holds the sort key of the last row. Anyone can make one up, so a
 * cursor is checked for what PostgreSQL accepts.
 */
import { invalidField } from '../domain/errors.ts'
import { isRequestId } from '../domain/ids.ts'
import { parseInstant } from '../domain/instants.ts'
import { queryInt } from './fields.ts'
import { type JsonReply, json } from './route.ts'

/** The query parameters that readPage reads. */
export const PAGE_QUERY = ['limit', 'cursor'] as const

const DEFAULT_LIMIT = 50
const MAX_LIMIT = 500

/** As timeText in db/list-page.ts writes it. PostgreSQL refuses some times with an offset that JavaScript accepts. */
const KEY_TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/

/** Sort key of a row: newest first, ties by id. `at` is RFC 3339 with microseconds, exactly as PostgreSQL wrote it. */
export interface PageKey {
  readonly at: string
  readonly id: string
}

export interface Page {
  /** Rows to read: one more than the page shows, to see whether there is a next page. */
  readonly limit: number
  /** null: the first page. */
  readonly after: PageKey | null
  /** The name of the list: the cursor of another list is refused. */
  readonly list: string
}

/** `isId` checks the id of a key in this list. */
export function readPage(
  query: URLSearchParams,
  list: string,
  isId: (id: string) => boolean = isRequestId,
): Page {
  const limit = queryInt(query, 'limit', { min: 1, max: MAX_LIMIT }, DEFAULT_LIMIT)
  const cursor = query.get('cursor')
  return { limit: limit + 1, after: cursor === null ? null : decodeKey(cursor, list, isId), list }
}

export interface PageRows<Row> {
  readonly rows: readonly Row[]
  /** null: this is the last page. */
  readonly nextCursor: string | null
}

/** The rows to show and the cursor of the next page. */
export function pageOf<Row>(
  read: readonly Row[],
  page: Page,
  keyOf: (row: Row) => PageKey,
): PageRows<Row> {
  const rows = read.slice(0, page.limit - 1)
  const last = rows.at(-1)
  if (last === undefined || read.length < page.limit) return { rows, nextCursor: null }
  return { rows, nextCursor: encodeKey(keyOf(last), page.list) }
}

export function encodeKey({ at, id }: PageKey, list: string): string {
  return Buffer.from(JSON.stringify([at, id, list])).toString('base64url')
}

/** The response of a list: the rows under `page.list`, and the cursor of the next page. */
export function listReply<Row>(
  read: readonly Row[],
  page: Page,
  keyOf: (row: Row) => PageKey,
  toJson: (row: Row) => unknown,
): JsonReply {
  const { rows, nextCursor } = pageOf(read, page, keyOf)
  return json(200, { [page.list]: rows.map(toJson), next_cursor: nextCursor })
}

/** `field`: where the cursor came from, for the refusal. */
export function decodeKey(
  cursor: string,
  list: string,
  isId: (id: string) => boolean,
  field = 'cursor',
): PageKey {
  const [at, id, of = list] = parse(cursor) // cursors of release 0.1 do not name the list
  const isKey = typeof at === 'string' && typeof id === 'string' && of === list
  if (isKey && KEY_TIME.test(at) && parseInstant(at) !== undefined && isId(id)) return { at, id }
  throw invalidField(field, 'is not one that this list gave: pass next_cursor unchanged')
}

function parse(cursor: string): readonly unknown[] {
  try {
    const key: unknown = JSON.parse(Buffer.from(cursor, 'base64url').toString())
    return Array.isArray(key) ? key : []
  } catch {
    return []
  }
}
