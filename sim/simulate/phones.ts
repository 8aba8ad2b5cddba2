/** What the phones of a simulation are like: their habits, what they do when told, and how they tell of it. */

import type { CommandData, Report, RunResult } from '../device/commands.ts'
import type { Device } from '../device/device.ts'
import type { Habits } from '../device/habits.ts'
import type { SimulationOptions } from './options.ts'

/** One in five flat, one in ten with a double slash, half of them reporting as the fielded agent does. */
export function habitsOf(options: SimulationOptions, index: number): Partial<Habits> {
  return {
    shape: index % 5 === 0 ? 'flat' : 'nested',
    hasDoubleSlash: index % 10 === 1,
    reportsBy: index % 2 === 0 ? 'action-result' : 'ack',
    signsResults: options.signsResults,
    heartbeatIntervalS: options.intervalS,
    alarmJitter: ALARM_JITTER,
    parallelDrains: options.parallelDrains,
  }
}

const ALARM_JITTER = 0.05

export function pickReport(options: SimulationOptions, random: () => number): Report {
  const { lateShare, twiceShare, neverShare, lateByS } = options
  const drawn = random()
  if (drawn < lateShare) return { afterMs: 1_000 * lateByS * random() }
  if (drawn < lateShare + twiceShare) return 'twice'
  return drawn < lateShare + twiceShare + neverShare ? 'never' : 'now'
}

export interface DownloadCounts {
  /** Whole, with the promised SHA-256, by the token shown. */
  enrollment: number
  ota: number
  sizeBytes: number
  /** Length or SHA-256 is not the promised one. */
  broken: number
  refused: number
  cutOff: number
}

export class Downloads {
  readonly counts: DownloadCounts = {
    enrollment: 0,
    ota: 0,
    sizeBytes: 0,
    broken: 0,
    refused: 0,
    cutOff: 0,
  }

  /** With the enrollment token where one is given. Never rejects; undefined: it is whole, else what is wrong. */
  async fetch(device: Device, enrollmentToken?: string): Promise<string | undefined> {
    const { counts } = this
    const options = enrollmentToken === undefined ? {} : { enrollmentToken }
    const fetched = await device.fetchApk(options).catch(() => undefined)
    if (fetched === undefined) {
      counts.cutOff += 1
      return 'cut off'
    }
    counts.sizeBytes += fetched.sizeBytes
    if (fetched.status !== 200) {
      counts.refused += 1
      return `answer ${fetched.status}`
    }
    if (!fetched.isIntact) {
      counts.broken += 1
      return 'broken'
    }
    counts[enrollmentToken === undefined ? 'ota' : 'enrollment'] += 1
    return undefined
  }
}

/** `update` fetches the APK; all else succeeds at once. */
export async function runCommand(
  { action = '' }: CommandData,
  device: Device,
  downloads: Downloads,
): Promise<RunResult> {
  const fault = action === 'update' ? await downloads.fetch(device) : undefined
  return fault === undefined
    ? { outcome: 'success', message: `${action} done` }
    : { outcome: 'failure', message: `APK: ${fault}` }
}
