/** A window of heartbeats against one service, and its cost: node, PostgreSQL, WAL. */
import type pg from 'pg'
import { type LoadReport, type LoadRequest, runLoad } from '../../sim/load/load.ts'
import { cpuMs, cpuMsWithChildren } from '../../testkit/processes.ts'
import type { BenchService } from '../service.ts'

export interface WindowCost {
  readonly heartbeats: number
  /** CPU of the service per heartbeat. */
  readonly nodeUs: number
  /** CPU of PostgreSQL per heartbeat. */
  readonly postgresUs: number
  readonly walBytes: number
  /** Heartbeats per transaction. */
  readonly groupSize: number
  readonly latencyMs: LoadReport['latencyMs']
}

export interface WindowOptions {
  readonly service: BenchService
  readonly postmasterPid: number
  readonly db: pg.Client
  readonly ratePerS: number
  readonly seconds: number
  readonly connections: number
  readonly next: (index: number) => LoadRequest
}

const COUNTERS = /* sql */ `
  select (pg_current_wal_lsn() - '0/0'::pg_lsn)::float8 as "walBytes", xact_commit::float8 as "commits"
  from pg_stat_database where datname = current_database()`

/** Throws unless the answer to every heartbeat is 200. */
export async function measureWindow(options: WindowOptions): Promise<WindowCost> {
  const { service, postmasterPid } = options
  const before = await countersOf(options)
  const end = new AbortController() // AbortSignal.any() may lose a timeout to the collector on Node 20
  const timer = setTimeout(() => end.abort(), options.seconds * 1_000)
  const report = await runLoad({
    origin: service.origin,
    ratePerS: options.ratePerS,
    connections: options.connections,
    next: options.next,
    signal: end.signal,
  })
  clearTimeout(timer)
  const after = await countersOf(options)
  const heartbeats = report.byStatus[200] ?? 0
  if (heartbeats !== report.due) throw new Error(`not all stored: ${JSON.stringify(report)}`)
  const each = (name: keyof typeof after) => (after[name] - before[name]) / heartbeats
  return {
    heartbeats,
    nodeUs: each('nodeMs') * 1_000,
    postgresUs: each('postgresMs') * 1_000,
    walBytes: each('walBytes'),
    groupSize: 1 / each('commits'),
    latencyMs: report.latencyMs,
  }

  async function countersOf({ db }: WindowOptions) {
    // Sessions report their transactions at most once a second; this one has few.
    await db.query('select pg_sleep(1.1)')
    const { rows } = await db.query<{ walBytes: number; commits: number }>(COUNTERS)
    return {
      walBytes: rows[0]?.walBytes ?? Number.NaN,
      commits: rows[0]?.commits ?? Number.NaN,
      nodeMs: cpuMs(service.pid),
      postgresMs: cpuMsWithChildren(postmasterPid),
    }
  }
}
