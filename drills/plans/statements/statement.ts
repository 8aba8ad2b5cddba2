/** A statement of the service whose cost must not grow with other data: how it runs, and what it may read. */
import type { ListPage } from '../../../src/db/list-page.ts'
import type { Database } from '../../../src/db/postgres/pool.ts'
import type { Explained, PlanMode } from '../../../testkit/database/explain.ts'

export interface Statement {
  readonly title: string
  /** The hot path asks for generic plans; elsewhere PostgreSQL chooses. */
  readonly modes: readonly PlanMode[]
  /** `after`: the result of `cursor`. */
  readonly run: (database: Database, after: ListPage['after']) => Promise<unknown>
  /** The key of the row before a later page. */
  readonly cursor?: (database: Database) => Promise<ListPage['after']>
  /** The index that must serve it. Default: the planner's choice. */
  readonly index?: string
  /** Tables that it may read as a whole. Default: none that grows. */
  readonly wholeTables?: readonly string[]
  /** Maximum rows it may read of tables that grow. */
  readonly mostRows: number
  /** Maximum pages it may touch. Default: PAGES_PER_ROW for each row. */
  readonly mostPages?: number
}

export const BOTH: readonly PlanMode[] = ['custom', 'generic']
/** A lookup costs the levels of an index and the row's page; a command is read with its device. */
const PAGES_PER_ROW = 12
const MIN_PAGES = 200

export const mostPagesOf = ({ mostPages, mostRows }: Statement) =>
  mostPages ?? MIN_PAGES + mostRows * PAGES_PER_ROW

/** Returns what exceeded its bounds. */
export function faultsOf(statement: Statement, explained: readonly Explained[]): readonly string[] {
  const faults: string[] = []
  const { index, mostRows, wholeTables = [] } = statement
  for (const { name, seqScans } of explained) {
    const tables = seqScans.filter((table) => !wholeTables.includes(table))
    if (tables.length > 0) faults.push(`${name} reads all of ${tables.join(', ')}`)
  }
  if (index !== undefined && !explained.some(({ indexes }) => indexes.has(index))) {
    faults.push(`${index} is not used`)
  }
  const rows = rowsOf(explained)
  if (rows > mostRows) faults.push(`${rows} rows read, ${mostRows} allowed`)
  const pages = pagesOf(explained)
  const mostPages = mostPagesOf(statement)
  if (pages > mostPages) faults.push(`${pages} pages touched, ${mostPages} allowed`)
  return faults
}

/** All rows that its statements read. */
export const rowsOf = (explained: readonly Explained[]) =>
  explained.reduce((sum, { rowsRead }) => sum + rowsRead, 0)

export const pagesOf = (explained: readonly Explained[]) =>
  explained.reduce((sum, { pages }) => sum + pages, 0)
