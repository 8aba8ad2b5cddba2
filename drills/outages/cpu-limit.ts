/**
 * Limits a server to a fraction of a core: by a control group if possible, otherwise stopped and continued in turn.
 * Linux.
 */
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { until } from '../../testkit/until.ts'

export interface CpuLimit {
  readonly how: string
  end(): Promise<void>
}

const PERIOD_US = 100_000
const GROUP = `fleetloop-drill-${process.pid}`

/** Limits these processes and all that they start to `share` of one core, together. */
export function limitCpu(pids: () => readonly number[], share: number): CpuLimit {
  const quotaUs = Math.round(share * PERIOD_US)
  return controlGroup(pids(), quotaUs) ?? dutyCycle(pids, quotaUs)
}

function controlGroup(pids: readonly number[], quotaUs: number): CpuLimit | undefined {
  const mounts = readFileSync('/proc/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' '))
  for (const [, path = '', type = '', options = ''] of mounts) {
    const isV1 = type === 'cgroup' && options.split(',').includes('cpu')
    if (!isV1 && type !== 'cgroup2') continue
    const group = join(path, GROUP)
    try {
      if (!isV1) writeFileSync(join(path, 'cgroup.subtree_control'), '+cpu')
      mkdirSync(group)
    } catch {
      continue // read-only, or without this controller
    }
    if (isV1) {
      writeFileSync(join(group, 'cpu.cfs_period_us'), String(PERIOD_US))
      writeFileSync(join(group, 'cpu.cfs_quota_us'), String(quotaUs))
    } else {
      writeFileSync(join(group, 'cpu.max'), `${quotaUs} ${PERIOD_US}`)
    }
    for (const pid of pids) move(pid, group)
    return {
      how: isV1 ? 'cgroup v1' : 'cgroup v2',
      end: () => until(() => hasEnded(group, path), `the end of ${group}`),
    }
  }
  return undefined
}

/** A process that has ended meanwhile, such as a worker of autovacuum, is left out. */
function move(pid: number, group: string): void {
  try {
    writeFileSync(join(group, 'cgroup.procs'), String(pid))
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException
    if (code !== 'ESRCH') throw error
  }
}

/** Moves what is left of a group to its parent and removes it. False: a process has just begun or ended in it. */
function hasEnded(group: string, parent: string): boolean {
  try {
    const left = readFileSync(join(group, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean)
    for (const pid of left) writeFileSync(join(parent, 'cgroup.procs'), pid)
    rmdirSync(group)
    return true
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException
    if (code === 'EBUSY' || code === 'ESRCH') return false
    throw error
  }
}

/** As cpulimit does. A process started while the others are stopped is missed until the next period. */
function dutyCycle(pids: () => readonly number[], quotaUs: number): CpuLimit {
  let isOver = false
  const signalAll = (signal: NodeJS.Signals) => {
    for (const pid of pids()) {
      try {
        process.kill(pid, signal)
      } catch {
        // it ended meanwhile
      }
    }
  }
  const turn = () => {
    if (isOver) return
    signalAll('SIGCONT')
    setTimeout(() => {
      if (!isOver) signalAll('SIGSTOP')
    }, quotaUs / 1_000)
  }
  const timer = setInterval(turn, PERIOD_US / 1_000)
  return {
    how: 'SIGSTOP and SIGCONT',
    async end() {
      isOver = true
      clearInterval(timer)
      signalAll('SIGCONT')
    },
  }
}
