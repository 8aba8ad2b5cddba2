/**
 * What the embedded PostgreSQL needs from the operating system: a user other than root to run as, a directory for its
 * socket, and signals to processes that may not be our children.
 */
import { createHash } from 'node:crypto'
import {
  chownSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  rmSync,
  statSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { sleep } from '../lib/timeouts.ts'

/** The embedded PostgreSQL cannot start; `message` says what to do. */
export class EmbeddedDatabaseError extends Error {
  override readonly name = 'EmbeddedDatabaseError'
}

export interface RunUser {
  readonly uid: number
  readonly gid: number
}

/** A postmaster that runs. */
export interface Server {
  readonly pid: number
  readonly socketDir: string
}

/** sun_path holds 104 bytes on macOS including its NUL, 108 on Linux. */
const MAX_SOCKET_PATH_BYTES = 103
const SOCKET_NAME = '.s.PGSQL.5432'
const POLL_MS = 20

/**
 * null: the user of this process. As root, PostgreSQL runs as the owner of an existing `cluster`, otherwise as the OS user
 * postgres, otherwise as nobody.
 */
export function runUser(cluster: string): RunUser | null {
  const owner = statSync(cluster, { throwIfNoEntry: false })
  const ownUid = process.geteuid?.()
  if (ownUid !== 0) {
    if (owner === undefined || owner.uid === ownUid) return null
    throw new EmbeddedDatabaseError(
      `${cluster} belongs to uid ${owner.uid}: start as that user or as root, or give another DATA_DIR`,
    )
  }
  if (owner !== undefined && owner.uid !== 0) return owner
  const passwd = readFileSync('/etc/passwd', 'utf8')
  const [, uid, gid] =
    /^postgres:[^:]*:(\d+):(\d+)/m.exec(passwd) ?? /^nobody:[^:]*:(\d+):(\d+)/m.exec(passwd) ?? []
  if (uid !== undefined) return { uid: Number(uid), gid: Number(gid) }
  throw new EmbeddedDatabaseError(
    'PostgreSQL refuses to run as root, and there is no OS user postgres or nobody: start as another user, or set DATABASE_URL',
  )
}

/**
 * How to run `program` as `user`. It keeps one capability, dac_override, because a directory above the checkout or
 * DATA_DIR may be closed to that user (/root, mktemp -d). no_setuid_fixup makes access(2) honor the capability; initdb
 * looks for its programs by it.
 */
export function commandAs(user: RunUser | null, program: string, args: readonly string[]) {
  if (user === null) return { command: program, args }
  const how = [
    `--reuid=${user.uid}`,
    `--regid=${user.gid}`,
    '--clear-groups',
    '--no-new-privs',
    '--securebits=+no_setuid_fixup',
    '--inh-caps=-all,+dac_override',
    '--ambient-caps=+dac_override',
    '--',
  ]
  return { command: 'setpriv', args: [...how, program, ...args] }
}

/**
 * Makes the directory of the socket, mode 0700, owned by `user`: `<dataDir>/run`. Where that path is too long for a
 * socket, the directory is in the temporary directory, named by a hash of `dataDir` (absolute).
 */
export function socketDirectory(dataDir: string, user: RunUser | null): string {
  const hash = createHash('sha256').update(dataDir).digest('hex').slice(0, 16)
  const path = [join(dataDir, 'run'), join(tmpdir(), `fleetloop-${hash}`)].find(
    (each) => Buffer.byteLength(join(each, SOCKET_NAME)) <= MAX_SOCKET_PATH_BYTES,
  )
  if (path === undefined) {
    throw new EmbeddedDatabaseError(`${tmpdir()} is too long for a socket: set TMPDIR`)
  }
  mkdirSync(path, { recursive: true, mode: 0o700 })
  const found = lstatSync(path)
  const isOurs = found.isDirectory() && [process.geteuid?.(), user?.uid].includes(found.uid)
  if (!isOurs || (found.mode & 0o077) !== 0) {
    throw new EmbeddedDatabaseError(
      `${path} is not a directory of ours with mode 0700: find out who made it, then remove it`,
    )
  }
  if (user !== null) chownSync(path, user.uid, user.gid)
  return path
}

/** Returns false if there is no such process. Signal 0 only checks. */
export function signal(pid: number, name: 'SIGINT' | 0): boolean {
  try {
    return process.kill(pid, name)
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}

/** A zombie counts as dead. */
export function isAlive(pid: number): boolean {
  if (!signal(pid, 0)) return false
  try {
    return !/^.*\) [ZX] /s.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return signal(pid, 0)
  }
}

/** Polls, because an adopted process is not our child. */
export async function hasEnded(pid: number, withinMs: number): Promise<boolean> {
  const deadline = performance.now() + withinMs
  while (isAlive(pid)) {
    if (performance.now() > deadline) return false
    await sleep(POLL_MS)
  }
  return true
}

/** A postmaster's working directory is its cluster. Without /proc, any process counts as one. */
export function isPostmaster(pid: number, cluster: string): boolean {
  try {
    return readlinkSync(`/proc/${pid}/cwd`) === realpathSync(cluster)
  } catch {
    return true
  }
}

/** The live postmaster that the postmaster.pid of `cluster` names. */
export function findServer(cluster: string, socketDir: string): Server | undefined {
  const file = join(cluster, 'postmaster.pid')
  let text = ''
  try {
    text = readFileSync(file, 'utf8')
  } catch {} // none runs, or it has just ended
  const [first, , , , itsSocketDir = ''] = text.split('\n')
  const pid = Number(first)
  if (!(pid > 1 && isAlive(pid))) return undefined
  if (isPostmaster(pid, cluster)) return { pid, socketDir: itsSocketDir || socketDir }
  // After a reboot or in a new container, another process may have that pid: PostgreSQL would refuse to start.
  rmSync(file, { force: true })
  return undefined
}
