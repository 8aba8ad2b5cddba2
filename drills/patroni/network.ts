/**
 * The machines' network. As root: a network namespace per machine and a bridge, inside a namespace of this process, so
 * that the page's addresses work. Otherwise: addresses of 127.0.0.0/8.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { readlinkSync } from 'node:fs'
import { atExit } from '../../testkit/process/at-exit.ts'
import { until } from '../../testkit/until.ts'

export interface Network {
  /** The first three numbers of each address. */
  readonly prefix: string
  /** The machines and their clients. */
  readonly cidr: string
  /** Nobody else uses it, nor its loopback addresses. */
  readonly isPrivate: boolean
  /** The command prefix that runs a program on the machine with this last number. */
  runOn(host: number): readonly string[]
  /** Silently drops packets between two machines, both ways; undefined if that is impossible. */
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

/** Needs root and a process in its own namespace (`unshare --net`). `own`: last numbers of its addresses. */
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
  /** Routes packets from `from` to `to` to an unused address of the bridge. */
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
