/** Reads lists page by page. */
import type { Api, Operation, RequestOf, ResponseOf } from './client.ts'

/** The most that the API gives. */
const PAGE = 500

type Lists = {
  [K in Operation]: ResponseOf<K> extends { readonly next_cursor: string | null } ? K : never
}[Operation]
type QueryOf<K extends Lists> = NonNullable<RequestOf<K>['query']>
type KeyOf<K extends Lists> = Exclude<keyof ResponseOf<K>, 'next_cursor'>
type ItemOf<K extends Lists> = ResponseOf<K>[KeyOf<K>] extends readonly (infer Item)[]
  ? Item
  : never

export interface Page<T> {
  readonly items: readonly T[]
  /** Whether the list goes on behind the last item. */
  readonly hasMore: boolean
}

/** Pages of at most `limit` items in total. `path`: the parameters of the operation's path. */
export async function* pages<K extends Lists>(
  api: Api,
  operation: K,
  key: KeyOf<K>,
  query: QueryOf<K>,
  limit = Number.POSITIVE_INFINITY,
  path: Readonly<Record<string, string>> = {},
): AsyncGenerator<Page<ItemOf<K>>> {
  let cursor: string | undefined
  for (let left = limit; left > 0; ) {
    const request = { path, query: { ...query, limit: Math.min(PAGE, left), cursor } }
    const response = await api.call(operation, request as unknown as RequestOf<K>) // lists take these
    const { next_cursor: next } = response as { readonly next_cursor: string | null }
    const items = response[key] as readonly ItemOf<K>[]
    yield { items, hasMore: next !== null }
    if (next === null) return
    cursor = next
    left -= items.length
  }
}
