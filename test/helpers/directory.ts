/** Temporary directories of tests. */
import { existsSync, mkdtempSync, rmSync, statfsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'

const MEMORY = '/dev/shm'
/** The databases of a run take one gigabyte, and their logs may take two more. */
const ROOM_BYTES = 4 * 1024 ** 3

/** Empty; removed at the end of `t`. */
export function tempDirectory(t: Test): string {
  return removed(t, tmpdir())
}

/** As tempDirectory, for a PostgreSQL; programs may not run from there. */
export function databaseDirectory(t: Test): string {
  return removed(t, parentOfDatabases())
}

/**
 * In memory where there is room: a database is dropped with a checkpoint, which takes 400 ms on a disk and 30 ms in memory.
 * Where TMPDIR is set, it says where.
 */
export function parentOfDatabases(): string {
  if (process.env['TMPDIR'] !== undefined || !existsSync(MEMORY)) return tmpdir()
  const { bavail, bsize } = statfsSync(MEMORY)
  return bavail * bsize >= ROOM_BYTES ? MEMORY : tmpdir()
}

function removed(t: Test, parent: string): string {
  const path = mkdtempSync(join(parent, 'fl-')) // a path to a socket has at most 107 bytes
  t.teardown(() => rmSync(path, { recursive: true, force: true, maxRetries: 5 }))
  return path
}
