/** A PostgreSQL that can be stopped, killed, frozen, restarted and made a standby. Linux. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'
import type { Binaries } from '../../src/dev/binaries.ts'
import { type EmbeddedDatabase, startEmbedded } from '../../src/dev/embedded-postgres.ts'
import { hasEnded, isAlive } from '../../src/dev/run-user.ts'

export interface Postgres {
  /** The same after a restart. */
  readonly url: string
  /** Resolves when it accepts connections; does nothing if it runs. */
  start(): Promise<void>
  /** Fast shutdown. Repeatable. */
  stop(): Promise<void>
  /** SIGKILL to all its processes; resolves when they are gone. */
  kill(): Promise<void>
  /** SIGSTOP to all its processes: connections stay open and get no response. */
  freeze(): void
  thaw(): void
  /** The postmaster first. */
  pids(): readonly number[]
  /** SIGKILL to one of its connections: it ends all others and recovers from its log. */
  crash(): void
  /** From the next start it is a hot standby, until it is promoted. */
  becomeStandby(): void
}

const KILLED_MS = 10_000

/** Starts one in `dataDir`, which it creates. Ends with this process or before. `binaries`: of another release. */
export async function startPostgres(dataDir: string, binaries?: Binaries): Promise<Postgres> {
  let running: EmbeddedDatabase | undefined
  const start = async () => {
    if (running !== undefined && isAlive(running.pid)) return
    await running?.stop() // only releases the directory
    running = await startEmbedded({ dataDir, log: () => {}, ...(binaries && { binaries }) })
  }
  /** The postmaster first: stopped, it starts no further process. */
  const pids = () => (running === undefined ? [] : [running.pid, ...childrenOf(running.pid)])
  const signalAll = (signal: NodeJS.Signals): readonly number[] => {
    if (running === undefined) return []
    signalPid(running.pid, signal)
    const all = pids()
    for (const each of all) signalPid(each, signal)
    return all
  }
  await start()
  const url = running?.url ?? ''
  // If the drill breaks, nobody else ends it.
  process.once('exit', () => {
    for (const pid of signalAll('SIGSTOP')) signalPid(pid, 'SIGKILL')
  })

  return {
    url,
    start,
    async stop() {
      await running?.stop()
      running = undefined
    },
    async kill() {
      if (running === undefined) return
      const pids = signalAll('SIGSTOP')
      for (const pid of pids) signalPid(pid, 'SIGKILL')
      await Promise.all(pids.map((pid) => hasEnded(pid, KILLED_MS)))
      await running.stop() // only releases the directory
      running = undefined
    },
    freeze: () => void signalAll('SIGSTOP'),
    thaw: () => void signalAll('SIGCONT'),
    pids,
    crash() {
      const [, child] = pids()
      if (child !== undefined) signalPid(child, 'SIGKILL')
    },
    becomeStandby: () => writeFileSync(join(dataDir, 'postgres', 'standby.signal'), ''),
  }
}

/** Starts one for as long as `work` takes. */
export async function withPostgres<T>(
  dataDir: string,
  work: (postgres: Postgres) => Promise<T>,
): Promise<T> {
  const postgres = await startPostgres(dataDir)
  try {
    return await work(postgres)
  } finally {
    postgres.thaw()
    await postgres.stop()
  }
}

/** Connects a client for as long as `work` takes. */
export async function withClient<T>(url: string, work: (db: pg.Client) => Promise<T>): Promise<T> {
  const db = new pg.Client({ connectionString: url })
  db.on('error', () => {}) // its server may be killed: the next statement reports it
  await db.connect()
  try {
    return await work(db)
  } finally {
    await db.end()
  }
}

export function childrenOf(postmaster: number): readonly number[] {
  try {
    const children = readFileSync(`/proc/${postmaster}/task/${postmaster}/children`, 'utf8')
    return children.trim().split(' ').filter(Boolean).map(Number)
  } catch {
    return [] // it has ended
  }
}

/** The process may have ended. */
export function signalPid(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch {
    // it has
  }
}
