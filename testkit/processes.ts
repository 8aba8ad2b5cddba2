/** What the kernel says of processes: CPU so far, resident memory. Linux only. */
import { existsSync, readFileSync } from 'node:fs'

/** USER_HZ, the unit of /proc/PID/stat, is 100 on every Linux that Node runs on. */
const MS_PER_TICK = 10

/** Fields 14 to 17 of proc(5), in milliseconds: user and system, then those of children that have ended. */
function cpuFieldsMs(pid: number): readonly number[] {
  const [, stat = ''] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')
  return stat
    .split(' ')
    .slice(11, 15)
    .map((ticks) => Number(ticks) * MS_PER_TICK)
}

/** Milliseconds of CPU of the process so far, user and system; in steps of 10. */
export function cpuMs(pid: number): number {
  const [user = 0, system = 0] = cpuFieldsMs(pid)
  return user + system
}

/** As cpuMs, of a process and its direct children, those that have ended too: a whole PostgreSQL by its postmaster. */
export function cpuMsWithChildren(pid: number): number {
  const own = cpuFieldsMs(pid).reduce((sum, ms) => sum + ms, 0)
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ')
  return own + children.filter(Boolean).reduce((sum, child) => sum + livingCpuMs(Number(child)), 0)
}

/** 0 for one that ended since it was listed: its parent has its time by now. */
function livingCpuMs(pid: number): number {
  try {
    return cpuMs(pid)
  } catch {
    return 0
  }
}

/** Resident memory of a process now; 0 once it has ended. */
export function residentBytes(pid: number): number {
  const path = `/proc/${pid}/status`
  const status = existsSync(path) ? readFileSync(path, 'utf8') : ''
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1] ?? 0) * 1024
}
