/** PostgreSQL servers of a test's own: copies of one that was never used, each a primary or the standby of another. */

import { spawnSync } from 'node:child_process'
import { appendFileSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type pg from 'pg'
import type { Test } from 'tap'
import type { Binaries } from '../../src/dev/binaries.ts'
import { type Postgres, startPostgres } from '../../testkit/database/postgres.ts'
import { until } from '../../testkit/until.ts'
import { connect } from './database.ts'
import { databaseDirectory } from './directory.ts'
import type { Enrolled, Running } from './service.ts'

export interface OwnServer extends Postgres {
  /** Under which it is; its socket is in `run`. */
  readonly dataDir: string
  /** A new client, ended with the test. */
  db(): Promise<pg.Client>
  /** Copies it; it must be stopped. */
  save(): void
  /** Puts the copy in its place; it must be stopped. */
  restore(): void
}

export interface OwnServers {
  /** A primary, running; ended with `t`. */
  primary(t: Test): Promise<OwnServer>
  /** It follows, and takes writes once it is promoted. */
  standbyOf(t: Test, primary: OwnServer): Promise<OwnServer>
}

/** Where initdb and postgres are: TEST_PG_BIN, or Debian's where TEST_DATABASE_URL is given; else the embedded ones. */
function binariesToUse(): Binaries | undefined {
  const bin = process.env['TEST_PG_BIN'] ?? debianBin()
  return bin === undefined
    ? undefined
    : { initdb: join(bin, 'initdb'), postgres: join(bin, 'postgres') }
}

function debianBin(): string | undefined {
  const base = '/usr/lib/postgresql'
  if (process.env['TEST_DATABASE_URL'] === undefined || !existsSync(base)) return undefined
  return readdirSync(base)
    .sort()
    .map((release) => join(base, release, 'bin'))[0]
}

/** All of them are gone at the end of `t`. */
export async function ownServers(t: Test): Promise<OwnServers> {
  const directory = databaseDirectory(t)
  const binaries = binariesToUse()
  let made = 0
  const next = () => join(directory, String(++made))
  const unused = next()
  await (await startPostgres(unused, binaries)).stop()

  async function copied(
    t: Test,
    prepare: (cluster: string) => void = () => {},
  ): Promise<OwnServer> {
    const dataDir = next()
    const cluster = join(dataDir, 'postgres')
    mkdirSync(dataDir)
    spawnSync('cp', ['-a', join(unused, 'postgres'), cluster])
    prepare(cluster)
    const server = await startPostgres(dataDir, binaries)
    t.teardown(async () => {
      server.thaw()
      await server.kill()
    })
    const saved = `${cluster}.saved`
    return {
      ...server,
      dataDir,
      db: () => connect(t, server.url),
      save: () => void spawnSync('cp', ['-a', cluster, saved]),
      restore() {
        rmSync(cluster, { recursive: true })
        renameSync(saved, cluster)
      },
    }
  }

  return {
    primary: (t) => copied(t),
    async standbyOf(t, primary) {
      const conninfo = `host=${primary.dataDir}/run port=5432 user=fleetloop`
      const standby = await copied(t, (cluster) => {
        appendFileSync(join(cluster, 'standby.signal'), '')
        appendFileSync(join(cluster, 'postgresql.auto.conf'), `primary_conninfo = '${conninfo}'\n`)
      })
      const db = await primary.db()
      const streams = `select from pg_stat_replication where state = 'streaming'`
      await until(async () => (await db.query(streams)).rowCount === 1)
      return standby
    },
  }
}

/** In this order, as one DATABASE_URL. */
export function urlOf(...servers: readonly OwnServer[]): string {
  const hosts = servers.map(({ dataDir }) => encodeURIComponent(join(dataDir, 'run'))).join(',')
  return `postgres://fleetloop@${hosts}/fleetloop?sslmode=disable&target_session_attrs=read-write`
}

/** Resolves when it takes writes. */
export async function promote(standby: OwnServer): Promise<void> {
  const db = await standby.db()
  await db.query('select pg_promote()')
}

/** Sends heartbeats until one is stored; none may be refused with anything but 503. */
export async function beat(t: Test, service: Running, phone: Enrolled): Promise<void> {
  await until(async () => {
    const { status, headers } = await service.call('POST', '/v1/heartbeat', {
      token: phone.token,
      body: {},
    })
    if (status === 200) return true
    if (status !== 503 || !headers.has('retry-after')) t.fail(`heartbeat answered ${status}`)
    return false
  })
}

/** What /readyz says, and its status. */
export async function ready(service: Running): Promise<Record<string, unknown>> {
  const { status, body } = await service.call('GET', '/readyz')
  return { ...body, status }
}

/** Of an ordinary role, which owns the database. */
export async function ordinary(server: OwnServer, url: string): Promise<string> {
  const db = await server.db()
  await db.query(`create role ordinary login; alter database fleetloop owner to ordinary;
    alter schema public owner to ordinary`)
  return url.replace('fleetloop@', 'ordinary@')
}
