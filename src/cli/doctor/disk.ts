/** DATA_DIR: there, writable, and with room for an upload. */
import { accessSync, constants, existsSync, statfsSync, statSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import type { Config } from '../../config/config.ts'
import { errorText } from '../../lib/error-text.ts'
import { type Finding, fault, good } from './finding.ts'

const AREA = 'disk'
const MIB = 1024 ** 2

/** `freeBytes` of the file system of a directory. */
export function checkDisk(
  { dataDir, apkMaxBytes }: Pick<Config, 'dataDir' | 'apkMaxBytes'>,
  freeBytes: (directory: string) => number = freeBytesOf,
): Finding {
  const wanted = resolve(dataDir)
  const directory = existing(wanted)
  try {
    accessSync(directory, constants.W_OK | constants.X_OK)
    if (!statSync(directory).isDirectory()) throw new Error('it is no directory')
  } catch (error) {
    const reason = `DATA_DIR: ${directory} cannot be written (${errorText(error)})`
    return fault(AREA, `${reason}: give this user the right, or name another directory`)
  }
  const free = freeBytes(directory)
  const shown = `${Math.floor(free / MIB)} MiB free`
  if (free >= apkMaxBytes) return good(AREA, `${wanted}: ${shown}`)
  const need = `an upload of APK_MAX_BYTES needs ${Math.ceil(apkMaxBytes / MIB)} MiB`
  return fault(AREA, `${wanted}: ${shown}, and ${need}: make room, or lower APK_MAX_BYTES`)
}

/** The directory, or else the one in which the start makes it. */
function existing(path: string): string {
  const parent = dirname(path)
  return existsSync(path) || parent === path ? path : existing(parent)
}

function freeBytesOf(directory: string): number {
  const { bavail, bsize } = statfsSync(directory)
  return bavail * bsize
}
