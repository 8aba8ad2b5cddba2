/** Lists page by page: `limit` and an opaque `cursor`, which holds the sort key of the last row given. */
import { invalidField } from '../core/errors.ts'
import { isRequestId } from '../core/ids.ts'
import { parseInstant } from '../core/instant.ts'
import { queryInt } from './fields.ts'

const DEFAULT_LIMIT = 50
const MAX_LIMIT = 500

/** Sort key of a row: newest first, ties by id. `at` is RFC 3339 with microseconds, exactly as PostgreSQL gave it. */
export interface PageKey {
  readonly at: string
  readonly id: string
}

export interface Page {
  /** Rows to read: one more than the page shows, which tells whether there is a next page. */
  readonly limit: number
  /** null: the first page. */
  readonly after: PageKey | null
}

/** `isId` says what the id of a key looks like in this list. */
export function readPage(
  query: URLSearchParams,
  isId: (id: string) => boolean = isRequestId,
): Page {
  const limit = queryInt(query, 'limit', { min: 1, max: MAX_LIMIT }, DEFAULT_LIMIT)
  const cursor = query.get('cursor')
  return { limit: limit + 1, after: cursor === null ? null : decode(cursor, isId) }
}

export interface PageRows<Row> {
  readonly rows: readonly Row[]
  /** null at the end. */
  readonly nextCursor: string | null
}

/** The rows to show of those that were read, and the way to the next page. */
export function pageOf<Row>(
  read: readonly Row[],
  page: Page,
  keyOf: (row: Row) => PageKey,
): PageRows<Row> {
  const rows = read.slice(0, page.limit - 1)
  const last = rows.at(-1)
  if (last === undefined || read.length < page.limit) return { rows, nextCursor: null }
  const { at, id } = keyOf(last)
  return { rows, nextCursor: Buffer.from(JSON.stringify([at, id])).toString('base64url') }
}

function decode(cursor: string, isId: (id: string) => boolean): PageKey {
  try {
    const key: unknown = JSON.parse(Buffer.from(cursor, 'base64url').toString())
    if (Array.isArray(key)) {
      const [at, id] = key
      const isKey = typeof at === 'string' && typeof id === 'string'
      if (isKey && parseInstant(at) !== undefined && isId(id)) return { at, id }
    }
  } catch {
    // not ours: refused below
  }
  throw invalidField('cursor', 'is not one that this service gave: pass next_cursor unchanged')
}
