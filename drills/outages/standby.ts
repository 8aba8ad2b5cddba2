/** A synchronous standby beside a PostgreSQL of a drill. Linux. */
import { execFileSync } from 'node:child_process'
import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Postgres, startPostgres, withClient } from '../../testkit/database/postgres.ts'
import { until } from '../../testkit/until.ts'

const NAME = 'standby'

/**
 * Starts a copy of the server in `primaryDir`, which restarts for it. Resolves when the primary acknowledges no commit
 * that the standby lacks.
 */
export async function startSynchronousStandby(
  primary: Postgres,
  primaryDir: string,
  dataDir: string,
): Promise<Postgres> {
  await primary.stop()
  mkdirSync(dataDir)
  execFileSync('cp', ['-a', join(primaryDir, 'postgres'), dataDir])
  await primary.start()
  const url = new URL(primary.url)
  const way = `host=${url.searchParams.get('host')} port=${url.port || 5432} user=${url.username}`
  const cluster = join(dataDir, 'postgres')
  writeFileSync(join(cluster, 'standby.signal'), '')
  appendFileSync(
    join(cluster, 'postgresql.auto.conf'),
    `\nprimary_conninfo = '${way} application_name=${NAME}'\n`,
  )
  const standby = await startPostgres(dataDir)
  await withClient(primary.url, async (db) => {
    await db.query(`alter system set synchronous_standby_names = '${NAME}'`)
    await db.query('select pg_reload_conf()')
    await until(async () => {
      const { rowCount } = await db.query(
        `select from pg_stat_replication where sync_state = 'sync' and state = 'streaming'`,
      )
      return rowCount === 1
    })
  })
  return standby
}
