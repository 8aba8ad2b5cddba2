/**
 * The machines' network. As root: a network namespace for each machine and a bridge between them, inside a namespace
 * that this process alone is in, so that the page's own addresses serve. Else: addresses of 127.0.0.0/8, nobody's by chance.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { readlinkSync } from 'node:fs'
import { until } from '../../testkit/until.ts'
import { atExit } from './programs.ts'

export interface Network {
  /** The first three numbers of each address. */
  readonly prefix: string
  /** Of the machines and of what may call them. */
  readonly cidr: string
  /** Nobody else is on it, on the loopback addresses either. */
  readonly isPrivate: boolean
  /** What comes before a program that runs on the machine with this last number. */
  runOn(host: number): readonly string[]
  /** Packets between two machines get lost, silently and both ways; undefined where that cannot be done. */
  readonly cut: ((host: number, others: readonly number[]) => void) | undefined
  heal(): void
  close(): void
}

const NOBODYS_MAC = '02:00:00:00:00:01'
const DEVICE = 'eth0'

function ip(...args: readonly string[]): void {
  execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'inherit'] })
}

export function loopbackNetwork(random: () => number): Network {
  const number = () => 1 + Math.floor(random() * 254)
  return {
    prefix: `127.${number()}.${number()}`,
    cidr: '127.0.0.0/8',
    isPrivate: false,
    runOn: () => [],
    cut: undefined,
    heal() {},
    close() {},
  }
}

/** This process must be in a namespace of its own (`unshare --net`), and root. `own`: last numbers of its addresses. */
export async function namespacedNetwork(
  own: readonly number[],
  hosts: readonly number[],
): Promise<Network> {
  const prefix = '10.0.0'
  ip('link', 'set', 'lo', 'up')
  ip('link', 'add', 'lan', 'type', 'bridge')
  for (const host of own) ip('addr', 'add', `${prefix}.${host}/24`, 'dev', 'lan')
  ip('link', 'set', 'lan', 'up')
  const holders = new Map<number, ChildProcess>()
  const within = (host: number) => ['nsenter', `--net=/proc/${holders.get(host)?.pid}/ns/net`, '--']
  const ipOn = (host: number, ...args: readonly string[]) => {
    const [program = '', ...rest] = [...within(host), 'ip', ...args]
    execFileSync(program, rest, { stdio: ['ignore', 'ignore', 'inherit'] })
  }
  const close = () => {
    for (const holder of holders.values()) holder.kill('SIGKILL')
  }
  const forget = atExit(close)
  for (const host of hosts) {
    const holder = spawn('unshare', ['--net', 'sleep', 'infinity'], { stdio: 'ignore' })
    holders.set(host, holder)
    const namespaceOf = (pid: number | string) => readlinkSync(`/proc/${pid}/ns/net`)
    await until(() => namespaceOf(holder.pid ?? '') !== namespaceOf('self'))
    const port = `port${host}`
    ip('link', 'add', port, 'type', 'veth', 'peer', 'name', DEVICE, 'netns', String(holder.pid))
    ip('link', 'set', port, 'master', 'lan', 'up')
    ipOn(host, 'link', 'set', 'lo', 'up')
    ipOn(host, 'addr', 'add', `${prefix}.${host}/24`, 'dev', DEVICE)
    ipOn(host, 'link', 'set', DEVICE, 'up')
  }

  const undo: (() => void)[] = []
  /** `from` sends to `to` what nobody on the bridge takes. */
  const loseWay = (from: number, to: number) => {
    const entry = ['neigh', 'replace', `${prefix}.${to}`, 'lladdr', NOBODYS_MAC]
    ipOn(from, ...entry, 'dev', DEVICE, 'nud', 'permanent')
    undo.push(() => ipOn(from, 'neigh', 'del', `${prefix}.${to}`, 'dev', DEVICE))
  }
  return {
    prefix,
    cidr: `${prefix}.0/24`,
    isPrivate: true,
    runOn: within,
    cut(host, others) {
      for (const other of others) {
        loseWay(host, other)
        loseWay(other, host)
      }
    },
    heal() {
      for (const each of undo.splice(0)) each()
    },
    close() {
      forget()
      close()
    },
  }
}
