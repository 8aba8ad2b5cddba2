/** A list as two statements: its first page, and its hundredth. */
import type { ListPage } from '../../../src/db/list-page.ts'
import type { Database } from '../../../src/db/postgres/pool.ts'
import { BOTH, type Statement } from './statement.ts'

export type Bounds = Pick<Statement, 'mostRows' | 'mostPages' | 'index'> &
  Partial<Pick<Statement, 'modes'>>

/** One row more than a page of 50. */
export const PAGE = 51
const LATER = 100
/** Workers beside the connection that may read a large table, each a page of its own. */
export const WORKERS = 2

type Read<Row> = (database: Database, page: ListPage) => Promise<readonly Row[]>

/** The first and the hundredth page of a list. */
export function pages<Row>(
  title: string,
  read: Read<Row>,
  keyOf: (row: Row) => NonNullable<ListPage['after']>,
  bounds: Bounds,
): readonly Statement[] {
  const run = (database: Database, after: ListPage['after']) =>
    read(database, { limit: PAGE, after })
  const before = (LATER - 1) * (PAGE - 1)
  return [
    { title, modes: BOTH, run, ...bounds },
    {
      title: `${title}, page ${LATER}`,
      modes: BOTH,
      run,
      async cursor(database) {
        const last = (await read(database, { limit: before, after: null })).at(-1)
        return last === undefined ? null : keyOf(last)
      },
      ...bounds,
    },
  ]
}
