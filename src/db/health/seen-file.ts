/**
 * Stores the last known state of the database server for the next process, in a small file in DATA_DIR. The operator
 * deletes it to accept a server that has lost data.
 */
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Seen } from './server-history.ts'

export const SEEN_FILE = 'database-seen.json'

/** undefined if the file is missing or unreadable. */
export async function readSeen(path: string): Promise<Seen | undefined> {
  try {
    const found: unknown = JSON.parse(await readFile(path, 'utf8'))
    return isSeen(found) ? found : undefined
  } catch {
    return undefined
  }
}

/** Atomic. Must not run concurrently. */
export async function writeSeen(path: string, seen: Seen): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  await writeFile(`${path}.new`, `${JSON.stringify(seen)}\n`)
  await rename(`${path}.new`, path)
}

function isSeen(value: unknown): value is Seen {
  const { systemId, timeline, lsn, hasLost } = Object(value)
  const isLog = typeof lsn === 'string' && /^[0-9A-F]{1,8}\/[0-9A-F]{1,8}$/.test(lsn)
  const isServer = typeof systemId === 'string' && Number.isSafeInteger(timeline)
  return isLog && isServer && (hasLost === undefined || hasLost === true)
}
