/** DATA_DIR: there, writable, and with room for an upload. */
import { constants } from 'node:fs'
import { access, stat, statfs } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import type { Config } from '../../config/config.ts'
import { errorText } from '../../lib/error-text.ts'
import { type Finding, fault, good } from './finding.ts'

const AREA = 'disk'
const MIB = 1024 ** 2

/** Bytes that a user may fill, of the file system of a directory. Rejects if that cannot be read. */
export type FreeBytes = (directory: string) => Promise<number>

export async function checkDisk(
  { dataDir, apkMaxBytes }: Pick<Config, 'dataDir' | 'apkMaxBytes'>,
  freeBytes: FreeBytes = freeBytesOf,
): Promise<Finding> {
  const wanted = resolve(dataDir)
  const directory = await existing(wanted)
  try {
    await access(directory, constants.W_OK | constants.X_OK)
    if (!(await stat(directory)).isDirectory()) throw new Error('it is no directory')
  } catch (error) {
    const reason = `DATA_DIR: ${directory} cannot be written (${errorText(error)})`
    return fault(AREA, `${reason}: give this user the right, or name another directory`)
  }
  const free = await freeBytes(directory)
  const shown = `${Math.floor(free / MIB)} MiB free`
  if (free >= apkMaxBytes) return good(AREA, `${wanted}: ${shown}`)
  const need = `an upload of APK_MAX_BYTES needs ${Math.ceil(apkMaxBytes / MIB)} MiB`
  return fault(AREA, `${wanted}: ${shown}, and ${need}: make room, or lower APK_MAX_BYTES`)
}

/** The directory, or else the one in which the start makes it. */
async function existing(path: string): Promise<string> {
  const parent = dirname(path)
  const isThere = await access(path).then(
    () => true,
    () => false,
  )
  return isThere || parent === path ? path : existing(parent)
}

export async function freeBytesOf(directory: string): Promise<number> {
  const { bavail, bsize } = await statfs(directory)
  return bavail * bsize
}
