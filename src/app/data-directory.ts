/** DATA_DIR: made at the start, before anything is put into it. */
import { existsSync, mkdirSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { ConfigError } from '../config/config.ts'
import { errorCode, errorText } from '../lib/error-text.ts'

/** Where uploads lie until they are in the database. */
export function spoolDirectory(dataDir: string): string {
  return join(dataDir, 'spool')
}

/**
 * Makes it where it is missing, with a directory that uploads need in any case: a file system may have the one and not
 * take the other. Throws ConfigError.
 */
export function makeDataDirectory(dataDir: string): void {
  const inside = spoolDirectory(dataDir)
  try {
    makeDirectory(dataDir, 0o777)
    makeDirectory(inside, 0o700)
  } catch (error) {
    const advice = 'give another directory, which this user may write to'
    throw new ConfigError([`DATA_DIR: ${inside} cannot be made (${errorText(error)}): ${advice}`])
  }
}

/** Node's own `recursive` turns for ever where a directory that is there answers ENOENT, as /proc does. */
function makeDirectory(path: string, mode: number): void {
  try {
    mkdirSync(path, { mode })
  } catch (error) {
    if (statSync(path, { throwIfNoEntry: false })?.isDirectory() === true) return
    const parent = dirname(path)
    if (errorCode(error) !== 'ENOENT' || existsSync(parent)) throw error
    makeDirectory(parent, mode)
    makeDirectory(path, mode)
  }
}
