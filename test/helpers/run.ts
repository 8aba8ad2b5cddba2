/**
 * `npm test`: one PostgreSQL for all test files, then suite.ts with the arguments given, then its end. A terminal sees
 * tap's report, a pipe the TAP itself.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { startEmbedded } from '../../src/db/embedded.ts'
import { migrate, readMigrations } from '../../src/db/migrate.ts'
import { clusterEnv, urlOf } from './cluster.ts'

interface Server {
  readonly url: string
  stop(): Promise<void>
}

/** TEST_DATABASE_URL names a server where we may create databases; else an embedded one is made and removed. */
async function openServer(): Promise<Server> {
  const given = process.env['TEST_DATABASE_URL']
  if (given !== undefined) return { url: given, stop: async () => {} }
  const dataDir = mkdtempSync(join(tmpdir(), 'fleetloop-test-'))
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
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    await client.query(statement)
  } finally {
    await client.end()
  }
}

const server = await openServer()
const template = `fleetloop_template_${process.pid}`
try {
  await sql(server.url, `create database ${template}`)
  await migrate(urlOf(server, template), readMigrations())
  const env = { ...process.env, ...clusterEnv({ url: server.url, template }) }
  const isReported = process.stdout.isTTY === true
  const suite = spawn(
    process.execPath,
    [fileURLToPath(new URL('suite.js', import.meta.url)), ...process.argv.slice(2)],
    { stdio: ['ignore', isReported ? 'pipe' : 'inherit', 'inherit'], env },
  )
  // `npm test` has node_modules/.bin on its PATH.
  if (isReported) spawn('tap', ['-'], { stdio: [suite.stdout, 'inherit', 'inherit'] })
  // Ctrl-C reaches the suite as well: its end is ours.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => suite.kill(signal))
  const [code] = await once(suite, 'close')
  process.exitCode = code ?? 1
} finally {
  await sql(server.url, `drop database if exists ${template} with (force)`)
  await server.stop()
}
