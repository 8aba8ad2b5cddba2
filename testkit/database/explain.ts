/**
 * A database that explains each statement as it runs it, so that the plans are those of the statements that the
 * service really sends. Rows and pages are what to judge by; times depend on the machine.
 */
import type pg from 'pg'
import type { Database, Query, Result } from '../../src/db/postgres/pool.ts'

/** `custom`: planned for these values. `generic`: once for all values, as a prepared statement may be. */
export type PlanMode = 'custom' | 'generic'

export interface Explained {
  readonly name: string
  /** Tables of GROWING that were read completely. */
  readonly seqScans: readonly string[]
  readonly indexes: ReadonlySet<string>
  /** Rows of GROWING that scans read, including those filtered out. */
  readonly rowsRead: number
  /** Pages touched, of tables and indexes. */
  readonly pages: number
  /** The executor's time. */
  readonly ms: number
  /** Its own nodes from the top, with index or relation: `Index Scan devices_pkey`. */
  readonly nodes: readonly string[]
}

/** Tables that grow with use. Those of a small fleet may be read as a whole. */
const GROWING: readonly string[] = [
  ...['commands', 'command_events', 'audit_log', 'enrollment_tokens', 'device_tokens'],
  ...['apk_download_events', 'apk_chunks', 'job_members', 'fleet_events'],
]

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

/** A plan as auto_explain sends it to the client. */
interface Explanation {
  readonly 'Query Text': string
  readonly Plan: PlanNode
  readonly ms: number
}

const NOTICE_HEAD = /^duration: ([\d.]+) ms {2}plan:\n/

/**
 * What `work` asks of the database under `settings`, explained; of what it changes nothing stays, unless it `isKept`. A
 * superuser's connection.
 */
export async function explained(
  client: pg.Client,
  mode: PlanMode,
  work: (database: Database) => Promise<unknown>,
  settings: Readonly<Record<string, string>> = {},
  isKept = false,
): Promise<readonly Explained[]> {
  const asked: Query[] = []
  const explanations: Explanation[] = []
  const plain = plainDatabase(client)
  const database: Database = {
    query<Row extends object>(query: Query): Promise<Result<Row>> {
      asked.push(query)
      return plain.query<Row>(query)
    },
    transaction: (inside) => inside(database),
  }
  const onNotice = ({ message = '' }: { readonly message?: string | undefined }) => {
    const [head, ms] = NOTICE_HEAD.exec(message) ?? []
    if (head !== undefined) {
      explanations.push({ ...JSON.parse(message.slice(head.length)), ms: Number(ms) })
    }
  }
  await client.query(`load 'auto_explain'`)
  await client.query('begin')
  client.on('notice', onNotice)
  try {
    await client.query(`
      set local plan_cache_mode = force_${mode}_plan;
      set local client_min_messages = log;
      set local auto_explain.log_format = json;
      set local auto_explain.log_analyze = on;
      set local auto_explain.log_timing = off;
      set local auto_explain.log_buffers = on;
      set local auto_explain.log_nested_statements = on;
      set local auto_explain.log_min_duration = 0`)
    for (const [name, value] of Object.entries(settings)) {
      await client.query(`set local ${name} = ${value}`)
    }
    await work(database)
    await client.query('set local auto_explain.log_min_duration = -1') // the last plan comes with the next statement
  } finally {
    client.off('notice', onNotice)
    await client.query(isKept ? 'commit' : 'rollback')
  }
  const explained = asked.map((query) => readPlans(query, explanations))
  if (explanations.length > 0) throw new Error(`a plan of ${explanations[0]?.['Query Text']}`)
  return explained
}

/** Runs statements on a client, without explaining. */
export function plainDatabase(client: pg.Client): Database {
  const database: Database = {
    async query<Row extends object>({ text, values }: Query): Promise<Result<Row>> {
      const { rows, rowCount } = await client.query<Row>(text, [...(values ?? [])])
      return { rows, rowCount: rowCount ?? 0 }
    },
    transaction: (inside) => inside(database),
  }
  return database
}

/** Removes the query's plan from the list, and those of its triggers before it, such as foreign keys. */
function readPlans({ name, text }: Query, explanations: Explanation[]): Explained {
  const own = explanations.findIndex((explanation) => explanation['Query Text'] === text)
  const taken = explanations.splice(0, own + 1)
  const plans = taken.map(({ Plan }) => Plan)
  const root = plans.at(-1)
  if (root === undefined) throw new Error(`no plan of ${name}`)
  const scans = plans
    .flatMap(nodesOf)
    .filter((node) => GROWING.includes(node['Relation Name'] ?? '') && isScan(node))
  const pagesOf = (plan: PlanNode) =>
    (plan['Shared Hit Blocks'] ?? 0) + (plan['Shared Read Blocks'] ?? 0)
  return {
    name,
    seqScans: scans.filter(isSeqScan).map((node) => node['Relation Name'] ?? ''),
    indexes: new Set(plans.flatMap(nodesOf).flatMap((node) => node['Index Name'] ?? [])),
    rowsRead: scans.reduce((sum, node) => sum + rowsReadBy(node), 0),
    pages: plans.reduce((sum, plan) => sum + pagesOf(plan), 0),
    ms: taken.reduce((sum, { ms }) => sum + ms, 0),
    nodes: nodesOf(root).map((node) =>
      [node['Node Type'], node['Index Name'] ?? node['Relation Name'] ?? ''].join(' ').trim(),
    ),
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
