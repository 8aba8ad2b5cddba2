/** Makes DATA_DIR at the start, before any part writes to it. */
import { existsSync, mkdirSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { ConfigError } from '../config/config.ts'
import { errorCode, errorText } from '../lib/error-text.ts'

/** Holds uploads until they are in the database. */
export function spoolDirectory(dataDir: string): string {
  return join(dataDir, 'spool')
}

/**
 * Makes it if it is missing, and the directory for uploads inside: on some file systems the first works and the second
 * does not. Throws ConfigError.
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

/** Node's `recursive` loops endlessly if an existing directory reports ENOENT, as /proc does. */
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
