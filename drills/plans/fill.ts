/** Databases with one installation each, in a PostgreSQL tuned for filling, which may be kept for the next run. */

import { partitions } from '../../src/db/heartbeats/partitions.ts'
import { migrate, readMigrations } from '../../src/db/schema/migrate.ts'
import { plainDatabase } from '../../testkit/database/explain.ts'
import { type Postgres, withClient } from '../../testkit/database/postgres.ts'
import { storeHistory } from '../../testkit/database/stored-history.ts'
import { grow, HEARTBEATS, type Installation } from './installation.ts'

/** Sets what a server of that size has; restarts it. */
export async function tune(postgres: Postgres): Promise<void> {
  await withClient(postgres.url, async (db) => {
    for (const [name, value] of [
      ['max_wal_size', '8GB'],
      ['checkpoint_timeout', '30min'],
      ['shared_buffers', '1GB'],
    ]) {
      await db.query(`alter system set ${name} = '${value}'`)
    }
  })
  await postgres.stop()
  await postgres.start()
}

export interface Filling {
  readonly name: string
  /** What it already holds. */
  readonly from: Installation
  readonly to: Installation
  readonly print: (line: string) => void
}

/** Resolves with the URL of the filled database; does nothing if an earlier run has filled it. */
export async function fill(url: string, { name, from, to, print }: Filling): Promise<string> {
  const own = new URL(url)
  own.pathname = `/${name}`
  await withClient(url, async (db) => {
    const there = await db.query('select from pg_database where datname = $1', [name])
    if (there.rowCount === 0) await db.query(`create database ${name}`)
  })
  await migrate(own.href, readMigrations())
  await withClient(own.href, async (db) => {
    await db.query('create table if not exists filled (installation jsonb primary key)')
    const done = await db.query('select from filled where installation = $1', [to])
    if (done.rowCount === 1) return
    const startedAtMs = performance.now()
    await db.query('set synchronous_commit = off')
    if (from.devices === 0) {
      const history = { devices: to.devices, count: to.devices * HEARTBEATS }
      const mostDays = Number.POSITIVE_INFINITY
      await storeHistory(db, { ...history, mostDays, print: () => {} })
      await partitions(plainDatabase(db), { retentionDays: 7 }).maintain()
    }
    await grow(db, from, to)
    await db.query('insert into filled values ($1)', [to])
    const seconds = ((performance.now() - startedAtMs) / 1_000).toFixed(0)
    print(`${name}: ${JSON.stringify(to)} after ${seconds} s`)
  })
  return own.href
}
