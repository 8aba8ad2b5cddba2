/** A database of its own for each test file, cloned from the migrated template. */
import { randomBytes } from 'node:crypto'
import pg from 'pg'
import type { Test } from 'tap'
import type { Database, Query, Queryable } from '../../src/db/postgres/pool.ts'
import { withClient } from '../../testkit/database/postgres.ts'
import { readCluster, urlOf } from '../runner/cluster.ts'

/** Dropped at the end of `t`. A copy of the migrated template, or of the one given, which nobody uses now. */
export async function createDatabase(t: Test, copied?: string): Promise<string> {
  const cluster = readCluster()
  const name = `test_${randomBytes(6).toString('hex')}`
  const template = copied === undefined ? cluster.template : new URL(copied).pathname.slice(1)
  await admin(cluster.url, `create database ${name} template ${template}`)
  t.teardown(() => admin(cluster.url, `drop database if exists ${name} with (force)`))
  return urlOf(cluster, name)
}

/** For the pool of a test that is not about its time limits: a busy machine stands still for longer than those of the service. */
export const PATIENT = {
  queryTimeoutMs: 30_000,
  connectTimeoutMs: 30_000,
  lockTimeoutMs: 30_000,
} as const

/** A client of the database, ended with `t`. */
export async function connect(t: Test, url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => {}) // the database may be dropped first
  await client.connect()
  t.teardown(() => client.end())
  return client
}

/** One session as the stores take it, with the server's own settings: a pool would pin them. */
export function databaseOf(client: pg.Client): Database {
  const session: Queryable = {
    async query<Row extends object>({ text, values = [] }: Query) {
      const { rows, rowCount } = await client.query<Row>(text, [...values])
      return { rows, rowCount: rowCount ?? 0 }
    },
  }
  return {
    ...session,
    async transaction(work) {
      await client.query('begin')
      try {
        const outcome = await work(session)
        await client.query('commit')
        return outcome
      } catch (error) {
        await client.query('rollback')
        throw error
      }
    },
  }
}

async function admin(url: string, sql: string): Promise<void> {
  await withClient(url, (db) => db.query(sql))
}
