/** Finds out which machine takes writes, by writing to each all the time, directly. */
import { setTimeout as wait } from 'node:timers/promises'
import pg from 'pg'
import { withClient } from '../../testkit/database/postgres.ts'

export interface Gap {
  readonly fromMs: number
  readonly toMs: number
}

export interface WriteProbes {
  /** When writes were committed there, by performance.now(), oldest first. */
  committedAtMs(index: number): readonly number[]
  stop(): Promise<void>
}

const EVERY_MS = 100
const TIMEOUT_MS = 1_000
const TABLE = 'create table probe (n int); insert into probe values (0)'
const WRITE = 'update probe set n = n + 1'

export async function makeProbeTable(url: string): Promise<void> {
  await withClient(url, (db) => db.query(TABLE))
}

/** `urls`: one per machine. */
export function startWriteProbes(urls: readonly string[]): WriteProbes {
  const committedAtMs = urls.map((): number[] => [])
  let isOver = false
  const probe = async (url: string, index: number): Promise<void> => {
    let db: pg.Client | undefined
    while (!isOver) {
      const startedAtMs = performance.now()
      try {
        db ??= await connect(url)
        await db.query(WRITE)
        committedAtMs[index]?.push(performance.now())
      } catch (error) {
        const isStandby = error instanceof pg.DatabaseError && error.code === '25006'
        if (!isStandby) {
          db?.end().catch(() => {})
          db = undefined
        }
      }
      await wait(Math.max(0, EVERY_MS - (performance.now() - startedAtMs)))
    }
    await db?.end().catch(() => {})
  }
  const probing = Promise.all(urls.map(probe))
  return {
    committedAtMs: (index) => committedAtMs[index] ?? [],
    async stop() {
      isOver = true
      await probing
    },
  }
}

async function connect(url: string): Promise<pg.Client> {
  const db = new pg.Client({
    connectionString: url,
    connectionTimeoutMillis: TIMEOUT_MS,
    query_timeout: TIMEOUT_MS,
  })
  db.on('error', () => {}) // the next statement reports it
  await db.connect()
  return db
}

/** The times between one and the next of `moments` (ascending), from `sinceMs` to `nowMs`; the longest first, at least one. */
export function gapsOf(moments: readonly number[], sinceMs: number, nowMs: number): readonly Gap[] {
  const first = moments.findIndex((moment) => moment >= sinceMs)
  const from = first === -1 ? moments.length : first
  const bounds = [moments[from - 1] ?? sinceMs, ...moments.slice(from), nowMs]
  return bounds
    .slice(1)
    .map((toMs, index) => ({ fromMs: bounds[index] ?? toMs, toMs }))
    .sort((one, other) => lengthMs(other) - lengthMs(one))
}

export function lengthMs({ fromMs, toMs }: Gap): number {
  return toMs - fromMs
}
