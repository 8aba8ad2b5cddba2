/** Database trouble other than a stopped or silent server (run.ts): how each kind begins and ends. */
import { execFileSync } from 'node:child_process'
import { closeSync, openSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import pg from 'pg'
import { type Postgres, withClient } from '../../testkit/database/postgres.ts'

export interface Trouble {
  readonly name: string
  /** It comes and goes at first: one episode or several. */
  readonly mayFlicker?: true
  begin(): Promise<void>
  /** Resolves when it is over. */
  end(): Promise<void>
}

/** Of the server, including those reserved for superusers. */
export const MAX_CONNECTIONS = 30
const HOGS = MAX_CONNECTIONS + 10
const HOG_PAUSE_MS = 5
const MIB = 1024 * 1024

export function troublesOf(postgres: Postgres, disk: string | undefined): readonly Trouble[] {
  const { url } = postgres
  const failover = {
    name: 'failover to a standby, which is promoted',
    async begin() {
      await postgres.stop()
      postgres.becomeStandby()
      await postgres.start()
    },
    end: () => run(url, 'select pg_promote()'),
  }
  const turn = {
    name: 'read-only by a reload, under live connections',
    begin: () => run(url, 'alter system set default_transaction_read_only = on', RELOAD),
    end: () =>
      run(
        url,
        'set default_transaction_read_only = off',
        `alter system reset default_transaction_read_only`,
        RELOAD,
      ),
  }
  const all = [failover, turn, tooManyConnections(url)]
  return disk === undefined ? all : [...all, fullDisk(postgres, disk)]
}

const RELOAD = 'select pg_reload_conf()'

/** Others take all connections; the service's are closed, and it gets no new ones. */
function tooManyConnections(url: string): Trouble {
  let hogging = new AbortController()
  let hogs: Promise<unknown> = Promise.resolve()
  return {
    name: 'too many connections',
    async begin() {
      hogging = new AbortController()
      await withClient(url, async (db) => {
        hogs = Promise.all(Array.from({ length: HOGS }, () => hog(url, hogging.signal)))
        for (;;) {
          const { rowCount } = await db.query(OUST)
          if (rowCount === 0) return
          await wait(HOG_PAUSE_MS)
        }
      })
    },
    async end() {
      hogging.abort()
      await hogs
    },
  }
}

const OUST = /* sql */ `
  select pg_terminate_backend(pid, 1000) from pg_stat_activity where application_name = 'fleetloop'`

/** Takes a connection as soon as one is free, and holds it until `signal` aborts. */
async function hog(url: string, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const client = new pg.Client({ connectionString: url })
    client.on('error', () => {})
    const isIn = await client.connect().then(
      () => true,
      () => false,
    )
    while (isIn && !signal.aborted) await wait(HOG_PAUSE_MS)
    await client.end().catch(() => {})
    if (!isIn) await wait(HOG_PAUSE_MS)
  }
}

/** `disk` holds only the database. */
function fullDisk(postgres: Postgres, disk: string): Trouble {
  const ballast = join(disk, 'ballast')
  return {
    name: 'full disk',
    mayFlicker: true, // some rows fit as long as PostgreSQL's files have room
    async begin() {
      const fd = openSync(ballast, 'w')
      const piece = Buffer.alloc(MIB)
      try {
        while (true) writeSync(fd, piece, 0, piece.length)
      } catch {
        // ENOSPC
      } finally {
        closeSync(fd)
      }
    },
    async end() {
      rmSync(ballast)
      await postgres.start() // it stops if it cannot write its log
    },
  }
}

/** Mounts a small file system that a file can fill; false without the right to. */
export function mountSmallDisk(path: string, sizeMib: number): boolean {
  try {
    const options = `size=${sizeMib}m,mode=0755`
    execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', path], { stdio: 'ignore' })
  } catch {
    return false
  }
  process.once('exit', () => unmount(path)) // if the drill fails
  return true
}

export function unmount(path: string): void {
  try {
    execFileSync('umount', ['-l', path], { stdio: 'ignore' })
  } catch {
    // not mounted any more
  }
}

async function run(url: string, ...statements: readonly string[]): Promise<void> {
  await withClient(url, async (db) => {
    for (const statement of statements) await db.query(statement)
  })
}
