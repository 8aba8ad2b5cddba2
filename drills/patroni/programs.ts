/** Programs that a drill starts and ends by pid; if it fails, its exit handler ends them. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, readdirSync, readFileSync } from 'node:fs'
import { isPostmaster } from '../../src/dev/run-user.ts'
import { childrenOf } from '../../testkit/database/postgres.ts'
import { atExit } from '../../testkit/process/at-exit.ts'

export interface Program {
  readonly pid: number
  readonly ended: Promise<unknown>
  hasEnded(): boolean
  signal(name: NodeJS.Signals): void
}

const DEBIANS = '/usr/lib/postgresql'
const LOG_LINES = 15

/** What is not installed, and how to install it; false if nothing is missing. */
export function missingPrograms(names: readonly string[]): string | false {
  const has = (name: string) => !spawnSync('sh', ['-c', `command -v ${name}`]).status
  const missing = names.filter((name) => !has(name))
  if (binDirectory() === undefined) missing.push('postgresql')
  return (
    missing.length > 0 &&
    `needs ${missing.join(', ')}: apt-get install etcd-server haproxy patroni postgresql python3-etcd (.ci/run does)`
  )
}

/** Of Debian's newest PostgreSQL. */
export function binDirectory(): string | undefined {
  try {
    const releases = readdirSync(DEBIANS).toSorted((a, b) => Number(b) - Number(a))
    return releases[0] && `${DEBIANS}/${releases[0]}/bin`
  } catch {
    return undefined
  }
}

/** The command prefix for a program that refuses to run as root. */
export function asPostgres(): readonly string[] {
  if (process.geteuid?.() !== 0) return []
  return ['setpriv', '--reuid=postgres', '--regid=postgres', '--clear-groups', '--']
}

/** Its output is appended to `log`. */
export function startProgram(command: readonly string[], log: string): Program {
  const [file = '', ...args] = command
  const output = openSync(log, 'a')
  const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C.UTF-8' }
  const child: ChildProcess = spawn(file, args, {
    cwd: '/',
    env,
    stdio: ['ignore', output, output],
  })
  closeSync(output)
  const forget = atExit(() => child.kill('SIGKILL'))
  const ended = once(child, 'exit').finally(forget)
  ended.catch(() => {}) // it could not be started and has no pid
  if (child.pid === undefined) throw new Error(`${file} could not be started`)
  return {
    pid: child.pid,
    ended,
    hasEnded: () => child.exitCode !== null || child.signalCode !== null,
    signal: (name) => void child.kill(name),
  }
}

export function endOfLog(log: string): string {
  return readFileSync(log, 'utf8').trimEnd().split('\n').slice(-LOG_LINES).join('\n')
}

/** The postmaster first: stopped, it starts no further process. */
export function serverPids(dataDir: string): readonly number[] {
  try {
    const [first = ''] = readFileSync(`${dataDir}/postmaster.pid`, 'utf8').split('\n')
    const pid = Number(first)
    return isPostmaster(pid, dataDir) ? [pid, ...childrenOf(pid)] : [] // otherwise the file is stale
  } catch {
    return [] // not running
  }
}
