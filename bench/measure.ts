/** What all benches share: how figures are read from processes (Linux) and put together. */
import { existsSync, readFileSync } from 'node:fs'

/** USER_HZ, the unit of /proc/PID/stat, is 100 on every Linux that Node runs on. */
const MS_PER_TICK = 10

/** Milliseconds of CPU of a process so far, user and system; in steps of 10. */
export function cpuMsOf(pid: number): number {
  const [, stat = ''] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')
  const [user, system] = stat.split(' ').slice(11, 13) // fields 14 and 15 of proc(5)
  return (Number(user) + Number(system)) * MS_PER_TICK
}

/** Resident memory of a process now; 0 once it has ended. */
export function residentBytesOf(pid: number): number {
  const path = `/proc/${pid}/status`
  const status = existsSync(path) ? readFileSync(path, 'utf8') : ''
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1] ?? 0) * 1024
}

/** The middle of the sorted figures, the mean of the two middle ones where their number is even; NaN of none. */
export function median(figures: readonly number[]): number {
  const sorted = [...figures].sort((a, b) => a - b)
  const middle = sorted.length / 2
  const [low, high] = [sorted[Math.ceil(middle) - 1], sorted[Math.floor(middle)]]
  return ((low ?? Number.NaN) + (high ?? Number.NaN)) / 2
}
