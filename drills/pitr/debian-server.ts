/** Debian's PostgreSQL and its tools, with its own settings, on a socket in a directory of ours. */
import { execFile } from 'node:child_process'
import { appendFileSync, chmodSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { signalPid } from '../../testkit/database/postgres.ts'
import { atExit } from '../../testkit/process/at-exit.ts'
import { asPostgres, binDirectory, serverPids } from '../patroni/programs.ts'

export interface DebianServer {
  /** Owned by the server's user. */
  readonly directory: string
  readonly dataDir: string
  readonly sockets: string
  /** A superuser's. */
  url(database: string): string
  start(): Promise<void>
  stop(): Promise<void>
  /** Runs a program of PostgreSQL or of the system as the server's user. */
  command(...args: readonly string[]): Promise<void>
}

const run = promisify(execFile)

/** Starts it in `name`, created in `dir`; `settings` are lines of postgresql.conf. */
export async function startDebianServer(
  dir: string,
  name: string,
  settings: (directory: string) => string,
): Promise<DebianServer> {
  const bin = binDirectory()
  if (bin === undefined) throw new Error('no PostgreSQL')
  const directory = join(dir, name)
  const [dataDir, sockets] = [join(directory, 'data'), join(directory, 'run')]
  const command = async (...args: readonly string[]): Promise<void> => {
    const [file = '', ...rest] = [...asPostgres(), ...args]
    const env = { PATH: `${bin}:/usr/bin:/bin`, LC_ALL: 'C.UTF-8' }
    await run(file, rest, { cwd: '/', env })
  }
  for (const path of [directory, sockets]) mkdirSync(path)
  if (process.geteuid?.() === 0) await run('chown', ['-R', 'postgres:postgres', directory])
  chmodSync(dir, 0o711) // lets PostgreSQL's user enter it
  await command(
    'initdb',
    '-D',
    dataDir,
    '-U',
    'postgres',
    '-A',
    'trust',
    '-E',
    'UTF8',
    '--locale=C',
  )
  const own = `listen_addresses = ''\nunix_socket_directories = '${sockets}'\n`
  appendFileSync(join(dataDir, 'postgresql.conf'), settings(directory) + own)
  const start = () => command('pg_ctl', '-D', dataDir, '-l', join(directory, 'log'), '-w', 'start')
  atExit(() => {
    for (const pid of serverPids(dataDir)) signalPid(pid, 'SIGKILL')
  })
  await start()
  const query = `host=${encodeURIComponent(sockets)}&sslmode=disable`
  return {
    directory,
    dataDir,
    sockets,
    url: (database) => `postgres://postgres@localhost:5432/${database}?${query}`,
    start,
    stop: () => command('pg_ctl', '-D', dataDir, '-m', 'fast', '-w', 'stop'),
    command,
  }
}
