/** A PostgreSQL with the page's WAL archive, its base backup, and the page's restore to a moment. */
import { join } from 'node:path'
import { withClient } from '../../testkit/database/postgres.ts'
import { until } from '../../testkit/until.ts'
import { pageFile, replaced } from '../patroni/page.ts'
import { startDebianServer } from './debian-server.ts'

export interface ArchivedServer {
  /** A superuser's. */
  readonly url: string
  stop(): Promise<void>
  baseBackup(): Promise<void>
  /** Needs a stopped server; afterwards it runs, with the data of that moment. */
  restoreTo(moment: string): Promise<void>
}

const BACKUPS = '/var/backups/fleetloop'

export async function startArchivedServer(dir: string): Promise<ArchivedServer> {
  const server = await startDebianServer(dir, 'server', (directory) =>
    replaced(pageFile('archive.conf'), [[BACKUPS, join(directory, 'backups')]]),
  )
  const backups = join(server.directory, 'backups')
  /** The page's script, with our paths. */
  const script = (name: string, more: Readonly<Record<string, string>> = {}) => {
    const names = {
      BACKUPS: backups,
      DATA: server.dataDir,
      SERVER: `host=${server.sockets} user=postgres`,
      ...more,
    }
    const given = Object.entries(names).map(([key, value]) => `${key}=${value}`)
    return server.command('env', ...given, 'sh', '-euc', pageFile(name))
  }
  await server.command('mkdir', '-p', join(backups, 'wal'))
  await server.command('createdb', '-h', server.sockets, '-U', 'postgres', 'fleetloop')
  return {
    url: server.url('fleetloop'),
    stop: server.stop,
    baseBackup: () => script('base-backup'),
    async restoreTo(moment) {
      await script('point-in-time', { TARGET: moment })
      await server.start()
      await until(() => hasPromoted(server.url('postgres')).catch(() => false)) // it is starting
    },
  }
}

function hasPromoted(url: string): Promise<boolean> {
  return withClient(url, async (db) => {
    const { rows } = await db.query('select not pg_is_in_recovery() as "hasPromoted"')
    return rows[0].hasPromoted
  })
}
