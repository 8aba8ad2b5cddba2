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
  return { limit, after: cursor === null ? null : decode(cursor, isId) }
}

/** The cursor of the next page; null where `keys` are fewer than were asked for. */
export function nextCursor(keys: readonly PageKey[], page: Page): string | null {
  const last = keys.at(-1)
  if (last === undefined || keys.length < page.limit) return null
  return Buffer.from(JSON.stringify([last.at, last.id])).toString('base64url')
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
