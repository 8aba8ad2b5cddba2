/** A statement of the service whose cost must not grow with what others left behind: how it is asked, and what it may read. */
import type { ListPage } from '../../src/db/audit.ts'
import type { Database } from '../../src/db/postgres/pool.ts'
import type { Explained, PlanMode } from '../../testkit/explain.ts'

export interface Statement {
  readonly title: string
  /** Where the service knows: the hot path asks for generic plans. */
  readonly modes: readonly PlanMode[]
  /** `after`: what `cursor` gave. */
  readonly run: (database: Database, after: ListPage['after']) => Promise<unknown>
  /** The key of the row that a later page of a list begins after. */
  readonly cursor?: (database: Database) => Promise<ListPage['after']>
  /** The index that must serve it. Default: whichever the planner likes. */
  readonly index?: string
  /** Rows of the tables that grow that it may read at most, however many they hold. */
  readonly mostRows: number
  /** Pages that it may touch at most. Default: what its rows may cost, PAGES_PER_ROW each. */
  readonly mostPages?: number
}

export const BOTH: readonly PlanMode[] = ['custom', 'generic']
/** A row that is looked up costs the levels of an index and its own page; a command is told with its device. */
const PAGES_PER_ROW = 12
const MIN_PAGES = 200

export const mostPagesOf = ({ mostPages, mostRows }: Statement) =>
  mostPages ?? MIN_PAGES + mostRows * PAGES_PER_ROW

/** What is wrong with how it ran; empty where nothing is. */
export function faultsOf(statement: Statement, explained: readonly Explained[]): readonly string[] {
  const faults: string[] = []
  const { index, mostRows } = statement
  for (const { name, seqScans } of explained) {
    if (seqScans.length > 0) faults.push(`${name} reads all of ${seqScans.join(', ')}`)
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
