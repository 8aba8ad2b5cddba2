/** Temporary directories of tests. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'

/** Empty; removed at the end of `t`. */
export function tempDirectory(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'fl-')) // a path to a socket has at most 107 bytes
  t.teardown(() => rmSync(path, { recursive: true, force: true, maxRetries: 5 }))
  return path
}
