/**
 * The operating system's side of the embedded PostgreSQL: the user that it runs as, since it refuses root,
 * what that user must be allowed, the directory of the socket, the lock on a data directory, processes by pid.
 */
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import {
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  type Stats,
  statSync,
} from 'node:fs'
import { createConnection, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'

/** What stops the embedded PostgreSQL from starting; `message` says what to do. */
export class EmbeddedDatabaseError extends Error {
  override readonly name = 'EmbeddedDatabaseError'
}

export interface RunUser {
  readonly name: string
  readonly uid: number
  readonly gid: number
}

export interface Command {
  readonly command: string
  readonly args: readonly string[]
  readonly options: { readonly uid?: number; readonly gid?: number }
}

const SETPRIV_PATHS = ['/usr/bin/setpriv', '/bin/setpriv', '/run/current-system/sw/bin/setpriv']
/** Bits of capabilities(7) in CapEff of /proc/self/status. */
const CAPABILITY_BITS = { dac_override: 1n, dac_read_search: 2n } as const
/** sun_path holds 104 bytes on macOS with its NUL, 108 on Linux. */
const MAX_SOCKET_PATH_BYTES = 103
const LONGEST_SOCKET_NAME = '/.s.PGSQL.5432'
/** How long a process that holds the lock may take to say so. */
const LOCK_ANSWER_MS = 2000
const POLL_MS = 20

/**
 * null: as we are. As root: the owner of an existing `dataPath` (so that it stays startable by that user),
 * else the OS user postgres, else nobody.
 */
export function runUser(dataPath: string): RunUser | null {
  const owner = statSync(dataPath, { throwIfNoEntry: false })
  const ownUid = process.geteuid?.()
  if (ownUid !== 0) {
    if (owner === undefined || owner.uid === ownUid) return null
    throw new EmbeddedDatabaseError(
      `${dataPath} belongs to uid ${owner.uid}: start as that user or as root, or give another DATA_DIR`,
    )
  }
  const users = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => line.split(':'))
    .map(([name = '', , uid, gid]) => ({ name, uid: Number(uid), gid: Number(gid) }))
  const user =
    owner === undefined || owner.uid === 0
      ? (users.find(({ name }) => name === 'postgres') ??
        users.find(({ name }) => name === 'nobody'))
      : { name: `uid ${owner.uid}`, uid: owner.uid, gid: owner.gid }
  if (user !== undefined) return user
  throw new EmbeddedDatabaseError(
    'PostgreSQL refuses to run as root, and there is no OS user postgres or nobody: start as another user, or set DATABASE_URL',
  )
}

/**
 * How to run `program` as `user` with access to `directories`. Where a directory above one of them is closed
 * to the user (/root, mktemp -d), the program gets one capability: dac_read_search to pass, or
 * dac_override where it may not be executed either, or where a container leaves us only that.
 * no_setuid_fixup lets access(2), by which initdb looks for its binaries, count that capability.
 */
export function commandAs(
  user: RunUser | null,
  program: string,
  args: readonly string[],
  directories: readonly string[],
): Command {
  if (user === null) return { command: program, args, options: {} }
  const closed = [program, ...directories]
    .flatMap(ancestors)
    .find((path) => !mayExecute(statSync(path), user))
  const isProgramClosed = !mayExecute(statSync(program), user)
  if (closed === undefined && !isProgramClosed) {
    return { command: program, args, options: { uid: user.uid, gid: user.gid } }
  }
  const setpriv = SETPRIV_PATHS.find((path) => existsSync(path))
  const capability = (
    isProgramClosed ? (['dac_override'] as const) : (['dac_read_search', 'dac_override'] as const)
  ).find(hasCapability)
  if (setpriv === undefined || capability === undefined) {
    const lacking =
      setpriv === undefined
        ? 'install setpriv (apt-get install util-linux)'
        : 'give this container the capability DAC_OVERRIDE'
    throw new EmbeddedDatabaseError(
      `PostgreSQL refuses to run as root, and its OS user ${user.name} may not enter ${closed ?? program}. ` +
        `Do one of: ${lacking}; move the checkout and DATA_DIR to where every user may enter ` +
        `(such as /srv, mode 0755); start as a user other than root; set DATABASE_URL`,
    )
  }
  const how = [
    `--reuid=${user.uid}`,
    `--regid=${user.gid}`,
    '--clear-groups',
    '--no-new-privs',
    '--securebits=+no_setuid_fixup',
    `--inh-caps=-all,+${capability}`,
    `--ambient-caps=+${capability}`,
    '--',
  ]
  return { command: setpriv, args: [...how, program, ...args], options: {} }
}

/**
 * Makes the directory of the socket and the lock, mode 0700, owned by `user`: `<dataDir>/run`, or where that
 * is too long for a socket, one in the temporary directory that is named by a hash of `dataDir` (absolute).
 */
export function socketDirectory(dataDir: string, user: RunUser | null): string {
  const near = join(dataDir, 'run')
  const hash = createHash('sha256').update(dataDir).digest('hex').slice(0, 16)
  const path = isShort(near) ? near : join(tmpdir(), `fleetloop-${hash}`)
  if (!isShort(path))
    throw new EmbeddedDatabaseError(`${path} is too long for a socket: set TMPDIR`)
  mkdirSync(path, { recursive: true, mode: 0o700 })
  const found = lstatSync(path)
  const owners = [process.geteuid?.() ?? found.uid, user?.uid ?? found.uid]
  const isOurs =
    found.isDirectory() && (user === null ? found.uid === owners[0] : owners.includes(found.uid))
  if (!isOurs || (found.mode & 0o077) !== 0) {
    throw new EmbeddedDatabaseError(
      `${path} is not a directory of ours with mode 0700: look who made it, then remove it`,
    )
  }
  if (user !== null) chownSync(path, user.uid, user.gid)
  return path
}

/**
 * Takes the lock of `directory`, or throws when a live process has it; returns what gives it back.
 *
 * Each process listens on a socket of its own there, so the kernel ends its claim with it, kill -9 included;
 * names are never reused, so a dead one can be removed without harm to a live one. A process shows its
 * socket first and looks for others then, so of two that start at once at least one sees the other: the one
 * with the higher name withdraws, the one with the lower name waits for the other's decision.
 */
export async function holdLock(directory: string): Promise<() => void> {
  const id = randomBytes(3).toString('hex')
  const own = `.lock-${id}`
  const asking = new Set<Socket>()
  let decision: string | undefined
  const decide = (text: string): void => {
    decision ??= text
    for (const socket of asking) socket.end(decision)
    asking.clear()
  }
  const server = createServer((socket) => {
    socket.on('error', () => {})
    if (decision === undefined) asking.add(socket)
    else socket.end(decision)
  })
  const release = (): void => {
    decide('')
    rmSync(join(directory, own), { force: true })
    server.close()
  }
  // Under another name until it listens, so that nobody takes it for a dead one.
  server.listen(join(directory, `.make-${id}`))
  try {
    await once(server, 'listening')
  } catch (cause) {
    const text = `${directory} cannot hold a socket (${String(cause)}): start as another user, or set DATABASE_URL`
    throw new EmbeddedDatabaseError(text, { cause })
  }
  server.unref()
  try {
    renameSync(join(directory, `.make-${id}`), join(directory, own))
    const others = readdirSync(directory).filter((name) => /^\.lock-/.test(name) && name !== own)
    for (const other of others) {
      const answer = await askHolder(join(directory, other), () => {
        if (other < own) decide('')
      })
      if (answer === undefined) rmSync(join(directory, other), { force: true })
      else if (answer !== '' || other < own) {
        throw new EmbeddedDatabaseError(
          `another process${answer} uses this DATA_DIR: end it, or give this one another DATA_DIR`,
        )
      }
    }
    decide(` (pid ${process.pid})`)
    return release
  } catch (error) {
    release()
    throw error
  }
}

/** undefined: dead. '': it withdrew. Else what it says of itself; a live one that says nothing counts as a holder. */
async function askHolder(path: string, onAlive: () => void): Promise<string | undefined> {
  const socket = createConnection(path)
  socket.setEncoding('utf8').setTimeout(LOCK_ANSWER_MS, () => socket.destroy(new Error('silent')))
  let text = ''
  socket.on('connect', onAlive)
  socket.on('data', (part) => {
    text += part
  })
  try {
    await once(socket, 'end')
    return text
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    return code === 'ECONNREFUSED' || code === 'ENOENT' ? undefined : ' (silent)'
  } finally {
    socket.destroy()
  }
}

function isShort(directory: string): boolean {
  return Buffer.byteLength(directory + LONGEST_SOCKET_NAME) <= MAX_SOCKET_PATH_BYTES
}

/** Every directory above `path`. */
function ancestors(path: string): string[] {
  const parent = dirname(path)
  return parent === path ? [] : [...ancestors(parent), parent]
}

/** By the mode bits alone: execute a file, pass through a directory. */
function mayExecute(stats: Stats, user: RunUser): boolean {
  const shift = stats.uid === user.uid ? 6 : stats.gid === user.gid ? 3 : 0
  return ((stats.mode >> shift) & 1) === 1
}

function hasCapability(name: keyof typeof CAPABILITY_BITS): boolean {
  if (!existsSync('/proc/self/status')) return false
  const [, hex = '0'] =
    /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8')) ?? []
  return ((BigInt(`0x${hex}`) >> CAPABILITY_BITS[name]) & 1n) === 1n
}

/** false: no such process. 0 only asks. */
export function signal(pid: number, name: 'SIGINT' | 'SIGQUIT' | 0): boolean {
  try {
    return process.kill(pid, name)
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}

/** A dead process that nobody has reaped yet does not count. */
export function isAlive(pid: number): boolean {
  if (!signal(pid, 0)) return false
  try {
    return !/^.*\) [ZX] /s.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return signal(pid, 0)
  }
}

/** Polled, for an adopted process is not our child. */
export async function hasEnded(pid: number, withinMs: number): Promise<boolean> {
  const deadline = performance.now() + withinMs
  while (isAlive(pid)) {
    if (performance.now() > deadline) return false
    await wait(POLL_MS)
  }
  return true
}

/** A postmaster's working directory is its cluster. Where /proc does not tell, it counts as one. */
export function isPostmaster(pid: number, cluster: string): boolean {
  try {
    return readlinkSync(`/proc/${pid}/cwd`) === realpathSync(cluster)
  } catch {
    return true
  }
}
