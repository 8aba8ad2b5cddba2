/** The phones of a simulation: their habits, and how they execute and report commands. */

import type { CommandData, Report, RunResult } from '../device/commands.ts'
import type { Device } from '../device/device.ts'
import type { Habits } from '../device/habits.ts'
import type { SimulationOptions } from './options.ts'

/** One in five flat, one in ten with a double slash, half reporting as the fielded agent does. */
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
  /** Complete downloads, by kind of token. */
  enrollment: number
  ota: number
  sizeBytes: number
  /** Wrong length or SHA-256. */
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

  /** With the enrollment token if given. Never rejects; returns what is wrong, or undefined. */
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

/** `update` downloads the APK; all others succeed at once. */
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
