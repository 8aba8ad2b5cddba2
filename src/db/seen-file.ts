/**
 * Keeps what was seen of the database server for the next process, in a small file in DATA_DIR. The operator deletes it
 * to accept a server that has lost something.
 */
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Position } from './server-client.ts'

export const SEEN_FILE = 'database-seen.json'

/** Undefined where the file is missing or cannot be read. */
export async function readSeen(path: string): Promise<Position | undefined> {
  try {
    const found: unknown = JSON.parse(await readFile(path, 'utf8'))
    return isPosition(found) ? found : undefined
  } catch {
    return undefined
  }
}

/** Whole or not at all. */
export async function writeSeen(path: string, position: Position): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  await writeFile(`${path}.new`, `${JSON.stringify(position)}\n`)
  await rename(`${path}.new`, path)
}

function isPosition(value: unknown): value is Position {
  const { systemId, timeline, lsn } = Object(value)
  const isLog = typeof lsn === 'string' && /^[0-9A-F]{1,8}\/[0-9A-F]{1,8}$/.test(lsn)
  return isLog && typeof systemId === 'string' && Number.isSafeInteger(timeline)
}
