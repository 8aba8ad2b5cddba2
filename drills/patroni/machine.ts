/** One of three machines: etcd, Patroni and its PostgreSQL, set up as in docs/operate/scale.md. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { hasEnded } from '../../src/dev/run-user.ts'
import { signalPid } from '../../testkit/database/postgres.ts'
import { atExit } from '../../testkit/process/at-exit.ts'
import type { Network } from './network.ts'
import { ofMachine, pageFile, replaced } from './page.ts'
import { asPostgres, endOfLog, type Program, serverPids, startProgram } from './programs.ts'

export interface Machine {
  readonly name: string
  /** The last number of its address. */
  readonly host: number
  readonly address: string
  startEtcd(): void
  startPatroni(): void
  /** Sends SIGSTOP to Patroni alone, etcd alone, or all processes. */
  freeze(what: 'patroni' | 'etcd' | 'all'): void
  thaw(): void
  /** Sends SIGKILL to Patroni and PostgreSQL, or to etcd; resolves when they are gone. */
  kill(what: 'database' | 'etcd'): Promise<void>
  /** The last lines of its logs. */
  notes(): string
}

export interface MachineOptions {
  /** From 1. */
  readonly index: number
  readonly dir: string
  readonly network: Network
  readonly binDirectory: string
  /** A line of pg_hba for the drill's own connections. */
  readonly ownAccess: string
}

const GONE_MS = 10_000
const FIRST_HOST = 10

export function createMachine(options: MachineOptions): Machine {
  const { index, network } = options
  const name = `pg${index}`
  const host = FIRST_HOST + index
  const directory = join(options.dir, name)
  const dataDir = join(directory, 'data')
  mkdirSync(directory, { mode: 0o755 })
  for (const part of ['data', 'etcd', 'run']) mkdirSync(join(directory, part), { mode: 0o700 })
  writeConfigurations(directory, options)
  const log = (program: string) => join(directory, `${program}.log`)
  const programs: { etcd?: Program; patroni?: Program } = {}
  const start = (program: 'etcd' | 'patroni', ...args: readonly string[]) => {
    const command = [...network.runOn(host), ...asPostgres(), program, ...args]
    programs[program] = startProgram(command, log(program))
  }
  const pidsOf = (what: 'patroni' | 'etcd' | 'database' | 'all'): readonly number[] => {
    const parts = [
      ...(what === 'etcd' ? [] : [programs.patroni]),
      ...(what === 'etcd' || what === 'all' ? [programs.etcd] : []),
    ]
    const server = what === 'database' || what === 'all' ? serverPids(dataDir) : []
    return [...parts.flatMap((part) => (part && !part.hasEnded() ? [part.pid] : [])), ...server]
  }
  // A server outlives the Patroni that started it; without a postmaster its processes end.
  atExit(() => {
    for (const pid of serverPids(dataDir)) signalPid(pid, 'SIGKILL')
  })

  return {
    name,
    host,
    address: `${network.prefix}.${host}`,
    startEtcd: () => start('etcd', '--config-file', join(directory, 'etcd.yml')),
    startPatroni: () => start('patroni', join(directory, 'patroni.yml')),
    freeze(what) {
      for (const pid of pidsOf(what)) signalPid(pid, 'SIGSTOP')
    },
    thaw() {
      for (const pid of pidsOf('all')) signalPid(pid, 'SIGCONT')
    },
    async kill(what) {
      // Patroni first, so that it restarts nothing.
      const pids = pidsOf(what)
      for (const pid of pids) signalPid(pid, 'SIGSTOP')
      for (const pid of pids) signalPid(pid, 'SIGKILL')
      await Promise.all(pids.map((pid) => hasEnded(pid, GONE_MS)))
    },
    notes: () => (['etcd', 'patroni'] as const).map((each) => endOfLog(log(each))).join('\n'),
  }
}

function writeConfigurations(directory: string, options: MachineOptions): void {
  const { network, index } = options
  const etcd = replaced(pageFile('etcd.yml'), [
    ['/var/lib/etcd/fleetloop', join(directory, 'etcd')],
  ])
  const patroni = replaced(pageFile('patroni.yml'), [
    ['/var/lib/postgresql/fleetloop', join(directory, 'data')],
    ['/var/run/postgresql', join(directory, 'run')],
    ['/usr/lib/postgresql/15/bin', options.binDirectory],
    // The watchdog would reset this whole machine.
    ['mode: automatic', 'mode: off'],
    ['  pg_hba:\n', `  pg_hba:\n    - ${options.ownAccess}\n`],
    ['10.0.0.11/32', network.cidr],
    ['10.0.0.0/24', network.cidr],
  ])
  for (const [file, text] of [
    ['etcd.yml', etcd],
    ['patroni.yml', patroni],
  ] as const) {
    const own = ofMachine(text, index).replaceAll('10.0.0.', `${network.prefix}.`)
    writeFileSync(join(directory, file), own)
  }
  if (process.geteuid?.() === 0) execFileSync('chown', ['-R', 'postgres:postgres', directory])
}
