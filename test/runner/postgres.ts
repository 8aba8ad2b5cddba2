/** The PostgreSQL of a run of tests, and the migrated database that test files clone. */
import { mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { migrate, readMigrations } from '../../src/db/schema/migrate.ts'
import { startEmbedded } from '../../src/dev/embedded-postgres.ts'
import { withClient } from '../../testkit/database/postgres.ts'
import { parentOfDatabases } from '../helpers/directory.ts'
import { type Cluster, urlOf } from './cluster.ts'

interface Server {
  readonly url: string
  stop(): Promise<void>
}

export interface StartedCluster {
  readonly cluster: Cluster
  stop(): Promise<void>
}

export async function startCluster(): Promise<StartedCluster> {
  const server = await openServer()
  const template = `fleetloop_template_${process.pid}`
  const stop = async () => {
    await sql(server.url, `drop database if exists ${template} with (force)`)
    await server.stop()
  }
  try {
    await sql(server.url, `create database ${template}`)
    await migrate(urlOf(server, template), readMigrations())
  } catch (error) {
    await stop()
    throw error
  }
  return { cluster: { url: server.url, template }, stop }
}

/** TEST_DATABASE_URL names a server where we may create databases; else an embedded one is made and removed. */
async function openServer(): Promise<Server> {
  const given = process.env['TEST_DATABASE_URL']
  if (given !== undefined) return { url: given, stop: async () => {} }
  const dataDir = mkdtempSync(join(parentOfDatabases(), 'fleetloop-test-'))
  const embedded = await startEmbedded({ dataDir, log: () => {} })
  return {
    url: embedded.url,
    async stop() {
      await embedded.stop()
      rmSync(dataDir, { recursive: true, force: true })
    },
  }
}

async function sql(url: string, statement: string): Promise<void> {
  await withClient(url, (db) => db.query(statement))
}
