/**
 * A database that explains each statement as it runs it, so that the plans are those of the statements that the
 * service really sends. Counts only: rows and pages, never times.
 */
import pg from 'pg'
import type { Database, Query, Result } from '../src/db/pool.ts'

/** `custom`: planned for the values at hand. `generic`: once for all values, as a prepared statement may be. */
export type PlanMode = 'custom' | 'generic'

export interface Explained {
  /** Of the query. */
  readonly name: string
  /** Tables of GROWING that were read from end to end. */
  readonly seqScans: readonly string[]
  /** Indexes that were used. */
  readonly indexes: ReadonlySet<string>
  /** Rows of GROWING that scans read, those dropped on the way too. */
  readonly rowsRead: number
  /** Pages touched, of tables and indexes. */
  readonly pages: number
}

/** Tables that grow with each command. A small fleet's devices may well be read as a whole. */
const GROWING: readonly string[] = ['commands', 'command_events', 'audit_log']

interface PlanNode {
  readonly 'Node Type': string
  readonly 'Relation Name'?: string
  readonly 'Index Name'?: string
  readonly 'Actual Rows'?: number
  readonly 'Actual Loops'?: number
  readonly 'Rows Removed by Filter'?: number
  readonly 'Rows Removed by Index Recheck'?: number
  readonly 'Shared Hit Blocks'?: number
  readonly 'Shared Read Blocks'?: number
  readonly Plans?: readonly PlanNode[]
}

/** What `work` asks of the database, explained; of what it changes nothing stays. */
export async function explained(
  client: pg.Client,
  mode: PlanMode,
  work: (database: Database) => Promise<unknown>,
): Promise<readonly Explained[]> {
  const seen: Explained[] = []
  const database: Database = {
    async query<Row extends object>(query: Query): Promise<Result<Row>> {
      seen.push(await explain(client, query))
      const { rows, rowCount } = await client.query<Row>(query.text, [...(query.values ?? [])])
      return { rows, rowCount: rowCount ?? 0 }
    },
    transaction: (inside) => inside(database),
  }
  await client.query('begin')
  try {
    await client.query(`set local plan_cache_mode = force_${mode}_plan`)
    await work(database)
  } finally {
    await client.query('rollback')
  }
  return seen
}

async function explain(client: pg.Client, { name, text, values = [] }: Query): Promise<Explained> {
  const given = values.length === 0 ? '' : `(${values.map(literal).join(', ')})`
  await client.query('savepoint before')
  await client.query(`prepare explained as ${text}`)
  const { rows } = await client.query(
    `explain (analyze, buffers, timing off, format json) execute explained${given}`,
  )
  await client.query('rollback to before')
  await client.query('deallocate explained')
  const root: PlanNode = rows[0]['QUERY PLAN'][0].Plan
  const scans = nodesOf(root).filter(
    (node) => GROWING.includes(node['Relation Name'] ?? '') && isScan(node),
  )
  return {
    name,
    seqScans: scans.filter(isSeqScan).map((node) => node['Relation Name'] ?? ''),
    indexes: new Set(nodesOf(root).flatMap((node) => node['Index Name'] ?? [])),
    rowsRead: scans.reduce((sum, node) => sum + rowsReadBy(node), 0),
    pages: (root['Shared Hit Blocks'] ?? 0) + (root['Shared Read Blocks'] ?? 0),
  }
}

function nodesOf(node: PlanNode): readonly PlanNode[] {
  return [node, ...(node.Plans ?? []).flatMap(nodesOf)]
}

function isScan(node: PlanNode): boolean {
  return / Scan$/.test(node['Node Type']) && node['Node Type'] !== 'Bitmap Index Scan'
}

function isSeqScan(node: PlanNode): boolean {
  return node['Node Type'] === 'Seq Scan' && (node['Actual Loops'] ?? 0) > 0
}

function rowsReadBy(node: PlanNode): number {
  const each =
    (node['Actual Rows'] ?? 0) +
    (node['Rows Removed by Filter'] ?? 0) +
    (node['Rows Removed by Index Recheck'] ?? 0)
  return each * (node['Actual Loops'] ?? 0)
}

/** The value as `execute` takes it: it has no parameters of its own. */
function literal(value: unknown): string {
  if (value === null || value === undefined) return 'null'
  return pg.escapeLiteral(textOf(value))
}

function textOf(value: unknown): string {
  if (value instanceof Date) return value.toISOString()
  if (value instanceof Uint8Array) return `\\x${Buffer.from(value).toString('hex')}`
  if (!Array.isArray(value)) return String(value)
  const elements = value.map((element) =>
    element === null ? 'null' : `"${textOf(element).replaceAll(/["\\]/g, '\\$&')}"`,
  )
  return `{${elements.join(',')}}`
}
