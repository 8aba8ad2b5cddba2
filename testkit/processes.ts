/** CPU and resident memory of processes, from the kernel. Linux only. */
import { existsSync, readFileSync } from 'node:fs'

/** USER_HZ, the unit of /proc/PID/stat, is 100 on every Linux that Node runs on. */
const MS_PER_TICK = 10
const SAMPLE_MS = 100

/** Fields 14 to 17 of proc(5), in milliseconds: user and system, then those of children that have ended. */
function cpuFieldsMs(pid: number): readonly number[] {
  const [, stat = ''] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')
  return stat
    .split(' ')
    .slice(11, 15)
    .map((ticks) => Number(ticks) * MS_PER_TICK)
}

/** CPU so far, user and system, milliseconds in steps of 10. */
export function cpuMs(pid: number): number {
  const [user = 0, system = 0] = cpuFieldsMs(pid)
  return user + system
}

/** As cpuMs, with its direct children, even ended ones: all of PostgreSQL by its postmaster. */
export function cpuMsWithChildren(pid: number): number {
  const own = cpuFieldsMs(pid).reduce((sum, ms) => sum + ms, 0)
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ')
  return own + children.filter(Boolean).reduce((sum, child) => sum + livingCpuMs(Number(child)), 0)
}

/** 0 if it ended meanwhile: its time is its parent's by then. */
function livingCpuMs(pid: number): number {
  try {
    return cpuMs(pid)
  } catch {
    return 0
  }
}

/** Resident memory; 0 once it has ended. */
export function residentBytes(pid: number): number {
  const path = `/proc/${pid}/status`
  const status = existsSync(path) ? readFileSync(path, 'utf8') : ''
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1] ?? 0) * 1024
}

/** Samples resident memory; `takePeak` returns the maximum, in bytes, and starts over. */
export function watchMemory(pid: number) {
  let peakBytes = 0
  const timer = setInterval(() => {
    peakBytes = Math.max(peakBytes, residentBytes(pid))
  }, SAMPLE_MS)
  return {
    takePeak() {
      const peak = peakBytes
      peakBytes = 0
      return peak
    },
    stop: () => clearInterval(timer),
  }
}
