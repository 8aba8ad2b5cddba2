/** A PostgreSQL of a drill's own, that can be stopped, killed, frozen, started again and made a standby. Linux. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'
import type { Binaries } from '../src/dev/binaries.ts'
import { type EmbeddedDatabase, startEmbedded } from '../src/dev/embedded-postgres.ts'
import { hasEnded, isAlive } from '../src/dev/run-user.ts'

export interface Postgres {
  /** The same before and after a restart. */
  readonly url: string
  /** Resolves when it takes connections; does nothing where it runs. */
  start(): Promise<void>
  /** Fast shutdown. Repeatable. */
  stop(): Promise<void>
  /** SIGKILL to every process of it; resolves when they are gone. */
  kill(): Promise<void>
  /** SIGSTOP to every process of it, which keeps connections open and answers none. */
  freeze(): void
  thaw(): void
  /** Its processes, the postmaster first. */
  pids(): readonly number[]
  /** SIGKILL to one of its connections: it ends all others, and recovers from its log. */
  crash(): void
  /** At the next start it is a hot standby, which only reads, until it is told to promote. */
  becomeStandby(): void
}

const KILLED_MS = 10_000

/** Running, under `dataDir`, which is made. Ended with this process at the latest. `binaries`: of another release. */
export async function startPostgres(dataDir: string, binaries?: Binaries): Promise<Postgres> {
  let running: EmbeddedDatabase | undefined
  const start = async () => {
    if (running !== undefined && isAlive(running.pid)) return
    await running?.stop() // only lets go of the directory
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
  // Where the drill itself breaks, nobody ends it.
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
      await running.stop() // only lets go of the directory
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

/** For as long as `work` takes. */
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

/** A client for as long as `work` takes. */
export async function withClient<T>(url: string, work: (db: pg.Client) => Promise<T>): Promise<T> {
  const db = new pg.Client({ connectionString: url })
  db.on('error', () => {}) // its server may be killed: the next statement says so
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

/** Of a process that may have ended meanwhile. */
export function signalPid(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch {
    // it has
  }
}
